"""How terms sound: American and British readings from hibari's phonemizer, remembered on disk.

An unknown word costs about a millisecond, so a long glossary takes seconds the first time; what was
worked out once is kept in one SQLite file in the user's cache and costs microseconds afterwards.
"""

from __future__ import annotations

import json
import logging
import re
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import platformdirs
from hibari import __version__ as hibari_version
from hibari.g2p import G2P

from a2p_engine.types import Term

log = logging.getLogger(__name__)

Accent = Literal["us", "gb"]

# A word of capitals, digits among them, as in "HIPAA", "mRNA" and "PCRs". Digits may stand before.
_ACRONYM = re.compile(r"(?<![^\W\d])([a-z]?[A-Z][A-Z0-9]{1,7})(['\u2019]?s)?(?!\w)")
_SPACED = re.compile(r"\b[A-Z](?: [A-Z])+\b")  # "N A S A", as people write what is spelled
_SCHEMA = "create table if not exists readings (text text primary key, phonemes text)"


class Pronouncer:
    """Text to phoneme strings (the phonemizer's own alphabet, stress marks included).

    Two dictionaries and two readers of unknown words are two opinions; where they differ, speakers
    usually do too.
    """

    def __init__(
        self, cache: Path | None = None, accents: tuple[Accent, ...] = ("us", "gb")
    ) -> None:
        """Open the memory.

        Args:
            accents: whose readings are wanted.
            cache: the SQLite file; None takes the user's cache directory. When it cannot be
                written, pronunciations are remembered for the life of the process only.
        """
        self._lock = threading.Lock()
        self._readers: tuple[G2P, ...] = ()
        self._memory: dict[str, tuple[str, ...]] = {}
        self._accents = accents
        self._database = self._open(cache or default_cache(accents))

    def phonemes(self, texts: Iterable[str], *, keep: bool = True) -> dict[str, tuple[str, ...]]:
        """Different readings of each text; none where the phonemizer can say nothing.

        Args:
            texts: what is to be read.
            keep: whether it is remembered; what somebody said must not be.
        """
        wanted = list(dict.fromkeys(texts))
        with self._lock:
            self._recall([text for text in wanted if text not in self._memory])
            fresh = {t: self._pronounce(t) for t in wanted if t not in self._memory}
            if keep:
                self._remember(fresh)
            return {text: fresh[text] if text in fresh else self._memory[text] for text in wanted}

    def _pronounce(self, text: str) -> tuple[str, ...]:
        if not self._readers:
            self._readers = tuple(G2P(british=accent == "gb") for accent in self._accents)
        try:
            said = [str(reader(text)) for reader in self._readers]
        except Exception:  # whatever one odd string does to the phonemizer, the glossary goes on
            log.warning("the phonemizer failed on a term of %d characters", len(text))
            return ()
        return tuple(dict.fromkeys(reading for reading in said if reading))

    def _open(self, path: Path) -> sqlite3.Connection | None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(path, check_same_thread=False, timeout=5.0)
            database.execute("pragma journal_mode = wal")
            database.execute(_SCHEMA)
            database.commit()
        except (OSError, sqlite3.Error) as error:
            log.warning("pronunciations are not kept between runs: %s: %s", path, error)
            return None
        return database

    def _recall(self, texts: Sequence[str]) -> None:
        if self._database is None:
            return
        for start in range(0, len(texts), 500):  # SQLite bounds the number of parameters
            part = texts[start : start + 500]
            marks = ",".join("?" * len(part))
            rows = self._database.execute(
                f"select text, phonemes from readings where text in ({marks})", part
            )
            self._memory |= {text: tuple(json.loads(said)) for text, said in rows}

    def _remember(self, fresh: dict[str, tuple[str, ...]]) -> None:
        self._memory.update(fresh)
        if self._database is None or not fresh:
            return
        try:
            with self._database:
                rows = [(text, json.dumps(said)) for text, said in fresh.items()]
                self._database.executemany("insert or replace into readings values (?, ?)", rows)
        except sqlite3.Error as error:
            log.warning("pronunciations are not kept between runs: %s", error)
            self._database = None


def default_cache(accents: tuple[Accent, ...]) -> Path:
    """Where pronunciations are kept; a new phonemizer starts a new file."""
    folder = platformdirs.user_cache_path("a2p-live")
    return folder / f"pronunciations-{'-'.join(accents)}-{hibari_version}.sqlite"


def spoken_forms(term: Term) -> tuple[str, ...]:
    """Spellings whose pronunciations all stand for the term.

    The term itself, what its entry says it sounds like, and acronyms both as a word and letter by
    letter.
    """
    given = [term.text, *term.sounds_like]
    forms = [*given, _ACRONYM.sub(_spelled, term.text)]
    forms += [_SPACED.sub(lambda spaced: spaced[0].replace(" ", "."), form) for form in given]
    return tuple(dict.fromkeys(forms))


def _spelled(acronym: re.Match[str]) -> str:
    """With points between the letters: after a space, the phonemizer takes "A" for the article."""
    letters, plural = acronym.groups()
    return ".".join(letters.upper()) + ("'s" if plural else "")
