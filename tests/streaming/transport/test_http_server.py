"""Heads of requests, long and malformed: taken up to a limit, and answered beyond it."""

from __future__ import annotations

import asyncio

import pytest
import websockets

from streaming.transport.http_server import MAX_HEAD_BYTES
from tests.streaming.conftest import Serving
from tests.streaming.fake_engine import FakeEngine
from tests.streaming.wire import until

KEYTERMS = 1000
HEADERS = (
    b"Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
)


def head(*, query: bytes = b"", headers: bytes = b"") -> bytes:
    """Of a request for a websocket."""
    return b"GET /ws?" + query + b" HTTP/1.1\r\n" + HEADERS + headers + b"\r\n"


MANY = b"".join(b"X-%d: a\r\n" % number for number in range(128))
LONG = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 4096) for number in range(64))


async def test_a_thousand_keyterms_in_the_address(serving: Serving, engine: FakeEngine) -> None:
    """They are listened for, all of them."""
    query = "&".join(f"keyterm=acetylsalicylic%20acid%20{number}" for number in range(KEYTERMS))
    async with serving() as server:
        url = f"ws://127.0.0.1:{server.port}/v1/listen?encoding=linear16&vad=energy&{query}"
        async with websockets.connect(url):
            await until(lambda: len(engine.sessions) == 1)
            (session,) = engine.sessions.values()
            assert len(session.terms) == KEYTERMS


@pytest.mark.parametrize(
    ("parts", "statuses"),
    [
        ([head(query=b"a" * MAX_HEAD_BYTES)], (400, 414)),
        ([head(headers=b"Cookie: " + b"a" * MAX_HEAD_BYTES + b"\r\n")], (400, 431)),
        ([head(headers=LONG)[:-2]], (400,)),  # and who knows how much more
        ([head(headers=MANY)], (431,)),
        ([head(headers=b"Content-Length: 5\r\n") + b"hello"], (400,)),
        ([head(headers=b"Content-Length: 5\r\n"), b"hello"], (400,)),
        ([head(headers=b"Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n"], (400,)),
    ],
    ids=["address", "header", "head", "headers", "body", "late-body", "chunks"],
)
async def test_a_head_that_cannot_be_taken(
    serving: Serving, parts: list[bytes], statuses: tuple[int, ...]
) -> None:
    """It is answered and the connection closed, long before anybody would lose patience."""
    async with serving() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.05)
        async with asyncio.timeout(3):
            answer = await reader.read()
        writer.close()
        version, status, _ = answer.split(b" ", 2)
        assert version == b"HTTP/1.1" and int(status) in statuses
        assert b"connection: close" in answer.lower()
        async with websockets.connect(server.ws_url):
            pass
