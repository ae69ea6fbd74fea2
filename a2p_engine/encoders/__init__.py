"""Encoders turn audio into frames; a new one is one file and one line in ``ENCODERS``."""

from __future__ import annotations
