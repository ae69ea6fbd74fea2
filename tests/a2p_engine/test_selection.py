"""Selection: threshold, number, rivals, spellings, and what stays offered from tick to tick."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2p_engine.retriever.evidence import Evidence
from a2p_engine.selection import (
    HOLD_ODDS,
    SURE,
    TIME_TO_LIVE_FRAMES,
    Candidate,
    Offering,
    candidates,
    odds,
)
from a2p_engine.types import Term


def _found(*rows: tuple[str, float, int, int]) -> list[Candidate]:
    made = [
        Candidate(
            term=Term(text=text),
            number=number,
            probability=probability,
            cost=1.0,
            start=start,
            end=end,
        )
        for number, (text, probability, start, end) in enumerate(rows)
    ]
    return sorted(made, key=lambda candidate: -candidate.probability)


def _texts(offered: list[Candidate]) -> list[str]:
    return [candidate.term.text for candidate in offered]


def _choose(
    offering: Offering,
    *rows: tuple[str, float, int, int],
    top_k: int = 10,
    threshold: float = 0.5,
    committed: int = 0,
    final: bool = False,
) -> list[str]:
    found = _found(*rows)
    return _texts(
        offering.choose(found, top_k=top_k, threshold=threshold, committed=committed, final=final)
    )


def _evidence(*rows: tuple[float, int, int]) -> Evidence:
    probability, start, end = zip(*rows, strict=True) if rows else ((), (), ())
    return Evidence(
        np.arange(len(rows), dtype=np.int32),
        np.array(probability, np.float32),
        np.zeros(len(rows), np.float32),
        np.array(start, np.int32),
        np.array(end, np.int32),
    )


TERMS = [Term(text=text) for text in "abcd"]


def test_the_most_probable_above_the_threshold() -> None:
    """Order by probability, none below the threshold, no more than asked for."""
    evidence = _evidence((0.2, 0, 10), (0.9, 20, 30), (0.7, 40, 50), (0.8, 60, 70))
    found = candidates(evidence, TERMS)

    def chosen(top_k: int, threshold: float) -> list[str]:
        return _texts(Offering().choose(found, top_k=top_k, threshold=threshold, final=True))

    assert chosen(10, 0.5) == ["b", "d", "c"]
    assert chosen(2, 0.5) == ["b", "d"]
    assert chosen(0, 0.5) == []
    assert len(chosen(10, 0.0)) == 4


def test_what_is_switched_off_or_absent_is_no_candidate() -> None:
    """Such terms have probability zero, which no threshold is low enough for."""
    evidence = _evidence((0.0, 0, 10), (0.1, 20, 30))
    assert _texts(candidates(evidence, TERMS)) == ["b"]
    assert candidates(_evidence(), []) == []


def test_of_two_terms_on_the_same_audio_the_better_one_stays() -> None:
    """A sound-alike of a much better match is not offered; a part of a longer term is."""
    rows = ("retina", 0.9, 10, 30), ("retain", 0.6, 12, 30), ("ret", 0.7, 10, 18)
    assert _choose(Offering(), *rows) == ["retina", "ret"]


def test_homophones_are_both_offered() -> None:
    """Equally probable terms on the same audio are for the speech LLM to tell apart."""
    assert _choose(Offering(), ("Smith", 0.9, 10, 30), ("Smyth", 0.88, 10, 30)) == [
        "Smith",
        "Smyth",
    ]


@pytest.mark.parametrize("other", ["e-mail", "Email", "E MAIL", "é-mail"])
def test_spellings_of_one_term_are_offered_once(other: str) -> None:
    """Where the same audio is meant, the more probable one stands for both."""
    assert _choose(Offering(), ("email", 0.8, 10, 30), (other, 0.9, 12, 30)) == [other]
    assert len(_choose(Offering(), ("email", 0.8, 10, 30), (other, 0.9, 90, 99))) == 2


def test_an_offered_term_stays_until_it_is_clearly_less_probable() -> None:
    """Newcomers must reach the threshold; who is in leaves at a third of its odds."""
    offering = Offering()
    assert _choose(offering, ("a", 0.45, 0, 9)) == []
    assert _choose(offering, ("a", 0.55, 0, 9)) == ["a"]
    assert _choose(offering, ("a", 0.27, 0, 9), ("b", 0.45, 20, 30)) == ["a"]
    assert _choose(offering, ("a", 0.23, 0, 9)) == []
    assert _choose(offering, ("a", 0.45, 0, 9)) == []


def test_an_offered_term_gives_way_to_clearly_better_ones_only() -> None:
    """Neither a full prompt nor a rival on the same audio makes it flicker."""
    offering = Offering()
    assert _choose(offering, ("a", 0.6, 0, 9), top_k=1) == ["a"]
    assert _choose(offering, ("a", 0.6, 0, 9), ("b", 0.7, 20, 30), top_k=1) == ["a"]
    assert _choose(offering, ("a", 0.6, 0, 9), ("b", 0.87, 0, 9), top_k=2) == ["b", "a"]
    assert _choose(offering, ("a", 0.6, 0, 9), ("b", 0.95, 0, 9), top_k=2) == ["b"]


def test_a_newcomer_that_is_not_sure_is_offered_at_its_second_tick() -> None:
    """One tick's guess passes by; two in a row count, and so does being sure, or the end."""
    offering = Offering()
    assert _choose(offering, ("a", 0.2, 0, 9), ("b", SURE, 20, 30), threshold=0.1) == ["b"]
    assert _choose(offering, ("b", SURE, 20, 30), threshold=0.1) == ["b"]
    assert _choose(offering, ("a", 0.2, 0, 9), threshold=0.1) == []
    assert _choose(offering, ("a", 0.2, 0, 9), ("c", 0.2, 40, 50), threshold=0.1) == ["a"]
    found = ("a", 0.2, 0, 9), ("c", 0.05, 40, 50), ("d", 0.2, 60, 70)
    assert _choose(offering, *found, threshold=0.1, final=True) == ["a", "d"]


def test_a_newcomer_does_not_wait_behind_a_rival_that_is_sure() -> None:
    """Or the rival would be held when its turn comes; one elsewhere, or outdone, waits or goes."""
    near = ("a", SURE - 0.1, 0, 9), ("b", SURE, 1, 10)
    assert _choose(Offering(), *near, threshold=0.1) == ["b", "a"]
    assert _choose(Offering(), near[0], ("b", SURE, 20, 29), threshold=0.1) == ["b"]
    assert _choose(Offering(), near[0], ("b", 0.9, 1, 10), threshold=0.1) == ["b"]
    assert _choose(Offering(), near[0], ("b", SURE - 0.1, 1, 10), threshold=0.1) == []


def test_terms_of_the_segment_before_are_held_from_the_start() -> None:
    """What was written there needs less evidence now, but it needs some."""
    assert _choose(Offering(carried=["a"]), ("a", 0.3, 0, 9), ("b", 0.3, 20, 30)) == ["a"]
    assert _choose(Offering(carried=["a"]), ("a", 0.1, 0, 9)) == []


def test_terms_of_text_long_committed_give_way_when_room_is_scarce() -> None:
    """With room for all, they stay."""
    rows = ("old", 0.9, 0, 20), ("new", 0.6, 300, 320)
    late = 20 + TIME_TO_LIVE_FRAMES
    assert _choose(Offering(), *rows, top_k=1, committed=late - 1) == ["old"]
    assert _choose(Offering(), *rows, top_k=1, committed=late) == ["new"]
    assert _choose(Offering(), *rows, top_k=2, committed=late) == ["old", "new"]


_ROW = st.tuples(
    st.sampled_from(["a", "A", "b", "b.", "c", "d", "e"]),
    st.floats(0.001, 0.999),
    st.integers(0, 40),
    st.integers(1, 30),
).map(lambda row: (row[0], row[1], row[2], row[2] + row[3]))
_TICKS = st.lists(
    st.tuples(st.lists(_ROW, max_size=8, unique_by=lambda row: row[0]), st.integers(0, 200)),
    max_size=6,
)


@given(_TICKS, st.integers(0, 4), st.floats(0.0, 1.0))
def test_over_any_ticks(
    ticks: list[tuple[list[tuple[str, float, int, int]], int]], top_k: int, threshold: float
) -> None:
    """Bounded, ordered, reproducible; a newcomer beats the threshold, who stays its release."""
    one, other = Offering(), Offering()
    before: set[str] = set()
    for rows, committed in ticks:
        found = _found(*rows)
        chosen = one.choose(found, top_k=top_k, threshold=threshold, committed=committed)
        again = other.choose(found, top_k=top_k, threshold=threshold, committed=committed)
        assert chosen == again
        assert len(chosen) <= top_k
        assert [c.probability for c in chosen] == sorted(c.probability for c in chosen)[::-1]
        for candidate in chosen:
            held = HOLD_ODDS if candidate.term.text in before else 1.0
            assert held * odds(candidate.probability) >= odds(threshold)
        before = set(_texts(chosen))


@given(st.lists(_ROW, max_size=8, unique_by=lambda row: row[0]), st.floats(0.0, 1.0))
def test_the_same_evidence_again_changes_nothing(
    rows: list[tuple[str, float, int, int]], threshold: float
) -> None:
    """From the second tick on, and at the end, the same is offered."""
    offering = Offering()
    _choose(offering, *rows, top_k=3, threshold=threshold)
    second = _choose(offering, *rows, top_k=3, threshold=threshold)
    assert _choose(offering, *rows, top_k=3, threshold=threshold) == second
    assert _choose(offering, *rows, top_k=3, threshold=threshold, final=True) == second
