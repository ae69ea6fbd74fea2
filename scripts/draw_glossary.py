"""Draw the glossary of a retrieval test: a manifest's terms among words from a list.

Run it with: python scripts/draw_glossary.py MANIFEST WORDS --size 10025 > glossary.txt
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from a2p_engine.manifest import read_manifest
from a2p_engine.training.texts import read_lines, words_of


def draw(
    manifest: Path, words: Path, *, size: int, text: Path | None, min_letters: int, seed: int
) -> list[str]:
    """The manifest's terms, then words of the list that are not among them.

    Args:
        manifest: whose terms are searched for; with ``text``, only those in the pool.
        words: one a line.
        size: terms in all.
        text: take only words that this file contains.
        min_letters: take only words of so many characters.
        seed: of the draw.
    """
    pool = {word for word in read_lines(words) if len(word) >= min_letters}
    spoken = {term for recording in read_manifest(manifest) for term in recording.terms}
    if text is not None:
        pool &= {word for line in read_lines(text) for word in words_of(line)}
        spoken &= pool
    rest = sorted(pool - spoken)
    order = np.random.default_rng(seed).permutation(len(rest))[: size - len(spoken)]
    return [*sorted(spoken), *(rest[i] for i in order)]


def main() -> None:
    """Print the glossary."""
    parser = argparse.ArgumentParser(description="Draw the glossary of a retrieval test.")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("words", type=Path)
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--min-letters", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    print("\n".join(draw(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
