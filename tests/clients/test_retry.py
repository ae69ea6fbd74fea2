"""Back-off between connections."""

from __future__ import annotations

from clients import RetryPolicy


def test_delays_double_with_jitter_up_to_the_longest() -> None:
    """Each delay lies between half of the doubled one and all of it."""
    policy = RetryPolicy(first_delay_s=1.0, max_delay_s=8.0)
    for attempt, full_s in enumerate([1.0, 2.0, 4.0, 8.0, 8.0], start=1):
        delays = [policy.delay_s(attempt) for _ in range(50)]
        assert all(full_s / 2 <= delay <= full_s for delay in delays)
        assert len(set(delays)) > 1, "no jitter"


def test_the_servers_wish_is_the_least() -> None:
    """retry_after_s is never undercut, and the jitter keeps clients apart."""
    delays = [RetryPolicy().delay_s(1, retry_after_s=5.0) for _ in range(50)]
    assert min(delays) >= 5.0
    assert len(set(delays)) > 1
