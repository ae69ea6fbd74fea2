"""Scripts of languages: a text in the wrong one is noticed, names in it are not held against it."""

from __future__ import annotations

import unicodedata

import pytest
from faster_whisper.tokenizer import _LANGUAGE_CODES

from a2p_engine.scripts import SCRIPTS, in_another_script


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Good morning, Café 21"),
        ("ru", "Доброе утро"),
        ("ja", "おはようございます、東京タワー"),
        ("zh", "早上好"),
        ("ko", "안녕하세요"),
        ("hi", "सुप्रभात"),
        ("el", "Καλημέρα"),
        ("th", "สวัสดี"),
        ("ar", "صباح الخير"),
        ("sr", "Dobro jutro"),
        ("ru", "принимает apixaban и warfarin каждый день"),
        ("en", ""),
        ("ru", "21, 22!"),
    ],
)
def test_a_language_is_in_its_script(language: str, text: str) -> None:
    """Also with a few foreign words, and where there is no letter at all."""
    assert not in_another_script(text, language)


@pytest.mark.parametrize(
    ("language", "text"),
    [("en", "早上好"), ("ru", "Good morning"), ("ja", "Good morning"), ("es", "Доброе утро"),
     ("hi", "Good morning"), ("zh", "おはようございます")],
)  # fmt: skip
def test_another_script_is_noticed(language: str, text: str) -> None:
    """What a model writes that has gone over to another language."""
    assert in_another_script(text, language)


def test_names_may_be_in_any_script() -> None:
    """What remains without them decides."""
    assert in_another_script("Levetiracetam и", "ru")
    assert not in_another_script("Levetiracetam и", "ru", ["levetiracetam"])


def test_every_script_exists_and_every_language_is_one_of_whispers() -> None:
    """A misspelt name would make every text of its language look foreign."""
    names = {unicodedata.name(chr(code), "").split(" ")[0] for code in range(0x20, 0x1100 * 16)}
    assert {script for scripts in SCRIPTS.values() for script in scripts} <= names
    assert set(SCRIPTS) <= set(_LANGUAGE_CODES)
