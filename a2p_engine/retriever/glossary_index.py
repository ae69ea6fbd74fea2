"""A glossary ready for scoring, in versions that share what they have in common.

Terms that came in together are a section, which never changes. A version of a glossary is a list of
sections and, for each, a bias per spelling that switches single terms off. An edit makes a new
version: the added terms become a new section, removed ones are switched off in a copy of a bias.
Sessions that still score the old version are not disturbed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from a2p_engine.ops import term_score
from a2p_engine.retriever.spotter import PhoneIndex
from a2p_engine.retriever.term_table import TermTable
from a2p_engine.retriever.token_table import TokenTable
from a2p_engine.types import Term

IntArray = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False, kw_only=True)
class Section:
    """N terms that entered a glossary together, with F spellings; immutable.

    Attributes:
        terms: the terms.
        token_ids: int32 [R] tokens of all spellings, in the speech LLM's vocabulary.
        rows: the same as rows of the token table, on its device.
        offsets: int32 [F + 1] into ``rows``, on its device.
        spellings: int32 [N + 1], term n owns spellings ``spellings[n]`` to ``spellings[n + 1]``;
            None where every term has one.
        phones: pronunciations of the terms.
    """

    terms: TermTable
    token_ids: IntArray
    rows: Tensor
    offsets: Tensor
    spellings: IntArray | None
    phones: PhoneIndex

    @classmethod
    def of(
        cls,
        terms: TermTable,
        tokens: Sequence[Sequence[Sequence[int]]],
        phones: PhoneIndex,
        table: TokenTable,
    ) -> Section:
        """Index terms.

        Args:
            terms: N terms.
            tokens: per term the token ids of each of its spellings, at least one of each.
            phones: pronunciations of the terms.
            table: takes the tokens that are new to it.
        """
        spellings = [ids for forms in tokens for ids in forms]
        counts = np.array([len(forms) for forms in tokens], np.int32)
        return cls.packed(
            terms,
            np.fromiter((token for ids in spellings for token in ids), np.int32),
            _ends(np.array([len(ids) for ids in spellings], np.int32)),
            None if (counts == 1).all() else _ends(counts),
            phones,
            table,
        )

    @classmethod
    def packed(
        cls,
        terms: TermTable,
        token_ids: IntArray,
        offsets: IntArray,
        spellings: IntArray | None,
        phones: PhoneIndex,
        table: TokenTable,
    ) -> Section:
        """Index terms that are in columns already."""
        return cls(
            terms=terms,
            token_ids=token_ids,
            rows=torch.from_numpy(table.rows(token_ids)).to(table.device),
            offsets=torch.from_numpy(offsets).to(table.device),
            spellings=spellings,
            phones=phones,
        )

    def __len__(self) -> int:
        return len(self.terms)

    @cached_property
    def silent(self) -> BoolArray:
        """[N]: whether a term has no pronunciation, so that it is never heard."""
        silent = np.ones(len(self), np.bool_)
        silent[self.phones.term_of] = False
        return silent

    def bias(self) -> Tensor:
        """[F]: the log weight of each spelling's term, -inf where the term is disabled."""
        bias = np.where(self.terms.enabled, self.terms.log_weights, -np.inf).astype(np.float32)
        if self.spellings is not None:
            bias = bias.repeat(np.diff(self.spellings))
        return torch.from_numpy(bias).to(self.rows.device)

    def spellings_of(self, places: IntArray) -> Tensor:
        """Numbers of all spellings of some terms."""
        if self.spellings is None:
            return torch.from_numpy(places).long().to(self.rows.device)
        ranges = [np.arange(self.spellings[n], self.spellings[n + 1]) for n in places]
        return torch.from_numpy(np.concatenate(ranges)).long().to(self.rows.device)

    def best_spelling(self, scores: Tensor) -> Tensor:
        """[B, F] scores of spellings to [B, N] scores of terms."""
        if self.spellings is None:
            return scores
        lengths = torch.from_numpy(np.diff(self.spellings)).long().to(scores.device)
        return torch.segment_reduce(
            scores.T.contiguous(), "max", lengths=lengths, axis=0, unsafe=True
        ).T.contiguous()


@dataclass(frozen=True, eq=False)
class _Part:
    """A section as one version sees it: which terms are still in it, and the bias they get."""

    section: Section
    present: BoolArray  # [N]
    bias: Tensor  # [F]

    def terms(self) -> Iterator[Term]:
        """Those still present."""
        for place in np.flatnonzero(self.present).tolist():
            yield self.section.terms[place]


class GlossaryIndex:
    """One version of a glossary; immutable, shared by every session that uses it.

    A term's number is its place among the terms of all sections, removed ones included; it is
    meaningful for this version only.
    """

    def __init__(self, parts: Sequence[_Part]) -> None:
        """See ``of`` and ``edit``."""
        self._parts = tuple(parts)
        self._first = (0, *accumulate(len(part.section) for part in parts))

    @classmethod
    def of(cls, section: Section) -> GlossaryIndex:
        """The first version of a glossary."""
        return cls([_Part(section, np.ones(len(section), np.bool_), section.bias())])

    @cached_property
    def size(self) -> int:
        """Terms in force, disabled ones included."""
        return sum(int(part.present.sum()) for part in self._parts)

    @property
    def numbers(self) -> int:
        """Term numbers in use, those of removed terms included."""
        return self._first[-1]

    @property
    def sections(self) -> list[tuple[int, Section]]:
        """(number of its first term, section)."""
        return [
            (first, part.section) for first, part in zip(self._first, self._parts, strict=False)
        ]

    @cached_property
    def log_weights(self) -> npt.NDArray[np.float32]:
        """[numbers], -inf where a term was removed or is disabled."""
        return np.concatenate(
            [
                np.where(
                    part.present & part.section.terms.enabled,
                    part.section.terms.log_weights,
                    np.float32(-np.inf),
                )
                for part in self._parts
            ]
        )

    @property
    def nbytes(self) -> dict[str, int]:
        """Bytes held, by what holds them; sections may be shared with other versions."""
        sections = [part.section for part in self._parts]
        return {
            "terms": sum(section.terms.nbytes for section in sections),
            "tokens": sum(s.rows.nbytes + s.offsets.nbytes + s.token_ids.nbytes for s in sections),
            "version": sum(part.present.nbytes + part.bias.nbytes for part in self._parts),
            "pronunciations": sum(section.phones.nbytes for section in sections),
        }

    def __getitem__(self, number: int) -> Term:
        place = bisect_right(self._first, number) - 1
        return self._parts[place].section.terms[number - self._first[place]]

    def __iter__(self) -> Iterator[Term]:
        for part in self._parts:
            yield from part.terms()

    def texts(self, numbers: IntArray) -> list[str]:
        """Spellings of some terms."""
        place = np.searchsorted(self._first, numbers, "right") - 1
        local = numbers - np.array(self._first)[place]
        pairs = zip(place.tolist(), local.tolist(), strict=True)
        return [self._parts[part].section.terms.texts[number] for part, number in pairs]

    def find(self, text: str) -> int | None:
        """Number of the term with this text."""
        for first, part in zip(self._first, self._parts, strict=False):
            place = part.section.terms.find(text)
            if place is not None and part.present[place]:
                return first + place
        return None

    def find_all(self, texts: Sequence[str]) -> IntArray:
        """Numbers of the terms with any of these texts, ascending."""
        found = [
            first + place
            for first, part in zip(self._first, self._parts, strict=False)
            for place in part.section.terms.find_all(texts)
            if part.present[place]
        ]
        return np.array(sorted(found), np.int32)

    def audible(self) -> tuple[GlossaryIndex, tuple[str, ...]]:
        """The version without terms that have no pronunciation, and their texts."""
        silent = tuple(
            part.section.terms.texts[place]
            for part in self._parts
            for place in np.flatnonzero(part.present & part.section.silent).tolist()
        )
        return self.edit(remove=silent) if silent else self, silent

    def pronunciations(self, number: int) -> PhoneIndex:
        """The ways to say one term."""
        place = bisect_right(self._first, number) - 1
        phones, local = self._parts[place].section.phones, number - self._first[place]
        first, last = np.searchsorted(phones.term_of, (local, local + 1))
        return phones.subset(np.arange(first, last, dtype=np.int32))

    def edit(self, *, add: Section | None = None, remove: Iterable[str] = ()) -> GlossaryIndex:
        """The next version; a term added under the text of an old one replaces it.

        Texts to be removed that are in no section are passed over.
        """
        gone = set(remove)
        if add is not None:
            gone.update(add.terms.texts)
        parts = [_without(part, gone) for part in self._parts]
        if add is not None:
            parts.append(_Part(add, np.ones(len(add), np.bool_), add.bias()))
        return GlossaryIndex([part for part in parts if part.present.any()] or parts[:1])

    def tail(self) -> tuple[GlossaryIndex, list[Term]] | None:
        """The version without its last two sections, and their terms, if they are to be joined.

        They are when the last has more than half the terms of the one before; the first section,
        usually all of the glossary, is left alone.
        """
        if len(self._parts) < 3:
            return None
        sizes = [int(part.present.sum()) for part in self._parts[-2:]]
        if sizes[0] >= 2 * sizes[1]:
            return None
        terms = [term for part in self._parts[-2:] for term in part.terms()]
        return GlossaryIndex(self._parts[:-2]), terms

    def scores(self, gain: Tensor, out: Tensor | None = None) -> Tensor:
        """Token gains to terms: [B, V] to [B, numbers].

        A term's score is its best spelling's mean gain plus the term's log weight, -inf where the
        term was removed or is disabled.

        Args:
            gain: [B, V] by row of the token table.
            out: [B, numbers] to write to; None makes one.
        """
        if out is None:
            out = gain.new_empty(len(gain), self.numbers)
        for first, part in zip(self._first, self._parts, strict=False):
            section = part.section
            target = out[:, first : first + len(section)]
            if section.spellings is None:
                term_score.pool(gain, section.rows, section.offsets, part.bias, target)
            else:
                spellings = gain.new_empty(len(gain), len(part.bias))
                term_score.pool(gain, section.rows, section.offsets, part.bias, spellings)
                target.copy_(section.best_spelling(spellings))
        return out


def _without(part: _Part, texts: set[str]) -> _Part:
    places = (part.section.terms.find(text) for text in texts)
    found = np.array([p for p in places if p is not None and part.present[p]], np.int32)
    if not len(found):
        return part
    present, bias = part.present.copy(), part.bias.clone()
    present[found] = False
    bias[part.section.spellings_of(found)] = -torch.inf
    return _Part(part.section, present, bias)


def _ends(lengths: IntArray) -> IntArray:
    return np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
