"""Who gets a session, on a clock of the test's own."""

from __future__ import annotations

import asyncio

import pytest

from streaming.errors import Forbidden, RateLimited, ServerFull, SessionTooLong, Unauthorised
from streaming.security.admission import MAX_PEERS, Admission, Ticket
from streaming.security.auth import ANONYMOUS, Principal
from streaming.security.keys import KeyLimits
from tests.streaming.security.test_limits import Clock


@pytest.fixture
def clock() -> Clock:
    """A clock that the test moves."""
    return Clock()


@pytest.fixture
def admission(clock: Clock) -> Admission:
    """Ten places, an hour each."""
    return Admission(max_sessions=10, max_session_s=3600, clock=clock)


def client(name: str = "a", **limits: float) -> Principal:
    """Somebody with a key of these limits."""
    return Principal(
        name=name,
        key_id=name,
        scopes=frozenset({"captions"}),
        limits=KeyLimits.model_validate(limits),
    )


def test_places_are_given_and_given_back(admission: Admission) -> None:
    """The eleventh comes too early; a place that was given back twice is one place."""
    tickets = [admission.admit(ANONYMOUS, "192.0.2.1") for _ in range(10)]
    with pytest.raises(ServerFull, match="all 10 sessions are taken"):
        admission.admit(ANONYMOUS, "192.0.2.2")
    tickets[0].close()
    tickets[0].close()
    assert admission.open == 9
    with admission.admit(ANONYMOUS):
        assert admission.open == 10
    assert admission.open == 9


def test_a_key_without_the_scope_gets_none(admission: Admission) -> None:
    """And it takes no place."""
    with pytest.raises(Forbidden, match="captions"):
        admission.admit(Principal(name="m", key_id="m", scopes=frozenset({"metrics"})))
    assert admission.open == 0


def test_each_key_has_its_own_places(admission: Admission) -> None:
    """One client at its limit does not keep another out."""
    first = admission.admit(client("a", max_sessions=1))
    with pytest.raises(RateLimited, match="all 1 sessions of this key") as limited:
        admission.admit(client("a", max_sessions=1))
    assert limited.value.retry_after_s > 0
    admission.admit(client("b", max_sessions=1))
    first.close()
    admission.admit(client("a", max_sessions=1))


def test_sessions_are_opened_at_a_rate(admission: Admission, clock: Clock) -> None:
    """Two at once, then one every half minute; those that were refused do not count."""
    often = client(sessions_per_minute=2)
    for _ in range(2):
        admission.admit(often).close()
    for _ in range(3):
        with pytest.raises(RateLimited, match="2 new sessions a minute") as limited:
            admission.admit(often)
    assert limited.value.retry_after_s == pytest.approx(30)
    clock.now_s += 30
    admission.admit(often)


def test_audio_is_counted_over_all_sessions_of_a_key(admission: Admission, clock: Clock) -> None:
    """The hour's share ends the session that uses it up; no other begins before there is more."""
    modest = client(audio_s_per_hour=60)
    one, other = admission.admit(modest), admission.admit(modest)
    one.hear(30)
    other.hear(30)
    with pytest.raises(RateLimited, match="60 s of audio an hour is used up") as limited:
        one.hear(0.5)
    assert limited.value.retry_after_s == pytest.approx(30)
    with pytest.raises(RateLimited, match="is used up"):
        admission.admit(modest)
    clock.now_s += 120
    admission.admit(modest).hear(1)


def test_other_limits_hold_at_once(admission: Admission) -> None:
    """When the key file changes, sessions that are open still count."""
    ticket = admission.admit(client(max_sessions=1))
    admission.admit(client(max_sessions=2))
    with pytest.raises(RateLimited):
        admission.admit(client(max_sessions=2))
    ticket.close()
    admission.admit(client(max_sessions=2))


def test_without_keys_addresses_count(admission: Admission) -> None:
    """Limits of the anonymous principal are those of an address."""
    nobody = Principal(limits=KeyLimits(max_sessions=1))
    admission.admit(nobody, "192.0.2.1")
    with pytest.raises(RateLimited):
        admission.admit(nobody, "192.0.2.1")
    admission.admit(nobody, "192.0.2.2")


def test_the_memory_of_clients_is_bounded(admission: Admission) -> None:
    """Those without a session are forgotten first."""
    nobody = Principal(limits=KeyLimits(max_sessions=1))
    admission.admit(nobody, "192.0.2.1")
    for number in range(MAX_PEERS + 100):
        admission.admit(nobody, f"peer {number}").close()
    assert len(admission._accounts) == MAX_PEERS
    with pytest.raises(RateLimited):
        admission.admit(nobody, "192.0.2.1")


@pytest.mark.parametrize(("own_s", "longest_s"), [(None, 3600), (60, 60), (7200, 3600)])
def test_a_session_lasts_so_long(
    admission: Admission, clock: Clock, own_s: float | None, longest_s: float
) -> None:
    """As the key says, but never longer than the server does."""
    ticket = admission.admit(client(**({} if own_s is None else {"max_session_s": own_s})))
    clock.now_s += longest_s - 1
    ticket.check()
    clock.now_s += 1
    with pytest.raises(SessionTooLong, match=f"at most {longest_s} s"):
        ticket.check()


async def test_the_end_of_a_session_can_be_waited_for() -> None:
    """On the real clock, with a very short session."""
    loop = asyncio.get_running_loop()
    ticket = Admission(max_sessions=1, max_session_s=0.05).admit(ANONYMOUS)
    began_s = loop.time()
    with pytest.raises(SessionTooLong):
        await ticket.expired()
    assert 0.04 <= loop.time() - began_s < 1


async def test_a_session_ends_with_its_key(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is removed while the session runs is noticed soon."""
    monkeypatch.setattr("streaming.security.admission.RECHECK_S", 0.01)
    valid = [True]

    def recheck(principal: Principal) -> None:
        if not valid:
            raise Unauthorised(f"{principal.name} was removed")

    admission = Admission(max_sessions=1, max_session_s=60, recheck=recheck, clock=clock)
    ticket: Ticket = admission.admit(client())
    waiting = asyncio.create_task(ticket.expired())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    valid.clear()
    with pytest.raises(Unauthorised, match="a was removed"):
        await waiting
