"""Glossary terms in columns: a million take a hundred megabytes and load without being parsed."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from a2p_engine.types import Term

# Spoken forms of a term are kept in one string; no term contains control characters.
_BETWEEN_FORMS = "\x1f"


@dataclass(frozen=True)
class Strings:
    """A column of strings.

    Attributes:
        data: uint8, the strings in UTF-8 one after the other.
        offsets: int64 [N + 1] into ``data``.
    """

    data: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Strings:
        """Put strings into a column."""
        encoded = [text.encode() for text in texts]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return cls(np.frombuffer(b"".join(encoded), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, place: int) -> str:
        return self.data[self.offsets[place] : self.offsets[place + 1]].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        whole, edges = self.data.tobytes(), self.offsets.tolist()
        for begin, end in pairwise(edges):
            yield whole[begin:end].decode()


@dataclass(frozen=True, kw_only=True)
class TermTable:
    """N terms; immutable.

    Attributes:
        texts: spelling of each term.
        forms: its ``sounds_like``, joined.
        targets: its translation, empty where it has none.
        weights: float32 [N].
        enabled: bool [N].
        hashes: uint32 [N], CRC-32 of the texts in ascending order.
        hashed: int32 [N], the place of each hash's text.
    """

    texts: Strings
    forms: Strings
    targets: Strings
    weights: npt.NDArray[np.float32]
    enabled: npt.NDArray[np.bool_]
    hashes: npt.NDArray[np.uint32]
    hashed: npt.NDArray[np.int32]

    @classmethod
    def of(cls, terms: Sequence[Term]) -> TermTable:
        """Put terms into columns."""
        hashes = np.array([zlib.crc32(term.text.encode()) for term in terms], np.uint32)
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        return cls(
            texts=Strings.of(term.text for term in terms),
            forms=Strings.of(_BETWEEN_FORMS.join(term.sounds_like) for term in terms),
            targets=Strings.of(term.target or "" for term in terms),
            weights=np.array([term.weight for term in terms], np.float32),
            enabled=np.array([term.enabled for term in terms], np.bool_),
            hashes=hashes[order],
            hashed=order,
        )

    @cached_property
    def log_weights(self) -> npt.NDArray[np.float32]:
        """[N]."""
        return np.log(self.weights)

    @property
    def nbytes(self) -> int:
        """Bytes of all columns."""
        strings = (self.texts, self.forms, self.targets)
        columns = (self.weights, self.enabled, self.hashes, self.hashed)
        return sum(s.data.nbytes + s.offsets.nbytes for s in strings) + sum(
            column.nbytes for column in columns
        )

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, place: int) -> Term:
        forms = self.forms[place]
        return Term(
            text=self.texts[place],
            sounds_like=tuple(forms.split(_BETWEEN_FORMS)) if forms else (),
            target=self.targets[place] or None,
            weight=float(self.weights[place]),
            enabled=bool(self.enabled[place]),
        )

    def find(self, text: str) -> int | None:
        """Place of the term with this text."""
        key = np.uint32(zlib.crc32(text.encode()))
        first = int(np.searchsorted(self.hashes, key))
        while first < len(self.hashes) and self.hashes[first] == key:
            place = int(self.hashed[first])
            if self.texts[place] == text:
                return place
            first += 1
        return None

    def find_all(self, texts: Sequence[str]) -> list[int]:
        """Places of the terms with any of these texts."""
        keys = np.fromiter((zlib.crc32(text.encode()) for text in texts), np.uint32, len(texts))
        first, last = (np.searchsorted(self.hashes, keys, side) for side in ("left", "right"))
        found = (self.find(texts[hit]) for hit in np.flatnonzero(first < last).tolist())
        return [place for place in found if place is not None]
