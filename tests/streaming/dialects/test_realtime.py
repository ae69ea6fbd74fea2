"""Realtime's messages: other wordings, what is not understood, how it ends, and anything at all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.commands import Audio, Flush, Start
from streaming.dialects.base import Goodbye
from streaming.errors import (
    BadJson,
    IdleTimeout,
    ProtocolError,
    RateLimited,
    ServerFull,
    ShuttingDown,
)
from streaming.events import Event, Flushed
from tests.streaming.dialects.realtime_client import (
    LOGPROBS,
    Client,
    Message,
    audio_input,
    base64_of,
    by_client,
    by_server,
    by_vllm,
    end,
    failure,
    final,
    kinds,
    partial,
    started,
    stopped,
)

# vLLM's protocol


def test_vllm_is_told_deltas_and_the_whole_text() -> None:
    """Nothing else; a text ends with the commit that says so."""
    client = by_vllm()
    told = client.told(started(1), partial(1, "One", " two"), stopped(1), final(1, "One two."))
    assert told == [
        {"type": "transcription.delta", "delta": "One"},
        {"type": "transcription.delta", "delta": " two."},
    ]
    assert client.commit(final=True) == [] and client.commands == [Flush()]
    (done,) = client.told(Flushed())
    assert done == {"type": "transcription.done", "text": "One two.", "usage": None}


def test_vllm_sends_16_khz() -> None:
    """And leaves language and glossary to the server."""
    client = Client(strict=False)
    client.send({"type": "session.update", "model": "voxtral"})
    start, _ = client.append(rate_hz=16_000)
    assert isinstance(start, Start)
    assert start.audio.sample_rate_hz == 16_000 and start.glossary.default


def test_vllm_without_audio() -> None:
    """The text is empty, and comes at once."""
    client = Client(strict=False)
    client.send({"type": "session.update", "model": "voxtral"})
    (done,) = client.commit(final=True)
    assert done == {"type": "transcription.done", "text": "", "usage": None}


def test_errors_of_vllm() -> None:
    """A text and a code."""
    client = by_vllm()
    (told,) = client.send({"type": "nonsense"})
    assert told["type"] == "error" and told["code"] == "invalid_value"
    assert told["error"].startswith('type is "nonsense"')
    (told,) = client.told(failure(1))
    assert told == {"type": "error", "error": "the model failed", "code": "model_failed"}
    assert client.clear() == []


# Messages that are not understood, and the end


def test_the_beta_has_other_names_for_items() -> None:
    """And none for one that is done."""
    client = by_server(strict=False, headers={"openai-beta": "realtime=v1"})
    told = client.told(started(1), stopped(1), final(1, "Yes."))
    assert kinds(told)[2:] == [
        "input_audio_buffer.committed",
        "conversation.item.created",
        "delta",
        "completed",
    ]


@pytest.mark.parametrize(
    ("message", "code", "param"),
    [
        ("nonsense", "invalid_json", None),
        ("[]", "invalid_json", None),
        ({"type": "response.create"}, "invalid_value", "type"),
        ({}, "invalid_value", "type"),
        ({"type": "input_audio_buffer.append"}, "invalid_value", "audio"),
        ({"type": "input_audio_buffer.append", "audio": 1}, "invalid_value", "audio"),
        ({"type": "input_audio_buffer.append", "audio": "AA=A"}, "invalid_value", "audio"),
        ({"type": "input_audio_buffer.append", "audio": "ä"}, "invalid_value", "audio"),
    ],
)
def test_messages_that_are_not_understood(message: Any, code: str, param: str | None) -> None:
    """Are told about under the client's name for them, and the session goes on."""
    client = Client()
    if isinstance(message, dict):
        message["event_id"] = "mine"
    error = client.trouble(message)
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
    assert error["event_id"] == ("mine" if isinstance(message, dict) else None)
    client.append()


def test_binary_messages_are_refused() -> None:
    """And the session goes on."""
    client = Client()
    with pytest.raises(ProtocolError) as caught:
        client.dialect.receive_bytes(b"\0\0")
    (told,) = client.heard(client.dialect.refuse(caught.value))
    assert told["error"]["code"] == "invalid_event" and "base64" in told["error"]["message"]


def test_an_error_after_another_has_no_name_of_it() -> None:
    """The client's name belongs to one message."""
    client = Client()
    client.trouble({"type": "x", "event_id": "mine"})
    assert client.trouble("nonsense")["event_id"] is None
    assert client.heard(client.dialect.refuse(BadJson("x")))[0]["error"]["event_id"] is None


def test_audio_comes_as_base64() -> None:
    """In pieces of any size; an empty one is none."""
    client = Client()
    assert client.send({"type": "input_audio_buffer.append", "audio": ""}) == []
    assert client.commands == []
    client.send({"type": "input_audio_buffer.append", "audio": base64_of(b"abc")})
    assert client.commands[1:] == [Audio(b"abc")]


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (ServerFull("all 8 sessions are taken"), 1013, "full; retry after 5 s"),
        (RateLimited("too fast", retry_after_s=5), 1013, "rate_limited; retry after 5 s"),
        (ShuttingDown("stopping"), 1012, "shutting_down; retry after 5 s"),
        (RuntimeError("secret"), 1011, "internal; retry after 5 s"),
    ],
)
def test_clients_that_may_come_back_are_told_so_by_the_close_alone(
    error: Exception, code: int, reason: str
) -> None:
    """An error event before it would be the end for some of them."""
    assert end(Client(), error, 5.0) == Goodbye((), code, reason)


def test_clients_that_may_not_come_back_are_told_why() -> None:
    """As an error, before the close."""
    client = by_server()
    texts, code, reason = end(client, IdleTimeout("nothing came for 10 s"))
    (told,) = client.heard(texts)
    assert told["error"]["message"] == "nothing came for 10 s"
    assert (code, reason) == (1008, "idle_timeout")


def test_good_order() -> None:
    """Needs no words."""
    assert end(by_server(), None) == Goodbye((), 1000, "")


def test_what_was_said_last_is_told_before_the_server_stops() -> None:
    """Though the client has not committed it."""
    client = by_client()
    client.told(final(1, "One."))
    client.commit()
    client.told(final(2, "Two."))
    told = client.heard(end(client, ShuttingDown("stopping")).messages)
    assert kinds(told) == ["completed", "conversation.item.done"]
    assert told[0]["transcript"] == "One. Two."
    client = by_client()
    client.told(final(1, "One."))
    told = client.heard(end(client, ShuttingDown("stopping")).messages)
    assert kinds(told)[:2] == ["input_audio_buffer.committed", "conversation.item.added"]
    assert told[-2]["transcript"] == "One."
    assert end(by_client(), ShuttingDown("stopping")).messages == ()


# Anything at all

SEGMENTS = st.integers(1, 4)
TEXTS = st.sampled_from(["", "a", "a b", "a b c.", "x y", "ä 水"])
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(started, SEGMENTS),
    st.builds(stopped, SEGMENTS),
    st.builds(partial, SEGMENTS, TEXTS, TEXTS),
    st.builds(final, SEGMENTS, TEXTS),
    st.builds(failure, st.none() | SEGMENTS),
    st.just(Flushed()),
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    "type session audio input format rate transcription turn_detection noise_reduction language"
    " languages keywords prompt delay glossary_id model include eagerness silence_duration_ms"
    " threshold event_id input_audio_format input_audio_transcription final".split()
)
NESTED = st.recursive(JSON_VALUES, lambda inner: st.dictionaries(FIELDS, inner, max_size=4))
TYPES = st.sampled_from(
    [
        "session.update",
        "transcription_session.update",
        "input_audio_buffer.append",
        "input_audio_buffer.commit",
        "input_audio_buffer.clear",
        "input_audio_buffer.append",
    ]
)
SOME_AUDIO = {"type": "input_audio_buffer.append", "audio": base64_of(bytes(24_000))}
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.just(SOME_AUDIO),
    st.builds(
        lambda kind, values: {**values, "type": kind}, TYPES, st.dictionaries(FIELDS, NESTED)
    ),
    st.sampled_from(
        [
            {"type": "input_audio_buffer.commit"},
            {"type": "input_audio_buffer.clear"},
            audio_input(turn_detection=None),
            {"type": "session.update", "model": "m"},
            {"type": "session.update", "session": {"include": [LOGPROBS]}},
        ]
    ),
)


@given(st.lists(EVENTS | MESSAGES, max_size=24))
def test_whatever_comes_texts_are_their_deltas(script: list[Event | Message]) -> None:
    """Each transcript is its item's deltas in a row, told once, of an item committed before."""
    client = Client(strict=False)
    told: list[Message] = []
    for act in script:
        told += client.send(json.dumps(act)) if isinstance(act, dict) else client.told(act)
    told += client.heard(end(client, ShuttingDown("stopping")).messages)
    deltas: dict[str, str] = {}
    committed: list[str] = []
    completed: list[str] = []
    for event in told:
        item = event.get("item_id", "")
        match event["type"].rsplit(".", 1)[-1]:
            case "delta" if item:
                assert item not in completed
                deltas[item] = deltas.get(item, "") + event["delta"]
            case "committed":
                assert event["previous_item_id"] == (committed[-1] if committed else None)
                committed.append(item)
            case "completed":
                assert event["transcript"] == deltas.get(item, "")
                completed.append(item)
    assert len(set(completed)) == len(completed) and set(completed) <= set(committed)


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_random_text_is_answered_with_an_error(text: str) -> None:
    """Noise is refused, never crashed on."""
    assert Client().trouble(text)["type"] == "invalid_request_error"
