"""Made-up terms: of every kind, repeatable, speakable."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from a2p_engine.retriever.spelling import below_hundred
from a2p_engine.training import domains
from a2p_engine.training.domains import KINDS, made_up_term
from a2p_engine.training.texts import TermSet, TrainingText, words_of

DRAWS = 300


def _draw(kind: str, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [KINDS[kind](rng) for _ in range(DRAWS)]


@pytest.mark.parametrize("kind", KINDS)
def test_terms_of_a_kind_are_many_repeatable_and_speakable(kind: str) -> None:
    """The same seed says the same; a term has words in the letters that the phonemizer reads."""
    terms = _draw(kind)
    assert terms == _draw(kind)
    assert terms != _draw(kind, seed=1)
    assert len(set(terms)) >= 60
    for term in terms:
        assert term == " ".join(term.split())
        assert words_of(term)
        assert all(letter.isalpha() or letter in " '" for letter in term)


def test_every_kind_appears_about_as_often_as_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares are those of the table."""
    named = {kind: lambda _, kind=kind: kind for kind in KINDS}
    monkeypatch.setattr(domains, "KINDS", named)
    rng = np.random.default_rng(3)
    counts = Counter(made_up_term(rng) for _ in range(4_000))
    shares = [counts[kind] / 4_000 for kind in KINDS]
    np.testing.assert_allclose(shares, domains._SHARES, atol=0.03)
    assert min(shares) > 0.04


def test_kinds_look_like_what_they_are_named_for() -> None:
    """Acronyms are short capitals, identifiers several words, years two numbers below hundred."""
    assert all(t.isupper() and 2 <= len(t) <= 5 for t in _draw("acronym"))
    assert {len(t.split()) for t in _draw("identifier")} == {2, 3}
    assert {len(t.split()) for t in _draw("person")} == {1, 2}
    assert all(len(t.split()) == 1 and len(t) >= 5 for t in _draw("drug") + _draw("chemical"))
    assert any(t.split()[-1] in {"labs", "health"} for t in _draw("company"))
    assert any(t.endswith("percent") for t in _draw("number"))


@pytest.mark.parametrize(
    ("number", "words"), [(0, "zero"), (13, "thirteen"), (40, "forty"), (99, "ninety nine")]
)
def test_numbers_are_written_as_spoken(number: int, words: str) -> None:
    """Up to a hundred, from which the longer ones are made."""
    assert below_hundred(number) == words


def test_excluded_words_of_made_up_terms_are_never_spoken() -> None:
    """Every other word is forbidden, and two phrases; the rest of each kind is still heard."""
    sentences = ["nobody says anything of that sort here"]
    rng = np.random.default_rng(5)
    words = sorted({w for _ in range(2_000) for w in words_of(made_up_term(rng))})
    excluded = TermSet([*words[::2], "dim sum", "nineteen forty"])
    text = TrainingText(sentences, ["quixotic"], exclude=map(" ".join, excluded.terms), seed=2)
    lines = [text[n].text for n in range(1_500)]
    assert not any(excluded.found_in(line) for line in lines)
    heard = {word for line in lines for word in words_of(line)}
    assert len(heard.intersection(words[1::2])) > 50
    plain = TrainingText(sentences, ["quixotic"], seed=2)
    assert len({t for n in range(1_500) for t in excluded.found_in(plain[n].text)}) > 100
