"""What goes wrong between us and an OpenAI-compatible server, on a real connection."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from a2p_engine.errors import ModelError, ModelUnavailable
from a2p_engine.speech_llm.openai_http import Deadline, OpenAIServer, retry_after_s
from a2p_engine.speech_llm.openai_settings import OpenAISettings
from a2p_engine.types import SAMPLE_RATE_HZ, Samples
from tests.a2p_engine.speech_llm.openai_peer import Peer, ask, events, speech_llm

KEY = "sk-secret-of-mine"
BOTH = pytest.mark.parametrize("interface", ["chat", "transcriptions"])


@pytest.fixture
def second(audio: Samples) -> Samples:
    """A second of speech."""
    return audio[SAMPLE_RATE_HZ : 2 * SAMPLE_RATE_HZ]


def sse(*data: str) -> Response:
    """A stream of these data."""
    return events(iter([f"data: {each}\n\n" for each in data]))


def breaking() -> Response:
    """A stream whose connection breaks in the middle."""

    def pieces() -> Iterator[str]:
        yield 'data: {"choices": [{"delta": {"content": "Half"}}]}\n\n'
        raise ConnectionResetError

    return events(pieces())


async def forever(piece: str) -> AsyncIterator[str]:
    """The same again and again, quickly."""
    while True:
        yield piece
        await asyncio.sleep(0.01)


def endless(piece: str) -> Response:
    """A stream without an end."""
    return StreamingResponse(forever(piece), media_type="text/event-stream")


def in_future(seconds: float) -> str:
    """An HTTP date."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


PASSING = {
    "internal error": lambda: PlainTextResponse("no", 500),
    "bad gateway": lambda: PlainTextResponse("<html>", 502, media_type="text/html"),
    "too many": lambda: JSONResponse({}, 429, {"retry-after": "1"}),
    "too many, with a date": lambda: JSONResponse({}, 429, {"retry-after": in_future(2)}),
    "half a JSON": lambda: Response('{"choices": [{"mess', media_type="application/json"),
    "no UTF-8": lambda: Response(b'{"text": "\xff"}', media_type="application/json"),
    "broken connection": breaking,
    "half an event": lambda: sse('{"choices": [{"del'),
    "no end": lambda: sse('{"choices": [{"delta": {"content": "Half"}}]}'),
    "nothing": lambda: sse(),
    "error in the stream": lambda: sse('{"error": {"message": "out of memory"}}'),
}
LASTING = {
    "HTML": (lambda: Response("<html>", media_type="text/html"), "'text/html' instead of"),
    "no type": (lambda: Response("{}"), "'no content type' instead of"),
    "another form": (lambda: JSONResponse({"choices": 3, "text": 3}), "unknown form: "),
    "a list": (lambda: JSONResponse([]), "unknown form: the whole"),
    "another event": (lambda: sse('{"choices": [{"delta": 3}], "delta": 3}'), "unknown form: "),
    "no model": (
        lambda: JSONResponse({"error": {"message": "no model 'whisper-1'"}}, 404),
        "status 404: no model 'whisper-1'",
    ),
    "bad key": (
        lambda: JSONResponse({"error": {"message": f"bad key {KEY}"}}, 401),
        r"status 401: bad key \*\*\*",
    ),
}


@BOTH
@pytest.mark.parametrize("fault", PASSING)
def test_what_may_pass_is_tried_again(
    peer: Peer, second: Samples, interface: str, fault: str
) -> None:
    """The second answer is taken, in time, and after as long a wait as was asked for."""
    peer.faults.append(PASSING[fault]())
    begin = time.monotonic()
    found = speech_llm(peer, interface=interface).decode(ask(peer, second))
    assert found.words
    assert len(peer.requests) == 2
    if "too many" in fault:
        assert time.monotonic() - begin >= 1.0


@BOTH
@pytest.mark.parametrize("fault", LASTING)
def test_what_will_not_pass_is_told_at_once(
    peer: Peer, second: Samples, interface: str, fault: str
) -> None:
    """The text says what is wrong, and does not hold the key."""
    response, told = LASTING[fault]
    peer.faults.append(response())
    remote = speech_llm(peer, interface=interface, api_key=KEY)
    with pytest.raises(ModelError, match=told) as caught:
        remote.decode(ask(peer, second))
    assert not isinstance(caught.value, ModelUnavailable)
    assert KEY not in str(caught.value)
    assert len(peer.requests) == 1
    assert peer.headers[-1]["authorization"] == f"Bearer {KEY}"


@BOTH
def test_errors_and_logs_hold_nothing_of_what_was_said(
    peer: Peer, second: Samples, interface: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that repeats the request in its refusal is not quoted."""
    caplog.set_level(logging.DEBUG)
    quoting = {"detail": [{"loc": ["body"], "input": "apixaban"}]}
    peer.faults.extend([PlainTextResponse("apixaban", 500), *[JSONResponse(quoting, 422)] * 4])
    remote = speech_llm(peer, interface=interface, api_key=KEY)
    with pytest.raises(ModelError, match=r"status 422$") as caught:
        remote.decode(ask(peer, second, ["apixaban"], committed="Secretly"))
    for word in ("apixaban", "Secretly", KEY):
        assert word not in caplog.text + str(caught.value)


def test_an_error_that_lasts_is_given_up(peer: Peer, second: Samples) -> None:
    """After as many attempts as are allowed."""
    peer.faults.extend(PlainTextResponse("no", 503) for _ in range(9))
    with pytest.raises(ModelUnavailable, match="answers with status 503"):
        speech_llm(peer, retries=2).decode(ask(peer, second))
    assert len(peer.requests) == 3


def test_a_wait_beyond_the_deadline_is_not_begun(peer: Peer, second: Samples) -> None:
    """The session does not wait for what would come too late."""
    peer.faults.append(JSONResponse({}, 429, {"retry-after": "60"}))
    begin = time.monotonic()
    with pytest.raises(ModelUnavailable, match="429"):
        speech_llm(peer, partial_timeout_s=3).decode(ask(peer, second))
    assert time.monotonic() - begin < 2
    assert len(peer.requests) == 1


@pytest.mark.parametrize("stalled", [": alive\n\n", 'data: {"choices": []}\n\n', "da"])
def test_a_partial_that_is_late_is_dropped_and_a_final_waits_longer(
    peer: Peer, second: Samples, stalled: str
) -> None:
    """Comments that keep a stream alive do not keep the request alive."""
    remote = speech_llm(
        peer, interface="chat", partial_timeout_s=0.5, final_timeout_s=1.5, retries=0
    )
    for final, within_s in ((False, 0.5), (True, 1.5)):
        peer.faults.append(endless(stalled))
        request = ask(peer, second, final=final)
        begin = time.monotonic()
        with pytest.raises(ModelUnavailable, match=f"longer than {within_s} s"):
            remote.decode(request)
        assert within_s <= time.monotonic() - begin < within_s + 0.5


def test_the_deadline_counts_from_when_the_step_was_asked_for(peer: Peer, second: Samples) -> None:
    """A guard that decodes again has no more time than the first decoding left."""
    request = ask(peer, second, asked_at=time.monotonic() - 5)
    with pytest.raises(ModelUnavailable, match="longer than 4 s"):
        speech_llm(peer, partial_timeout_s=4).decode(request)
    assert peer.requests == []


def test_a_text_without_an_end_is_not_read_on(peer: Peer, second: Samples) -> None:
    """More characters than can be said in the time are a model that repeats itself."""
    peer.faults.append(endless('data: {"choices": [{"delta": {"content": " and on"}}]}\n\n'))
    found = speech_llm(peer, interface="chat").decode(ask(peer, second))
    assert 130 < sum(len(word.text) for word in found.words) < 150


def test_connections_are_kept(peer: Peer, second: Samples) -> None:
    """All requests of a client come by one connection, streamed answers included."""
    remote = speech_llm(peer, interface="chat")
    for _ in range(3):
        remote.decode(ask(peer, second))
    assert len(set(peer.ports)) == 1


def test_no_more_requests_than_allowed_are_under_way(peer: Peer, second: Samples) -> None:
    """A request beyond waits, and only as long as it is of use."""
    remote = speech_llm(
        peer, interface="chat", max_concurrent=1, partial_timeout_s=0.5, final_timeout_s=2
    )
    partial, final = ask(peer, second), ask(peer, second, final=True)
    peer.faults.append(endless(": alive\n\n"))
    with ThreadPoolExecutor() as pool:
        held = pool.submit(remote.decode, final)
        while not peer.requests:
            time.sleep(0.01)
        with pytest.raises(ModelUnavailable, match=r"longer than 0.5 s"):
            remote.decode(partial)
        with pytest.raises(ModelUnavailable, match="longer than 2 s"):
            held.result()
    assert len(peer.requests) == 1


def test_a_server_that_is_not_there_is_told(peer: Peer, second: Samples) -> None:
    """The address is not, since clients see the text."""
    away = speech_llm(peer, base_url="http://127.0.0.1:1/v1", retries=1)
    with pytest.raises(ModelUnavailable, match=r"server cannot be reached$"):
        away.decode(ask(peer, second))


def test_models_are_listed(peer: Peer) -> None:
    """For checking settings."""
    settings = OpenAISettings(base_url=peer.url, model="whisper-1")
    assert OpenAIServer(settings).models(Deadline.after(5)) == ["whisper-1"]


def test_retry_after_is_a_number_or_a_date() -> None:
    """Nonsense counts as nothing, a date in the past too."""
    assert retry_after_s("7") == 7
    assert retry_after_s(in_future(60)) == pytest.approx(60, abs=2)
    assert [retry_after_s(text) for text in (None, "", "soon", in_future(-60))] == [0] * 4
