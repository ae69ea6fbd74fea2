"""The client library against a scripted server over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from clients import (
    AudioFormat,
    CaptionClient,
    ClientError,
    ConnectError,
    ErrorReported,
    Event,
    Final,
    Flushed,
    GlossaryUpdated,
    Partial,
    RawEvent,
    Reconnected,
    Reconnecting,
    RetryPolicy,
    ServerFull,
    SessionEnded,
    SessionFailed,
    SessionRefused,
    SessionStarted,
    SpeechStarted,
)
from tests.clients.scripted import Peer, scripted_server

SECOND = 32_000  # bytes of 16 kHz mono int16
QUICK = RetryPolicy(first_delay_s=0.01, max_delay_s=0.05)


def seconds(count: int, first: int = 0) -> bytes:
    """Audio in which each second is filled with its own number."""
    return b"".join(bytes([first + index]) * SECOND for index in range(count))


async def source(*chunks: bytes) -> AsyncIterator[bytes]:
    """Chunks as an asynchronous source."""
    for chunk in chunks:
        yield chunk


async def collect(client: CaptionClient) -> list[Event]:
    """All events until the session ends."""
    return [event async for event in client]


def one_final(peer: Peer, segment: int = 1, end_s: float = 1.0, text: str = "hello"):
    """Send a short segment."""
    return peer.send(
        "final", segment_id=segment, revision=1, start_s=end_s - 0.5, end_s=end_s, text=text
    )


async def test_a_session_yields_typed_events_and_ends_with_the_last() -> None:
    """Audio goes up, typed events come down, iteration stops after session.ended."""

    async def handler(peer: Peer) -> None:
        await peer.start()
        await peer.heard(2 * SECOND)
        await peer.send("speech.started", segment_id=1, time_s=0.2)
        await peer.send(
            "partial",
            segment_id=1,
            revision=1,
            start_s=0.2,
            end_s=0.9,
            committed="take",
            volatile=" apixaban",
            terms=[{"term": "apixaban", "probability": 0.97, "start_s": 0.5, "end_s": 0.9}],
        )
        await one_final(peer, text="take apixaban")
        await peer.end()

    async with scripted_server(handler) as (url, peers), CaptionClient(url) as client:
        events = [event async for event in client.caption(source(seconds(2)))]
    assert peers[0].audio == seconds(2)
    kinds = [type(event) for event in events]
    assert kinds == [SessionStarted, SpeechStarted, Partial, Final, SessionEnded]
    partial = events[2]
    assert isinstance(partial, Partial)
    assert partial.text == "take apixaban"
    assert (partial.terms[0].term, partial.terms[0].probability) == ("apixaban", 0.97)


async def test_the_start_message_says_all_that_was_asked_for() -> None:
    """Format, language, task, glossary and options reach the server as documented."""

    async def handler(peer: Peer) -> None:
        start = await peer.start()
        assert start["audio"] == {
            "encoding": "pcm_f32le",
            "sample_rate_hz": 44_100,
            "channels": 2,
        }
        assert (start["language"], start["task"]) == ("de", "translate")
        assert start["glossary"] == {"terms": ["apixaban", {"term": "Eliquis", "weight": 2.0}]}
        assert start["options"] == {"top_k": 3}
        await peer.end()

    async with (
        scripted_server(handler) as (url, _),
        CaptionClient(
            url,
            audio=AudioFormat(encoding="pcm_f32le", sample_rate_hz=44_100, channels=2),
            language="de",
            task="translate",
            glossary=["apixaban", {"term": "Eliquis", "weight": 2.0}],
            options={"top_k": 3},
        ) as client,
    ):
        await client.stop()


async def test_unknown_and_incomplete_messages_become_raw_events() -> None:
    """A newer server's messages do not break an older client."""

    async def handler(peer: Peer) -> None:
        await peer.start()
        await peer.send("speaker.changed", speaker=2)
        await peer.send("final", text="no segment")
        await peer.end()

    async with scripted_server(handler) as (url, _), CaptionClient(url) as client:
        await client.stop()
        events = await collect(client)
    raw = [event for event in events if isinstance(event, RawEvent)]
    assert [event.type for event in raw] == ["speaker.changed", "final"]
    assert raw[0].data["speaker"] == 2


async def test_glossary_edits_flush_and_stop_are_sent_and_answered() -> None:
    """Each control message goes out and its answer comes back typed."""

    async def handler(peer: Peer) -> None:
        await peer.start()
        edit = await peer.text("glossary.edit")
        assert (edit["add"], edit["remove"]) == (["Eliquis"], ["warfarin"])
        rejected = [{"entry": "1", "reason": "no letters"}]
        await peer.send("glossary.updated", version=2, terms=5, added=1, rejected=rejected)
        await peer.text("flush")
        await peer.send("flushed")
        await peer.end()

    async with scripted_server(handler) as (url, _), CaptionClient(url) as client:
        await client.edit_glossary(add=["Eliquis"], remove=["warfarin"])
        await client.flush()
        await client.stop()
        events = await collect(client)
    updated = next(event for event in events if isinstance(event, GlossaryUpdated))
    assert (updated.version, updated.rejected[0].reason) == (2, "no letters")
    assert any(isinstance(event, Flushed) for event in events)


async def test_an_edit_of_many_terms_is_split_into_messages_a_server_takes() -> None:
    """No message exceeds 1 MiB, and all terms arrive, once."""
    terms = [f"term {number:06} {'x' * 40}" for number in range(30_000)]

    async def handler(peer: Peer) -> None:
        await peer.start()
        await peer.end()
        edits = [text for text in peer.texts if text["type"] == "glossary.edit"]
        assert len(edits) > 1
        assert [term for edit in edits for term in edit["add"]] == terms
        assert [term for edit in edits for term in edit["remove"]] == ["old"]

    async with scripted_server(handler) as (url, _), CaptionClient(url) as client:
        await client.edit_glossary(add=terms, remove=["old"])
        await client.stop()


async def test_stop_waits_for_the_last_final() -> None:
    """The last sentence arrives before stop returns."""

    async def handler(peer: Peer) -> None:
        await peer.start()
        await peer.text("stop")
        await asyncio.sleep(0.05)
        await one_final(peer, text="the last words")
        await peer.end()

    async with scripted_server(handler) as (url, _), CaptionClient(url) as client:
        await client.send(seconds(1))
        await client.stop()
        events = await collect(client)
    assert [event.text for event in events if isinstance(event, Final)] == ["the last words"]


async def test_no_server_is_one_clear_error() -> None:
    """Connection refused names the address and does not hang."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ConnectError, match=f"cannot reach ws://127.0.0.1:{port}/ws: .*refused"):
        async with CaptionClient(f"ws://127.0.0.1:{port}/ws"):
            pass


async def test_a_server_that_does_not_answer_is_given_up() -> None:
    """A peer that takes the start message and stays silent does not hang the client."""

    async def handler(peer: Peer) -> None:
        await peer.socket.wait_closed()

    async with scripted_server(handler) as (url, _):
        with pytest.raises(ConnectError, match="no answer in time"):
            async with CaptionClient(url, start_timeout_s=0.1):
                pass


async def test_a_refused_start_says_why() -> None:
    """A fatal error in answer to start is raised with its code, and is not retried."""

    async def handler(peer: Peer) -> None:
        await peer.text("start")
        await peer.send("error", code="bad_option", message="no language 'xx'", fatal=True)
        await peer.socket.close(1008)

    async with scripted_server(handler) as (url, peers):
        with pytest.raises(SessionRefused, match="no language 'xx'") as caught:
            async with CaptionClient(url, language="xx", retry=RetryPolicy(at_start=True)):
                pass
    assert (caught.value.code, len(peers)) == ("bad_option", 1)


async def full(peer: Peer) -> None:
    """Turn a client away for now."""
    await peer.send("error", code="full", message="no room", fatal=True, retry_after_s=0.2)
    await peer.socket.close(1013)


async def test_a_full_server_says_when_to_come_back() -> None:
    """Without retries at the start, being full is an error with retry_after_s."""
    async with scripted_server(full) as (url, _):
        with pytest.raises(ServerFull, match="no room") as caught:
            async with CaptionClient(url):
                pass
    assert caught.value.retry_after_s == 0.2


async def test_retries_at_the_start_honour_the_servers_wish() -> None:
    """With at_start the client comes back, not before retry_after_s."""

    async def ready(peer: Peer) -> None:
        await peer.start()
        await peer.end()

    loop = asyncio.get_running_loop()
    retry = RetryPolicy(first_delay_s=0.01, at_start=True)
    async with scripted_server(full, ready) as (url, _):
        began = loop.time()
        async with CaptionClient(url, retry=retry) as client:
            assert loop.time() - began >= 0.2
            await client.stop()


@pytest.mark.parametrize("close_code", [1001, 1006, 1011, 1012, 1013])
async def test_a_reconnect_loses_and_repeats_nothing(close_code: int) -> None:
    """Audio since the last final is sent again; times, segment ids and edits continue."""

    async def first(peer: Peer) -> None:
        await peer.start()
        await peer.heard(3 * SECOND)
        await one_final(peer, segment=1, end_s=2.0, text="one")
        await peer.send("speech.started", segment_id=2, time_s=2.2)
        await peer.text("glossary.edit")
        if close_code == 1006:
            peer.socket.transport.abort()
        else:
            await peer.socket.close(close_code)

    async def second(peer: Peer) -> None:
        await peer.start()
        edit = await peer.text("glossary.edit")
        assert (edit["add"], edit["remove"]) == (["Eliquis"], [])
        assert await peer.heard(2 * SECOND) == seconds(2, first=2)
        await one_final(peer, segment=1, end_s=1.5, text="two")
        await peer.end()

    async with scripted_server(first, second) as (url, _), CaptionClient(url, retry=QUICK) as c:
        await c.send(seconds(3))
        events: list[Event] = []
        async for event in c:
            events.append(event)
            if isinstance(event, SpeechStarted):
                await c.edit_glossary(add=["Eliquis"])
            if isinstance(event, Reconnecting):
                await c.send(seconds(1, first=3))
            if isinstance(event, Reconnected):
                stopping = asyncio.create_task(c.stop())
        await stopping
    finals = [event for event in events if isinstance(event, Final)]
    assert [(final.text, final.end_s) for final in finals] == [("one", 2.0), ("two", 3.5)]
    assert finals[1].segment_id > 2, "an id that was already used"
    reconnected = next(event for event in events if isinstance(event, Reconnected))
    assert (reconnected.offset_s, reconnected.dropped_s) == (2.0, 0.0)


async def test_audio_beyond_the_bound_is_dropped_and_said() -> None:
    """While disconnected only the newest audio is kept; the time offset counts the rest."""

    async def first(peer: Peer) -> None:
        await peer.start()
        await peer.socket.close(1012)

    async def second(peer: Peer) -> None:
        await peer.start()
        assert await peer.heard(2 * SECOND) == seconds(2, first=3)
        await one_final(peer, end_s=1.0)
        await peer.end()

    async with (
        scripted_server(first, second) as (url, _),
        CaptionClient(url, retry=RetryPolicy(first_delay_s=0.2), backlog_s=2.0) as client,
    ):
        iterator = aiter(client)
        while not isinstance(await anext(iterator), Reconnecting):
            pass
        for number in range(5):
            await client.send(seconds(1, first=number))
        await client.stop()
        events = [event async for event in iterator]
    reconnected = next(event for event in events if isinstance(event, Reconnected))
    assert (reconnected.offset_s, reconnected.dropped_s) == (3.0, 3.0)
    assert next(event for event in events if isinstance(event, Final)).end_s == 4.0


async def test_a_stop_while_disconnected_reaches_the_next_session() -> None:
    """The drain survives a lost connection."""

    async def first(peer: Peer) -> None:
        await peer.start()
        await peer.text("stop")
        await peer.socket.close(1012)

    async def second(peer: Peer) -> None:
        await peer.start()
        await peer.text("stop")
        assert peer.audio == seconds(1), "stop came before the audio"
        await one_final(peer)
        await peer.end()

    async with scripted_server(first, second) as (url, _), CaptionClient(url, retry=QUICK) as c:
        events = [event async for event in c.caption(source(seconds(1)))]
    assert [event.text for event in events if isinstance(event, Final)] == ["hello"]


async def test_a_full_server_on_the_way_back_delays_the_next_try() -> None:
    """retry_after_s of the refusal is the least delay of the next attempt."""

    async def first(peer: Peer) -> None:
        await peer.start()
        await peer.socket.close(1011)

    async def third(peer: Peer) -> None:
        await peer.start()
        await peer.end()

    async with (
        scripted_server(first, full, third) as (url, _),
        CaptionClient(url, retry=QUICK) as client,
    ):
        await client.stop()
        events = await collect(client)
    delays = [event.delay_s for event in events if isinstance(event, Reconnecting)]
    assert len(delays) == 2
    assert delays[0] < 0.2 <= delays[1]


@pytest.mark.parametrize(
    ("code", "close_code"), [("shutting_down", 1012), ("internal", 1011), ("model_failed", 1011)]
)
async def test_a_refusal_that_passes_is_no_reason_to_give_up(code: str, close_code: int) -> None:
    """Its close code decides: a server that is leaving now is another one in a moment."""

    async def first(peer: Peer) -> None:
        await peer.start()
        await peer.heard(SECOND)
        await peer.socket.close(1012)

    async def leaving(peer: Peer) -> None:
        await peer.text("start")
        await peer.send("error", code=code, message="not now", fatal=True)
        await peer.socket.close(close_code, code)

    async def last(peer: Peer) -> None:
        await peer.start()
        assert await peer.heard(SECOND) == seconds(1)
        await one_final(peer)
        await peer.end()

    async with (
        scripted_server(first, leaving, leaving, last) as (url, _),
        CaptionClient(url, retry=QUICK) as client,
    ):
        events = [event async for event in client.caption(source(seconds(1)))]
    assert [event.text for event in events if isinstance(event, Final)] == ["hello"]
    reasons = [event.reason for event in events if isinstance(event, Reconnecting)]
    assert reasons == ["connection closed (1012)", "not now", "not now"]
    async with scripted_server(leaving) as (url, _):
        with pytest.raises(SessionRefused, match="not now") as caught:
            async with CaptionClient(url):
                pass
    assert (caught.value.code, caught.value.close_code) == (code, close_code)


async def test_a_refusal_is_not_asked_for_ever() -> None:
    """A server that goes on leaving is given up after as many tries as one that is not there."""

    async def leaving(peer: Peer) -> None:
        await peer.text("start")
        await peer.send("error", code="shutting_down", message="not now", fatal=True)
        await peer.socket.close(1012)

    retry = RetryPolicy(attempts=2, first_delay_s=0.01, at_start=True)
    async with scripted_server(leaving, leaving, leaving) as (url, peers):
        with pytest.raises(SessionRefused, match="not now"):
            async with CaptionClient(url, retry=retry):
                pass
    assert len(peers) == 3


async def test_a_server_that_reads_no_further_is_not_dead() -> None:
    """Its messages are signs of life, though pings lie unread behind more audio than it takes."""

    async def handler(peer: Peer) -> None:
        await peer.start()
        peer.socket.transport.pause_reading()
        for _ in range(20):
            await asyncio.sleep(0.05)
            await peer.send("stats", audio_s=0.0, lag_s=30.0, timings_ms={}, sessions=1)
        peer.socket.transport.resume_reading()
        await peer.end()

    async with scripted_server(handler) as (url, peers):
        async with CaptionClient(url, retry=QUICK, silence_s=0.3) as client:
            await client.stop()
    assert len(peers) == 1


async def test_a_policy_violation_is_not_retried() -> None:
    """Close code 1008 ends the session with an error, after the events before it."""

    async def handler(peer: Peer) -> None:
        await peer.start()
        await peer.send("error", code="bad_command", message="what?", fatal=True)
        await peer.socket.close(1008, "what?")

    async with scripted_server(handler) as (url, peers), CaptionClient(url, retry=QUICK) as client:
        events = []
        with pytest.raises(SessionFailed, match="1008: what") as caught:
            async for event in client:
                events.append(event)
        with pytest.raises(SessionFailed):
            await client.send(b"\0\0")
    assert caught.value.close_code == 1008
    assert isinstance(events[-1], ErrorReported)
    assert len(peers) == 1


async def test_it_gives_up_after_the_agreed_number_of_tries() -> None:
    """A server that stays away is an error that says how often it was tried."""

    async def handler(peer: Peer) -> None:
        await peer.start()
        peer.socket.transport.abort()

    retry = RetryPolicy(attempts=3, first_delay_s=0.01)
    async with scripted_server(handler, handler, handler, handler) as (url, peers):
        async with CaptionClient(url, retry=retry) as client:
            with pytest.raises(ConnectError, match="after 3 tries"):
                await collect(client)
    assert len(peers) == 4


async def test_an_error_of_the_source_reaches_the_consumer() -> None:
    """A source that fails ends the captions with its own error instead of waiting for ever."""

    async def broken() -> AsyncIterator[bytes]:
        yield seconds(1)
        raise ClientError("the cable is out")

    async def handler(peer: Peer) -> None:
        await peer.start()
        await peer.socket.wait_closed()

    async with scripted_server(handler) as (url, _), CaptionClient(url) as client:
        with pytest.raises(ClientError, match="the cable is out"):
            async for _event in client.caption(broken()):
                pass


async def test_leaving_the_context_early_closes_at_once() -> None:
    """Without stop nothing is awaited, and no task is left behind."""

    async def handler(peer: Peer) -> None:
        await peer.start()
        await peer.socket.wait_closed()
        assert peer.socket.close_code == 1000

    async with scripted_server(handler) as (url, _):
        async with asyncio.timeout(2), CaptionClient(url) as client:
            await client.send(seconds(1))
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [task for task in others if "CaptionClient" in repr(task)]
