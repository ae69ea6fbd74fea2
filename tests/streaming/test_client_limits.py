"""What a key allows holds over a real connection, and nobody's last words are lost to a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streaming.security.keys import KeyLimits, new_key, write_keys
from tests.streaming.conftest import Serving
from tests.streaming.signals import pcm, silence, tone
from tests.streaming.wire import Client, connect

Keys = Callable[..., tuple[Path, list[str]]]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """Writes a key file for the names and limits it is given; returns its path and the keys."""

    def write(**limits: dict[str, float]) -> tuple[Path, list[str]]:
        made = [new_key(name, limits=KeyLimits(**given)) for name, given in limits.items()]
        write_keys(tmp_path / "keys.json", [key.record for key in made])
        return tmp_path / "keys.json", [key.secret for key in made]

    return write


def bearing(key: str) -> dict[str, Any]:
    """Options of a connection that brings a key."""
    return {"additional_headers": {"Authorization": f"Bearer {key}"}}


async def test_a_session_as_old_as_it_may_be_gets_its_last_final(serving: Serving) -> None:
    """The close says why; what was said until then is captioned."""
    async with serving(max_session_s=1) as server, connect(server.ws_url) as client:
        await client.start()
        await client.send(pcm(tone(0.6)))
        assert await client.until_closed() == 1008
    assert [m["reason"] for m in client.of_type("final")] == ["stop"]
    assert client.got[-1]["code"] == "session_too_long"


async def test_a_flood_of_empty_messages_ends_the_connection(serving: Serving) -> None:
    """It costs its sender the session; a session beside it does not notice."""
    async with (
        serving(max_messages_per_s=10) as server,
        connect(server.ws_url) as flood,
        connect(server.ws_url) as other,
    ):
        await flood.start()
        await other.start()
        for _ in range(200):
            await flood.send(b"")
        assert await flood.until_closed() == 1008
        assert flood.got[-1]["code"] == "too_many_messages"
        await other.send(pcm(tone(0.5), silence(0.7)))
        await other.wait_for("final")


async def test_sessions_and_audio_of_a_key_are_limited(serving: Serving, keys: Keys) -> None:
    """One key at its limit is told when to come back; another one is not held up."""
    path, (small, large) = keys(small={"max_sessions": 1, "audio_s_per_hour": 2.0}, large={})
    async with (
        serving(keys_file=path) as server,
        connect(server.ws_url, **bearing(small)) as first,
        connect(server.ws_url, **bearing(small)) as second,
        connect(server.ws_url, **bearing(large)) as other,
    ):
        await first.start()
        await other.start()
        await second.send({"type": "start"})
        assert await second.until_closed() == 1013
        refused = second.got[-1]
        assert refused["code"] == "rate_limited" and refused["retry_after_s"] > 0
        await first.send(pcm(tone(1.5)))
        await first.send(pcm(tone(1.5)))
        assert await first.until_closed() == 1013
        assert first.of_type("final") and first.got[-1]["code"] == "rate_limited"
        await other.send(pcm(tone(3.0), silence(0.7)))
        await other.wait_for("final")


async def test_a_session_is_resumed_by_its_own_key_alone(serving: Serving, keys: Keys) -> None:
    """The token of a session is worth nothing to the owner of another key."""
    path, (mine, other) = keys(mine={}, other={})
    async with serving(keys_file=path) as server:
        async with connect(server.ws_url, **bearing(mine)) as client:
            started = await client.start(resumable=True)
            client.socket.transport.abort()
        resume = {
            "type": "resume",
            "session_id": started["session_id"],
            "token": started["resume"]["token"],
        }
        for key, kind in ((other, "error"), (mine, "session.resumed")):
            async with connect(server.ws_url, **bearing(key)) as client:
                await client.send(resume)
                await client.wait_for(kind)


async def test_places_come_back_however_a_session_ends(serving: Serving, keys: Keys) -> None:
    """Stopped, vanished, refused or failed: the key's one place is free again."""
    path, (key,) = keys(one={"max_sessions": 1})

    async def stop(client: Client) -> None:
        await client.start()
        await client.send({"type": "stop"})
        await client.until_closed()

    async def vanish(client: Client) -> None:
        await client.start()
        client.socket.transport.abort()

    async def ask_nonsense(client: Client) -> None:
        await client.send({"type": "start", "language": "xx"})
        await client.until_closed()

    async with serving(keys_file=path) as server:
        for end in (stop, vanish, ask_nonsense, stop):
            async with connect(server.ws_url, **bearing(key)) as client:
                await end(client)
            async with asyncio.timeout(10):
                while server.hub.sessions:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
