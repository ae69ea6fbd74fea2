"""Measuring retrieval and what it does to the text."""
