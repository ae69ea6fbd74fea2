"""Pronunciations: spoken forms of a term, and the memory on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from a2p_engine.retriever.pronunciation import Pronouncer, spoken_forms
from a2p_engine.types import Term


def test_acronyms_are_a_word_and_letters() -> None:
    """HIPAA may be read as a word or spelled; a normal word may not."""
    assert spoken_forms(Term(text="HIPAA")) == ("HIPAA", "H I P A A")
    assert spoken_forms(Term(text="apixaban")) == ("apixaban",)


def test_what_a_term_sounds_like_is_a_spoken_form() -> None:
    """Entries may bring their own spellings by sound."""
    term = Term(text="Eliquis", sounds_like=("ella quiss",))
    assert spoken_forms(term) == ("Eliquis", "ella quiss")


def test_memory_survives_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one pronouncer worked out, the next one knows without the phonemizer."""
    cache = tmp_path / "said.sqlite"
    first = Pronouncer(cache).phonemes(["apixaban", "warfarin"])
    assert all(first.values())
    second = Pronouncer(cache)
    monkeypatch.setattr(second, "_pronounce", lambda text: pytest.fail(f"asked again for {text}"))
    assert second.phonemes(["warfarin", "apixaban"]) == first


def test_what_somebody_said_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither on disk nor in memory; what is known of terms is used all the same."""
    pronouncer = Pronouncer(tmp_path / "said.sqlite")
    known = pronouncer.phonemes(["warfarin"])
    assert pronouncer.phonemes(["a private matter", "warfarin"], keep=False).keys() > known.keys()
    for memory in (pronouncer, Pronouncer(tmp_path / "said.sqlite")):
        monkeypatch.setattr(memory, "_pronounce", lambda text: ())
        assert memory.phonemes(["a private matter", "warfarin"]) == {"a private matter": ()} | known


def test_an_unwritable_cache_is_no_obstacle(tmp_path: Path) -> None:
    """Pronunciations then live as long as the process."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert Pronouncer(blocked / "said.sqlite").phonemes(["warfarin"])["warfarin"]


def test_symbols_that_cannot_be_said_are_empty(tmp_path: Path) -> None:
    """A term the phonemizer cannot read is no error."""
    assert Pronouncer(tmp_path / "said.sqlite").phonemes(["***"])["***"] == ()


def test_two_readings_where_accents_differ(tmp_path: Path) -> None:
    """American and British readings are both kept, the same one only once."""
    said = Pronouncer(tmp_path / "said.sqlite").phonemes(["tomato", "bit"])
    assert len(said["tomato"]) == 2
    assert len(said["bit"]) == 1
