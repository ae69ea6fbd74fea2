"""Back-off between connections."""

from __future__ import annotations

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from clients import CaptionClient, ConnectError, RetryPolicy
from clients.retry import address_of, reason_of


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


def test_addresses_are_told_without_secrets() -> None:
    """User, password and query stay out of logs and errors."""
    url = "wss://user:word@captions.example.org:8765/ws?api_key=a2p_1_2#part"
    assert address_of(url) == "wss://captions.example.org:8765/ws"
    assert address_of("ws://[::1]:8765/ws") == "ws://[::1]:8765/ws"
    assert address_of("ws://[") == "the server"


async def test_an_address_that_is_none_is_not_quoted() -> None:
    """It may hold a key as well."""
    with pytest.raises(ConnectError, match="no websocket address") as refused:
        async with CaptionClient("http://127.0.0.1:1/ws?api_key=canary"):
            pass
    assert "canary" not in str(refused.value)


def test_a_refusal_is_told_in_the_servers_words() -> None:
    """The message of its JSON, or the status alone."""
    for body, told in (
        (b'{"error": {"code": "forbidden", "message": "not you"}}', "(403: not you)"),
        (b"<html>", "(403)"),
        (b'{"error": "x"}', "(403)"),
        (None, "(403)"),
    ):
        response = Response(403, "Forbidden", Headers(), body)
        assert reason_of(InvalidStatus(response)) == f"the server refused the connection {told}"
