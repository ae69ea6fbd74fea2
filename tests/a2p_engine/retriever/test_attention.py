"""Shapes the head refuses; its numbers are compared in test_glossary_index.py."""

from __future__ import annotations

import pytest

from a2p_engine.retriever.attention import AttentionConfig


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    """The error names both numbers."""
    with pytest.raises(ValueError, match="width 10 is not a multiple of heads 3"):
        AttentionConfig(width=10, heads=3)


def test_concatenation_needs_the_layer_after_it() -> None:
    """Without it the width would double."""
    with pytest.raises(ValueError, match="needs fc=True"):
        AttentionConfig(width=12, heads=3, merge="fc", fc=False)
