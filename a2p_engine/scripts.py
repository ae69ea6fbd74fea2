"""Which script a language is written in, to notice a text that is in another one."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from a2p_engine.text import plain

_CYRILLIC = ("CYRILLIC",)
_ARABIC = ("ARABIC",)
_DEVANAGARI = ("DEVANAGARI",)
_HAN = ("CJK",)
# First words of the Unicode names of a language's letters; Latin where nothing is said.
SCRIPTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("ba", "be", "bg", "kk", "mk", "mn", "ru", "tg", "tt", "uk"), _CYRILLIC),
    **dict.fromkeys(("ar", "fa", "ps", "sd", "ur"), _ARABIC),
    **dict.fromkeys(("hi", "mr", "ne", "sa"), _DEVANAGARI),
    **dict.fromkeys(("yue", "zh"), _HAN),
    **dict.fromkeys(("as", "bn"), ("BENGALI",)),
    **dict.fromkeys(("he", "yi"), ("HEBREW",)),
    **dict.fromkeys(("sr", "uz"), ("CYRILLIC", "LATIN")),
    "am": ("ETHIOPIC",),
    "bo": ("TIBETAN",),
    "el": ("GREEK",),
    "gu": ("GUJARATI",),
    "hy": ("ARMENIAN",),
    "ja": ("HIRAGANA", "KATAKANA", "CJK"),
    "ka": ("GEORGIAN",),
    "km": ("KHMER",),
    "kn": ("KANNADA",),
    "ko": ("HANGUL", "CJK"),
    "lo": ("LAO",),
    "ml": ("MALAYALAM",),
    "my": ("MYANMAR",),
    "pa": ("GURMUKHI", "ARABIC"),
    "si": ("SINHALA",),
    "ta": ("TAMIL",),
    "te": ("TELUGU",),
    "th": ("THAI",),
}
_LATIN = ("LATIN",)


def in_another_script(text: str, language: str, names: Iterable[str] = ()) -> bool:
    """Whether most letters of a text are not of its language's script.

    Args:
        text: in question.
        language: ISO 639-1 code.
        names: that may be written in any script.
    """
    rest = f" {plain(text)} "
    for name in map(plain, names):
        rest = rest.replace(f" {name} ", " ")
    letters = [char for char in rest if char.isalpha()]
    own = SCRIPTS.get(language, _LATIN)
    foreign = sum(not unicodedata.name(char, "").startswith(own) for char in letters)
    return 2 * foreign > len(letters)
