"""Pronunciations: spoken forms of a term, and the memory on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from a2p_engine.retriever.pronunciation import Pronouncer, spoken_forms
from a2p_engine.types import Term


@pytest.fixture(scope="module")
def pronouncer(tmp_path_factory: pytest.TempPathFactory) -> Pronouncer:
    """One with a memory of its own."""
    return Pronouncer(tmp_path_factory.mktemp("said") / "said.sqlite")


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("HIPAA", "H.I.P.A.A"),
        ("the NASA budget", "the N.A.S.A budget"),
        ("AT&T", "A.T&T"),
        ("mRNA", "M.R.N.A"),
        ("PCRs", "P.C.R's"),
        ("NASA\u2019s", "N.A.S.A's"),
        ("NAACPLDF", "N.A.A.C.P.L.D.F"),
        ("COVID-19", "C.O.V.I.D-19"),
        ("H2O", "H.2.O"),
        ("2FA", "2F.A"),
    ],
)
def test_acronyms_are_a_word_and_letters(text: str, spelled: str) -> None:
    """HIPAA may be read as a word or spelled, whatever stands around it."""
    assert spoken_forms(Term(text=text)) == (text, spelled)


@pytest.mark.parametrize("text", ["apixaban", "McDonald", "SQLite", "GmbH", "U.S.", "HYPERTENSION"])
def test_other_words_are_not_spelled(text: str) -> None:
    """A word with small letters inside is none, nor is a long one."""
    assert spoken_forms(Term(text=text)) == (text,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("NASA", "ɛnAɛsA"),
        ("DNA", "diɛnA"),
        ("AT&T", "Ati ænd ti"),
        ("mRNA", "ɛmɑɹɛnA"),
        ("NASAs", "ɛnAɛsAz"),
        ("PCRs", "pisiɑɹz"),
        ("NAACPLDF", "ɛnAAsipiɛldiɛf"),
        ("COVID-19", "siOviIdi nIntin"),
        ("2FA", "tu ɛfA"),
    ],
)
def test_spelled_acronyms_sound_as_their_letters(
    pronouncer: Pronouncer, text: str, said: str
) -> None:
    """One after the other as in one word; "A" is the letter, not the article."""
    form = spoken_forms(Term(text=text))[-1]
    american, *_ = pronouncer.phonemes([form])[form]
    assert american.translate(dict.fromkeys(map(ord, "ˈˌ"))) == said


def test_what_a_term_sounds_like_is_a_spoken_form() -> None:
    """Entries may bring their own spellings by sound."""
    term = Term(text="Eliquis", sounds_like=("ella quiss",))
    assert spoken_forms(term) == ("Eliquis", "ella quiss")


def test_letters_with_spaces_are_spelled_too() -> None:
    """In a term or in what it sounds like; after a space, "A" would be the article alone."""
    assert spoken_forms(Term(text="N A S A")) == ("N A S A", "N.A.S.A")
    term = Term(text="Nasa", sounds_like=("the N A S A",))
    assert spoken_forms(term) == ("Nasa", "the N A S A", "the N.A.S.A")


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
