"""Admission by what was measured: cost, load, late finals, hysteresis; the clock is a number."""

from __future__ import annotations

import pytest

from streaming.scheduling.capacity import (
    ACTIVITY,
    LEAST_FINALS,
    MAX_RETRY_S,
    PRIOR_COST,
    WINDOW_S,
    YOUNG_S,
    Bounds,
    Capacity,
    Decaying,
)
from streaming.scheduling.schedule import Kind


def admitted_at_once(capacity: Capacity, now_s: float = 0.0) -> int:
    """Sessions that come at the same moment, until one is refused."""
    sessions = 0
    while capacity.admit(sessions, now_s) is None:
        sessions += 1
        assert sessions < 10_000
    return sessions


def speak(
    capacity: Capacity, *, cost: float, speech_s: float, begin_s: float, end_s: float
) -> None:
    """Segments of four seconds, spread evenly, whose finals take so much and come in time."""
    segments = round(speech_s / 4)
    for number in range(segments):
        now_s = begin_s + (end_s - begin_s) * (number + 1) / segments
        capacity.worked(Kind.FINAL, 4 * cost, now_s)
        capacity.finished(4.0, 0.6, now_s)


def late(capacity: Capacity, latency_s: float, now_s: float, number: int = LEAST_FINALS) -> None:
    """Finals of no length that came so late."""
    for _ in range(number):
        capacity.finished(0.0, latency_s, now_s)


def test_the_first_session_is_never_refused() -> None:
    """However late captions are: it may be the only one that ever comes."""
    capacity = Capacity(1)
    capacity.worked(Kind.FINAL, 100.0, 0.0)
    late(capacity, 30.0, 0.0)
    assert capacity.admit(0, 0.0) is None
    assert capacity.admit(1, 0.0) is not None


def test_before_anything_is_measured_a_usual_cost_is_assumed() -> None:
    """A crowd that comes at once is admitted as far as that goes."""
    expected = int(0.7 / (ACTIVITY * PRIOR_COST / 2))
    assert admitted_at_once(Capacity(2)) == expected


def test_a_faster_machine_takes_more() -> None:
    """Once it has shown what speech costs here."""
    capacities = {cost: Capacity(2) for cost in (0.05, 0.2)}
    for cost, capacity in capacities.items():
        speak(capacity, cost=cost, speech_s=400, begin_s=0, end_s=1000)
        assert capacity.cost == pytest.approx(cost, abs=0.01)
    took = {cost: admitted_at_once(each, 1200) for cost, each in capacities.items()}
    assert took[0.05] >= 3 * took[0.2]


def test_sessions_that_are_not_young_count_with_what_they_use() -> None:
    """Muted ones use nothing, so others may come."""
    capacity = Capacity(2)
    first = admitted_at_once(capacity)
    assert admitted_at_once(capacity, YOUNG_S + 1) == first


def test_load_is_the_share_that_finals_and_pauses_take() -> None:
    """Of all workers; partials make way, so they do not count."""
    capacity = Capacity(2)
    for second in range(1, 121):
        capacity.worked(Kind.FINAL, 0.3, second)
        capacity.worked(Kind.PAUSE, 0.2, second)
        capacity.worked(Kind.PARTIAL, 0.5, second)
        capacity.worked(Kind.UPLOAD, 0.5, second)
    assert capacity.load(120) == pytest.approx(0.25, abs=0.01)


def test_a_busy_machine_refuses_and_goes_on_until_it_is_less_busy() -> None:
    """Between the two marks it is the last answer that counts."""
    bounds = Bounds(high_load=0.7, low_load=0.5)
    capacity = Capacity(1, bounds)

    def work(share: float, begin_s: int) -> None:
        for second in range(begin_s, begin_s + 150):
            capacity.worked(Kind.FINAL, share, second)
            capacity.finished(share / 0.1, 0.5, second)

    work(0.6, 0)
    assert capacity.admit(3, 150) is None  # on the way up
    work(0.8, 200)
    assert capacity.admit(4, 350) is not None
    work(0.6, 400)
    assert capacity.admit(4, 550) is not None  # on the way down
    work(0.4, 600)
    assert capacity.admit(4, 750) is None


def test_late_finals_refuse_until_they_are_forgotten_or_outnumbered() -> None:
    """The hint says when the oldest of them will be."""
    capacity = Capacity(2, Bounds(final_p95_s=2.0, low_share=0.75))
    late(capacity, 2.5, 10.0)
    refusal = capacity.admit(1, 30.0)
    assert refusal is not None and "captions come late" in refusal.reason
    assert refusal.retry_after_s == 40.0
    assert capacity.admit(1, 10.0 + WINDOW_S + 0.1) is None


def test_a_percentile_within_the_marks_keeps_the_answer() -> None:
    """1.8 s is no reason to begin to refuse, and none to stop."""
    capacity = Capacity(2, Bounds(final_p95_s=2.0, low_share=0.75))
    late(capacity, 1.8, 0.0)
    assert capacity.admit(1, 1.0) is None
    late(capacity, 2.5, 2.0)
    assert capacity.admit(1, 3.0) is not None
    late(capacity, 1.8, 61.0)
    assert capacity.admit(1, 63.0) is not None
    late(capacity, 1.0, 122.0)
    assert capacity.admit(1, 123.0) is None


def test_a_few_late_finals_say_nothing() -> None:
    """A percentile needs some; one slow start is no overload."""
    capacity = Capacity(2)
    late(capacity, 9.0, 0.0, number=LEAST_FINALS - 1)
    assert capacity.final_p95_s(1.0) is None
    assert capacity.admit(1, 1.0) is None


def test_the_hint_is_neither_at_once_nor_never() -> None:
    """Whole seconds from one to a minute."""
    capacity = Capacity(1)
    capacity.worked(Kind.FINAL, 1e6, 0.0)
    refusal = capacity.admit(1, 0.0)
    assert refusal is not None and refusal.retry_after_s == MAX_RETRY_S
    late(capacity, 9.0, 0.0)
    refusal = capacity.admit(1, WINDOW_S - 0.01)
    assert refusal is not None and refusal.retry_after_s == 1.0


def test_old_costs_are_outweighed() -> None:
    """A machine that got faster, as its background work has ended, is known to be after a while."""
    capacity = Capacity(2)
    speak(capacity, cost=0.4, speech_s=2000, begin_s=0, end_s=5000)
    speak(capacity, cost=0.1, speech_s=2000, begin_s=5000, end_s=10_000)
    assert capacity.cost == pytest.approx(0.1, abs=0.02)


def test_a_rate_is_right_from_the_beginning() -> None:
    """Not only after several time constants."""
    rate = Decaying(30.0, now_s=100.0)
    for second in range(101, 111):
        rate.add(0.5, second)
    assert rate.rate(110) == pytest.approx(0.5, rel=0.15)
    for second in range(111, 300):
        rate.add(0.5, second)
    assert rate.rate(299) == pytest.approx(0.5, rel=0.05)
    assert rate.rate(299 + 300) == pytest.approx(0, abs=1e-4)


def test_a_clock_that_stands_still_does_no_harm() -> None:
    """Several steps may end within one tick."""
    rate = Decaying(30.0, now_s=5.0)
    rate.add(1.0, 5.0)
    rate.add(1.0, 4.0)
    assert rate.rate(5.0) == pytest.approx(2.0, rel=0.05)
