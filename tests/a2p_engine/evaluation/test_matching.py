"""Baselines that look for terms in a first transcript."""

from __future__ import annotations

from pathlib import Path

import pytest

from a2p_engine.evaluation.matching import Matcher, by_sound, by_spelling
from a2p_engine.retriever.pronunciation import Pronouncer

TERMS = ["poundmaker", "apixaban", "light roast", "Fain's", "voussoir", "knight"]


def test_terms_are_found_in_what_is_spelled_alike() -> None:
    """Also where they were broken into words, and the best comes first."""
    matcher = Matcher(TERMS, by_spelling)
    found = matcher.ranked("Please call pound maker about a pixaban and lite roast.", 10)
    assert [term for _, term in found] == ["poundmaker", "apixaban", "light roast"]
    assert found[0][0] == 100.0
    assert [likeness for likeness, _ in found] == sorted((x for x, _ in found), reverse=True)


def test_only_as_many_as_asked_for() -> None:
    """The best ones."""
    assert len(Matcher(TERMS, by_spelling).ranked("poundmaker apixaban voussoir", 2)) == 2


def test_nothing_written_finds_nothing() -> None:
    """An empty transcript has no runs of words."""
    assert Matcher(TERMS, by_spelling).ranked("", 10) == []
    assert Matcher([], by_spelling).ranked("anything", 10) == []


@pytest.fixture(scope="module")
def pronouncer(tmp_path_factory: pytest.TempPathFactory) -> Pronouncer:
    """One with a memory of its own."""
    cache: Path = tmp_path_factory.mktemp("cache") / "readings.sqlite"
    return Pronouncer(cache)


def test_terms_are_found_in_what_sounds_alike(pronouncer: Pronouncer) -> None:
    """Spelling plays no part: "night" is "knight", and "vooswar" nearly "voussoir"."""
    by_ear = Matcher(TERMS, by_sound(pronouncer))
    assert by_ear.ranked("night", 1) == [(100.0, "knight")]
    assert by_ear.ranked("feigns", 1)[0][1] == "Fain's"
    assert Matcher(TERMS, by_spelling).ranked("feigns", 1) == []
