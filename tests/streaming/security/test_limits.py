"""How much a client may use, on a clock of the test's own."""

from __future__ import annotations

import pytest

from streaming.errors import RateLimited, TooManyMessages
from streaming.security.limits import (
    BYTES_BURST_S,
    MESSAGE_BURST_S,
    PACE_BURST_S,
    FailureLimit,
    Flow,
    FlowLimits,
    TokenBucket,
    network_of,
)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """The time in s."""
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """A clock that the test moves."""
    return Clock()


def test_a_bucket_gives_its_burst_and_then_its_rate(clock: Clock) -> None:
    """Three at once, then one every two seconds, never more than three again."""
    bucket = TokenBucket(0.5, 3, clock)
    assert [bucket.take() for _ in range(3)] == [0, 0, 0]
    assert bucket.take() == 2.0
    clock.now_s += 1.5
    assert bucket.take() == 0.5
    clock.now_s += 0.5
    assert bucket.take() == 0
    clock.now_s += 1e6
    assert bucket.tokens == 3


def test_a_bucket_in_debt_says_how_long(clock: Clock) -> None:
    """Spending goes below zero, and the wait is until the debt is paid."""
    bucket = TokenBucket(2, 10, clock)
    assert bucket.spend(10) == 0
    assert bucket.spend(4) == 2.0
    clock.now_s += 1
    assert bucket.tokens == -2
    assert bucket.spend(0) == 1.0


def test_a_clock_that_goes_back_costs_nothing(clock: Clock) -> None:
    """Tokens are never lost to the clock, and time that comes again is not counted twice."""
    bucket = TokenBucket(1, 5, clock)
    bucket.spend(5)
    clock.now_s -= 100
    assert bucket.tokens == 0
    clock.now_s += 2
    assert bucket.tokens == 2


def test_more_than_a_bucket_holds_is_not_waited_for_for_ever(clock: Clock) -> None:
    """The wait ends when the bucket is full."""
    bucket = TokenBucket(1, 5, clock)
    bucket.spend(5)
    assert bucket.wait_s(50) == 5


def test_failures_are_counted_per_peer(clock: Clock) -> None:
    """One address in trouble does not touch another, and time heals."""
    failures = FailureLimit(per_minute=6, burst=2, clock=clock)
    failures.note("192.0.2.1")
    failures.note("192.0.2.1")
    with pytest.raises(RateLimited) as limited:
        failures.note("192.0.2.1")
    assert limited.value.retry_after_s == pytest.approx(10)
    failures.note("192.0.2.2")
    clock.now_s += 10
    failures.note("192.0.2.1")


def test_the_memory_of_failures_is_bounded(clock: Clock) -> None:
    """With ever new addresses the quietest are forgotten, not the busiest."""
    failures = FailureLimit(burst=1, max_peers=10, clock=clock)
    failures.note("192.0.2.1")
    for number in range(1000):
        failures.note(f"198.51.100.{number}")
        with pytest.raises(RateLimited):
            failures.note("192.0.2.1")
    assert failures.peers == 10


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::9", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_what_counts_as_one_peer(peer: str, network: str) -> None:
    """IPv6 customers have a network of their own, mapped IPv4 addresses are IPv4."""
    assert network_of(peer) == network


def test_audio_in_real_time_never_waits(clock: Clock) -> None:
    """An hour of 20 ms messages passes, at any allowed pace."""
    flow = Flow(FlowLimits(max_pace=1.0), clock)
    for _ in range(180_000):
        assert flow.take(640, 0.02) == 0
        clock.now_s += 0.02


def test_audio_that_is_too_fast_has_to_wait(clock: Clock) -> None:
    """Beyond the burst a recording goes at the pace, and nothing of it is refused."""
    flow, sent_s, began_s = Flow(FlowLimits(max_pace=10.0), clock), 0.0, clock.now_s
    while sent_s < 3600:
        clock.now_s += flow.take(16_000, 0.5)
        sent_s += 0.5
    assert clock.now_s - began_s == pytest.approx((3600 - PACE_BURST_S) / 10, rel=0.01)


def test_bytes_have_to_wait_as_well(clock: Clock) -> None:
    """Long glossaries and base64 are held to a rate too."""
    flow = Flow(FlowLimits(bytes_per_s=1000), clock)
    assert flow.take(int(1000 * BYTES_BURST_S)) == 0
    assert flow.take(500) == 0.5


@pytest.mark.parametrize("audio_s", [0.0, 1 / 16_000])
def test_floods_of_nothing_are_refused(clock: Clock, audio_s: float) -> None:
    """Control messages and single samples, more than anybody needs, end the connection."""
    flow = Flow(FlowLimits(messages_per_s=5), clock)
    for _ in range(int(5 * MESSAGE_BURST_S)):
        flow.take(2, audio_s)
    with pytest.raises(TooManyMessages, match=r"less than 1 ms of audio: over 5 a second"):
        flow.take(2, audio_s)
    flow.take(640, 0.02)
    clock.now_s += 0.2
    flow.take(2, audio_s)
