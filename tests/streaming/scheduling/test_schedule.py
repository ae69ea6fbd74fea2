"""The policy of the engine room: finals, deadlines, marks, bounds; the clock is a number."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.scheduling.schedule import STARVED_S, Ask, AudioClock, Due, Kind, Marks, Schedule

FINAL, PAUSE, PARTIAL, UPLOAD = Kind


def asked(schedule: Schedule, kind: Kind, deadline_s: float = 0.0) -> Ask:
    """Somebody who waits, and whose need stays the same."""
    return schedule.ask(lambda: Due(kind, deadline_s))


def order(schedule: Schedule, now_s: float = 0.0) -> list[Ask]:
    """Who would run, one after the other."""
    ran: list[Ask] = []
    while (ask := schedule.next(now_s)) is not None:
        ran.append(ask)
        schedule.leave(ask)
    return ran


def test_finals_then_pauses_then_partials_then_uploads() -> None:
    """Whatever their deadlines say."""
    schedule = Schedule(1)
    asks = {
        kind: asked(schedule, kind, deadline_s=-kind) for kind in (UPLOAD, PARTIAL, PAUSE, FINAL)
    }
    assert order(schedule) == [asks[kind] for kind in (FINAL, PAUSE, PARTIAL, UPLOAD)]


def test_the_earliest_deadline_goes_first_within_a_kind() -> None:
    """And of equal ones whoever asked first."""
    schedule = Schedule(1)
    late, early, twin = (asked(schedule, FINAL, deadline_s) for deadline_s in (3.0, 1.0, 1.0))
    assert order(schedule) == [early, twin, late]


def test_what_is_due_is_looked_at_when_a_place_is_given_away() -> None:
    """A partial that has become a final while it waited is one."""
    schedule = Schedule(1)
    kinds = [PARTIAL]
    changing = schedule.ask(lambda: Due(kinds[-1], 5.0))
    pause = asked(schedule, PAUSE)
    kinds.append(FINAL)
    assert order(schedule) == [changing, pause]


def test_places_are_bounded() -> None:
    """Nobody gets one while all are taken, and one that is given back goes to the next."""
    schedule = Schedule(2)
    asks = [asked(schedule, FINAL, number) for number in range(3)]
    assert [schedule.next(0), schedule.next(0), schedule.next(0)] == [asks[0], asks[1], None]
    assert (schedule.running, schedule.waiting) == (2, 1)
    schedule.leave(asks[0])
    assert schedule.next(0) is asks[2]


def test_partials_leave_one_place_to_finals() -> None:
    """Where there are several; a pause may be a final, so it takes any."""
    schedule = Schedule(2)
    first, second = asked(schedule, PARTIAL), asked(schedule, PARTIAL)
    assert (schedule.next(0), schedule.next(0)) == (first, None)
    pause = asked(schedule, PAUSE)
    assert schedule.next(0) is pause
    schedule.leave(first)
    assert schedule.next(0) is second


def test_an_upload_leaves_one_place_free() -> None:
    """Also when the other one is taken by somebody else."""
    schedule = Schedule(2)
    partial, upload = asked(schedule, PARTIAL), asked(schedule, UPLOAD)
    assert (schedule.next(0), schedule.next(0)) == (partial, None)
    schedule.leave(partial)
    assert schedule.next(0) is upload


def test_a_starving_partial_gets_its_turn() -> None:
    """Long after its deadline it ranks with pauses, and before those that are due later."""
    schedule = Schedule(1)
    pause, starving = asked(schedule, PAUSE, 2.0), asked(schedule, PARTIAL, 1.0)
    fresh = asked(schedule, PARTIAL, 0.5 + STARVED_S)
    final = asked(schedule, FINAL, 9.0)
    assert order(schedule, now_s=1.1 + STARVED_S) == [final, starving, pause, fresh]


def test_a_starving_upload_is_no_better_than_a_partial() -> None:
    """It may never keep finals or pauses waiting."""
    schedule = Schedule(1)
    upload, pause = asked(schedule, UPLOAD, 0.0), asked(schedule, PAUSE, 1e6)
    partial = asked(schedule, PARTIAL, 1e6)
    assert order(schedule, now_s=1e5) == [pause, upload, partial]


def test_a_backlog_of_finals_stops_the_rest_until_it_is_gone() -> None:
    """From the high mark on, and until the low one, although places are free."""
    schedule = Schedule(3, Marks(high=4, low=1))
    partial = asked(schedule, PARTIAL)
    finals = [asked(schedule, FINAL) for _ in range(4)]
    running = [schedule.next(0) for _ in range(3)]
    assert running == finals[:3] and schedule.held
    schedule.leave(finals[0])
    assert schedule.next(0) is finals[3]
    schedule.leave(finals[1])
    assert schedule.next(0) is None and schedule.held  # two finals are left, one place is free
    schedule.leave(finals[2])
    assert schedule.next(0) is partial and not schedule.held


def test_below_the_high_mark_nothing_is_stopped() -> None:
    """Finals go first, and what places they leave are used."""
    schedule = Schedule(4, Marks(high=4, low=1))
    for _ in range(3):
        asked(schedule, FINAL)
    partial = asked(schedule, PARTIAL)
    assert [schedule.next(0) for _ in range(4)][-1] is partial


@pytest.mark.parametrize(("high", "low"), [(2, 2), (1, 3), (2, -1)])
def test_marks_must_be_in_order(high: int, low: int) -> None:
    """Otherwise a hold would never begin or never end."""
    with pytest.raises(ValueError, match=f"low mark {low} must be from 0 to below high mark"):
        Marks(high=high, low=low)


def test_leaving_the_queue_is_possible_at_any_time() -> None:
    """Whoever waits, runs or has left already."""
    schedule = Schedule(1)
    gone, last = asked(schedule, FINAL), asked(schedule, PARTIAL)
    schedule.leave(gone)
    schedule.leave(gone)
    assert schedule.next(0) is last
    assert (schedule.waiting, schedule.running) == (0, 1)


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from(Kind), st.floats(-10, 10)), max_size=30),
    st.floats(-20, 20),
)
def test_everybody_is_served_once_and_finals_wait_for_nobody_else(
    workers: int, wishes: list[tuple[Kind, float]], now_s: float
) -> None:
    """Whatever is asked: places are never exceeded, no one is forgotten, finals come in order."""
    schedule = Schedule(workers)
    asks = {asked(schedule, *wish): wish for wish in wishes}
    ran: list[Ask] = []
    running: list[Ask] = []
    while schedule.waiting or running:
        while (ask := schedule.next(now_s)) is not None:
            running.append(ask)
        assert 0 < schedule.running <= workers
        ran.append(running.pop(0))
        schedule.leave(ran[-1])
    assert sorted(map(id, ran)) == sorted(map(id, asks))
    kinds = [asks[ask][0] for ask in ran]
    finals = [asks[ask][1] for ask in ran if asks[ask][0] is FINAL]
    assert finals == sorted(finals)
    assert kinds[: len(finals)] == [FINAL] * len(finals)


def test_audio_in_real_time_is_due_as_it_comes() -> None:
    """Its last sample was to be heard when it arrived, earlier ones before."""
    clock = AudioClock()
    for second in range(1, 4):
        clock.advance(16_000, now_s=100.0 + second)
    assert clock.time_s(48_000) == pytest.approx(103.0)
    assert clock.time_s(16_000) == pytest.approx(101.0)


def test_audio_ahead_of_time_is_due_later() -> None:
    """A recording that comes at once is due as if it were played from its arrival on."""
    clock = AudioClock()
    clock.advance(16_000, now_s=100.0)
    clock.advance(160_000, now_s=100.0)
    assert clock.time_s(16_000 + 160_000) == pytest.approx(110.0)
    assert clock.time_s(16_000) == pytest.approx(100.0)


def test_time_in_which_nothing_comes_is_not_saved_up() -> None:
    """After a break of a minute audio is due when it comes, not a minute before."""
    clock = AudioClock()
    clock.advance(16_000, now_s=100.0)
    clock.advance(16_000, now_s=160.0)
    assert clock.time_s(32_000) == pytest.approx(160.0)
    assert math.isclose(clock.time_s(16_000), 159.0)
