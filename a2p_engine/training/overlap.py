"""Whether what an evaluation asks for was ever spoken in training, and what to exclude from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from a2p_engine.manifest import read_manifest
from a2p_engine.training.shards import read_shards
from a2p_engine.training.terms import SPOKEN_WORDS, read_spoken_words
from a2p_engine.training.texts import TermSet, read_lines, words_of
from a2p_engine.training.voiced_lists import read_lists


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """What a source of training speech shares with an evaluation.

    Attributes:
        source: directory of shards or of trained heads.
        texts: number of utterances read; 0 when only the words of training are known.
        spoken: term -> number of utterances that say it (1 when only the words are known).
        undecided: phrases all of whose words were spoken, where only the words are known.
    """

    source: Path
    texts: int
    spoken: dict[str, int]
    undecided: tuple[str, ...] = ()


def terms_of_evaluation(
    *,
    lists: Iterable[Path] = (),
    manifests: Iterable[Path] = (),
    files: Iterable[Path] = (),
    common: Collection[str] = (),
) -> list[str]:
    """What must not be spoken in training for the terms of an evaluation to be unseen.

    Args:
        lists: biasing lists, whose reference rare words count.
        manifests: recordings, whose terms count.
        files: terms, one a line.
        common: words that may be spoken although they are part of a phrase.

    Returns:
        Each term as a sequence of words, and each word of a phrase that is not common; sorted.

    Raises:
        TrainingError: a list or a file cannot be read.
        InputError: a manifest cannot be read.
    """
    terms = [
        *(word for path in lists for line in read_lists(path) for word in line.rare),
        *(term for path in manifests for entry in read_manifest(path) for term in entry.terms),
        *(term for path in files for term in read_lines(path)),
    ]
    whole = TermSet(terms).terms
    parts = {word for term in whole if len(term) > 1 for word in term} - set(common)
    return sorted({*map(" ".join, whole), *parts})


def overlap_with_shards(terms: Sequence[str], directory: Path) -> Overlap:
    """Look for terms in everything that the shards of a directory say.

    Raises:
        TrainingError: there is no complete shard.
    """
    wanted, counts, texts = TermSet(terms), Counter[str](), 0
    for _, utterances in read_shards(directory):
        texts += len(utterances)
        for utterance in utterances:
            counts.update(map(" ".join, wanted.found_in(utterance.text)))
    return Overlap(source=directory, texts=texts, spoken=dict(sorted(counts.items())))


def overlap_with_weights(terms: Sequence[str], directory: Path) -> Overlap:
    """Look for terms among the words that trained heads have heard.

    Raises:
        ModelError: the directory lacks the file of these words.
    """
    heard = read_spoken_words(directory / SPOKEN_WORDS)
    known = [term for term in terms if heard.issuperset(words_of(term))]
    return Overlap(
        source=directory,
        texts=0,
        spoken={term: 1 for term in known if len(words_of(term)) == 1},
        undecided=tuple(term for term in known if len(words_of(term)) > 1),
    )
