"""Measuring how fast, how large and how exact the term scorer is on the machine at hand.

Everything is synthetic: a random head, random token embeddings, random frames and made-up terms.
Speed, memory and rounding depend on shapes and on how tokens are shared between terms, not on what
a head was trained for.

Notation: B sessions, T frames, V distinct tokens, N terms, L tokens of a term, H heads, D model
width, d head width.
"""
