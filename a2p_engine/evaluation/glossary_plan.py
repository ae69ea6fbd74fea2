"""The glossaries that an evaluation searches for: from a file, or drawn in several sizes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from a2p_engine import glossary as glossaries
from a2p_engine.errors import InputError
from a2p_engine.evaluation.distractors import (
    Distractors,
    glossary,
    said_phrases,
    said_words,
    spoken_terms,
)
from a2p_engine.manifest import Recording
from a2p_engine.retriever.glossary_index import GlossaryIndex
from a2p_engine.retriever.retriever import Retriever
from a2p_engine.text import plain
from a2p_engine.training.texts import read_lines
from a2p_engine.types import Term


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Terms to search for.

    Attributes:
        size: how many, by name; lists of each recording's own have its terms besides.
        terms: the terms that all recordings share.
        own: whether each recording's terms are added for it alone, as in the biasing lists of
            LibriSpeech (Le et al. 2021); otherwise the shared terms hold those of all recordings.
    """

    size: int
    terms: tuple[Term, ...]
    own: bool = False

    def own_terms(self, recording: Recording) -> list[Term]:
        """What is added for one recording."""
        return [Term(text=text) for text in dict.fromkeys(recording.terms)] if self.own else []


@dataclass(frozen=True, kw_only=True)
class GlossaryOptions:
    """Which glossaries to make.

    Attributes:
        file: a glossary; the others are ignored then.
        words: list of words to draw from.
        sizes: terms of each glossary.
        own_lists: see ``Listing.own``; a size is then the number of distractors.
        seed: of the draw.
    """

    file: Path | None = None
    words: Path | None = None
    sizes: Sequence[int] = (10_000,)
    own_lists: bool = False
    seed: int = 0

    def listings(self, recordings: Sequence[Recording]) -> list[Listing]:
        """Read or draw them.

        Raises:
            InputError: there is neither file nor word list, or a size cannot be had.
        """
        if self.file is not None:
            terms = glossaries.load(self.file).terms
            if not terms:
                raise InputError(f"the glossary {self.file} has no terms")
            return [Listing(size=len(terms), terms=tuple(terms))]
        distractors = self.distractors(recordings)
        spoken = [] if self.own_lists else spoken_terms(recordings)
        return [
            Listing(
                size=size,
                terms=tuple(Term(text=text) for text in glossary(spoken, distractors, size)),
                own=self.own_lists,
            )
            for size in sorted(set(self.sizes))
        ]

    def distractors(self, recordings: Sequence[Recording]) -> Distractors:
        """Words that none of the recordings says.

        Raises:
            InputError: there is no word list, or nothing is left of it.
        """
        if self.words is None:
            raise InputError("give a glossary, or a list of words to draw distractors from")
        said, phrases = said_words(recordings), said_phrases(recordings)
        return Distractors(read_lines(self.words), said, self.seed, phrases)


@dataclass(kw_only=True)
class SizedGlossary:
    """A listing made ready for the retriever."""

    listing: Listing
    shared: GlossaryIndex
    _places: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, listing: Listing, retriever: Retriever, recordings: Sequence[Recording]
    ) -> SizedGlossary:
        """Index a listing; the recordings' terms are found whatever their case."""
        wanted = {plain(term) for recording in recordings for term in recording.terms}
        return cls(
            listing=listing,
            shared=retriever.index(listing.terms),
            _places=_places(listing.terms, wanted),
        )

    @property
    def size(self) -> int:
        """Number of terms, by name."""
        return self.listing.size

    def index_for(self, recording: Recording, retriever: Retriever) -> GlossaryIndex:
        """The index to search this recording with."""
        own = self.listing.own_terms(recording)
        return retriever.edit(self.shared, add=own) if own else self.shared

    def place(self, name: str, index: GlossaryIndex) -> int | None:
        """Number of a term in an index made here, by its plain text."""
        if not self.listing.own:
            return self._places.get(name)
        added = range(len(self.listing.terms), index.numbers)
        return next((number for number in added if plain(index[number].text) == name), None)


def _places(terms: Sequence[Term], wanted: Collection[str]) -> dict[str, int]:
    return {
        name: number for number, term in enumerate(terms) if (name := plain(term.text)) in wanted
    }


def without_spoken(listing: Listing, recordings: Sequence[Recording]) -> Listing:
    """The same list for people who speak of something else: no term of it is said."""
    said = said_words(recordings) | said_phrases(recordings)
    kept = tuple(term for term in listing.terms if plain(term.text) not in said)
    return replace(listing, terms=kept, own=False)
