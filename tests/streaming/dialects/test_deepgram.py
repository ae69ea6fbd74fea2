"""Deepgram's live interface, message by message: the core alone, without sockets and models."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2p_engine.errors import AudioError, GlossaryError, ModelError
from a2p_engine.types import Word
from streaming.commands import Audio, EditGlossary, Flush, Stop
from streaming.dialects.deepgram import COMMANDS
from streaming.errors import (
    BadCommand,
    BadJson,
    IdleTimeout,
    ProtocolError,
    ServerFull,
    ShuttingDown,
    TruncatedAudio,
    error_event,
)
from streaming.events import (
    Event,
    Flushed,
    GlossaryUpdated,
    SessionEnded,
    SpeechStarted,
    SpeechStopped,
    Stats,
)
from tests.streaming.dialects.deepgram_core import (
    HZ,
    WORDS,
    Message,
    final,
    listening,
    one,
    partial,
    sent,
    told,
)

# The connection


@pytest.mark.parametrize("scheme", ["token", "bearer"])
def test_the_subprotocol_of_browsers_is_answered(scheme: str) -> None:
    """The scheme comes back, never the key."""
    assert listening("", scheme, "KEY").subprotocol == scheme


@pytest.mark.parametrize("offered", [(), ("KEY", "token"), ("a2p",)])
def test_other_subprotocols_are_not(offered: tuple[str, ...]) -> None:
    """Nothing is accepted that was not meant."""
    assert listening("", *offered).subprotocol is None


def test_the_session_begins_at_once() -> None:
    """No message is needed, and none is sent."""
    ((command,), replies) = listening().greet()
    assert type(command).__name__ == "Start" and not replies


def test_a_silent_client_is_given_up_after_ten_seconds_but_not_after_it_has_closed() -> None:
    """Behind CloseStream only the server has something to say, which may take longer."""
    dialect = listening()
    assert dialect.idle_timeout_s == 10.0
    sent(dialect, type="CloseStream")
    assert dialect.idle_timeout_s is None


# What comes in


def test_audio_is_passed_on() -> None:
    """As it is."""
    assert listening().receive_bytes(b"\1\2").commands == (Audio(b"\1\2"),)


def test_keep_alive_does_nothing() -> None:
    """It has done its work by coming."""
    assert listening().receive_text('{"type":"KeepAlive"}') == ((), ())


@pytest.mark.parametrize("fields", [{}, {"channel": 0}])
def test_finalize_flushes(fields: Message) -> None:
    """Also when it names the channel, of which there is one."""
    assert sent(listening(), type="Finalize", **fields) == (Flush(),)


def test_close_stream_stops_and_nothing_comes_after_it() -> None:
    """What was under way is ignored, whatever it is."""
    dialect = listening()
    assert sent(dialect, type="CloseStream") == (Stop(),)
    assert dialect.receive_bytes(b"\1\2") == ((), ())
    assert dialect.receive_text("no JSON") == ((), ())


def test_an_empty_message_closes_as_it_used_to() -> None:
    """Old clients send one instead of CloseStream."""
    dialect = listening()
    assert dialect.receive_bytes(b"").commands == (Stop(),)
    assert dialect.receive_bytes(b"\1\2").commands == ()


def test_configure_replaces_the_keyterms() -> None:
    """What is new is added, what is not named any more goes, the rest stays untouched."""
    dialect = listening("keyterm=apixaban&keyterm=Dr. Ahn")
    commands = sent(dialect, type="Configure", keyterms=["Dr. Ahn", "warfarin", "warfarin", " "])
    assert commands == (EditGlossary(add=("warfarin",), remove=("apixaban",)),)
    commands = sent(dialect, type="Configure", keyterms=[])
    assert commands == (EditGlossary(remove=("Dr. Ahn", "warfarin")),)


def test_configure_of_very_many_keyterms_is_no_failure() -> None:
    """There is no limit but the length of a message."""
    terms = tuple(f"term {number}" for number in range(10_000))
    commands = sent(listening(), type="Configure", keyterms=terms)
    assert commands == (EditGlossary(add=terms),)


@pytest.mark.parametrize("fields", [{}, {"keyterms": None}, {"features": {"numerals": True}}])
def test_configure_without_keyterms_succeeds_at_once(fields: Message) -> None:
    """There is nothing to change."""
    commands, (reply,) = listening().receive_text(json.dumps({"type": "Configure", **fields}))
    assert not commands
    assert json.loads(str(reply)) == {"type": "ConfigureSuccess", "request_id": "r-1"}


@pytest.mark.parametrize(
    "text", ["no JSON", "[]", '{"type":"Finalise"}', "{}", '{"type":"Configure","keyterms":"a"}']
)
def test_what_is_not_understood_is_told_and_skipped(text: str) -> None:
    """The error has the name that the clients know and gives back what was sent."""
    dialect = listening()
    with pytest.raises((BadCommand, BadJson)) as caught:
        dialect.receive_text(text)
    answer = dialect.refuse(caught.value)
    assert answer is not None
    error = json.loads(str(answer[0]))
    assert (error["type"], error["variant"], error["message"]) == ("Error", "SchemaError", text)
    assert error["description"] == str(caught.value)
    assert sent(dialect, type="Finalize") == (Flush(),)


def test_an_unknown_type_is_told_what_there_is() -> None:
    """By name."""
    with pytest.raises(BadCommand, match=r'type "Flush"; accepted: KeepAlive, Finalize, CloseStr'):
        sent(listening(), type="Flush")


# Speech and its end


def test_the_beginning_of_speech_is_told_if_wanted() -> None:
    """In seconds."""
    event = SpeechStarted(segment_id=1, time_sample=12_000)
    expected = {"type": "SpeechStarted", "channel": [0, 1], "timestamp": 0.75}
    assert one(listening("vad_events=true"), event) == expected
    assert told(listening(), event) == []


def stats(audio_s: float, lag_s: float = 0.0) -> Stats:
    """How far the audio is."""
    return Stats(audio_samples=round(audio_s * HZ), lag_samples=round(lag_s * HZ))


def started(segment_id: int, time_s: float) -> SpeechStarted:
    """Speech from there on."""
    return SpeechStarted(segment_id=segment_id, time_sample=round(time_s * HZ))


def stopped(segment_id: int, time_s: float) -> SpeechStopped:
    """No more speech from there on."""
    return SpeechStopped(segment_id=segment_id, time_sample=round(time_s * HZ))


def utterance_ends(*events: Event, gap_ms: int = 1000) -> list[float]:
    """The ends that are told; the speech of ``final`` ends at 2.5 s."""
    messages = told(listening(f"utterance_end_ms={gap_ms}"), *events)
    ends = [message for message in messages if message["type"] == "UtteranceEnd"]
    assert all(message["channel"] == [0, 1] for message in ends)
    return [message["last_word_end"] for message in ends]


def test_an_utterance_ends_when_the_audio_is_that_far_behind_its_last_word() -> None:
    """Once; the clock is that of the audio."""
    assert utterance_ends(final(), stats(3.4)) == []
    assert utterance_ends(final(), stats(3.5), stats(9)) == [2.5]
    assert utterance_ends(final(), stats(3.5), gap_ms=1500) == []


def test_without_words_no_utterance_ends() -> None:
    """Silence alone is none."""
    assert utterance_ends(stats(60), final(text="", words=()), stats(90)) == []


def test_audio_that_was_not_heard_yet_may_hold_words() -> None:
    """A slow engine makes it late, not wrong."""
    assert utterance_ends(final(), stats(5.0, lag_s=2.0)) == []
    assert utterance_ends(final(), stats(5.0, lag_s=2.0), stats(5.0)) == [2.5]


def test_speech_in_the_gap_may_go_on_with_the_utterance() -> None:
    """What was said of it is waited for, then the gap counts from its last word."""
    events = (final(), started(2, 3.0), stats(4.0), stopped(2, 3.6), stats(4.5, lag_s=1))
    assert utterance_ends(*events) == []
    late = Word(text=" late", start_sample=48_000, end_sample=56_000, probability=1)
    assert utterance_ends(*events, final(segment_id=2, words=(late,)), stats(4.6)) == [3.5]


def test_a_noise_in_the_gap_only_delays_the_end() -> None:
    """Speech that turns out to have had no words is forgotten."""
    events = (final(), started(2, 3.0), stats(3.6), stopped(2, 3.2))
    assert utterance_ends(*events, stats(3.7)) == [2.5]


def test_speech_behind_the_gap_ends_the_utterance_before_it() -> None:
    """At once."""
    assert utterance_ends(final(), started(2, 3.6)) == [2.5]
    assert utterance_ends(final(), started(2, 3.4)) == []


def test_the_first_of_several_waiting_segments_decides() -> None:
    """A backlog must not make a gap of what was not read yet."""
    assert utterance_ends(final(), started(2, 3.0), stopped(2, 4.0), started(3, 8.0)) == []


def test_the_end_is_told_before_what_comes_after_it() -> None:
    """The next final's words show the gap even without statistics."""
    late = Word(text=" late", start_sample=80_000, end_sample=88_000, probability=1)
    dialect = listening("utterance_end_ms=1000")
    messages = told(dialect, final(), final(segment_id=2, words=(late,)))
    assert [message["type"] for message in messages] == ["Results", "UtteranceEnd", "Results"]


def test_utterance_ends_are_told_only_if_wanted() -> None:
    """By default there are none."""
    assert [m["type"] for m in told(listening(), final(), stats(60))] == ["Results"]


# Glossary


def updated(**fields: Any) -> GlossaryUpdated:
    """An edit is in force."""
    return GlossaryUpdated(version=2, terms=2, added=1, removed=0, audio_time_sample=0, **fields)


def test_configure_is_answered_once_it_is_in_force() -> None:
    """With the keyterms that are, without those that could not be used."""
    dialect = listening("keyterm=a1")
    assert sent(dialect, type="Configure", keyterms=["a1", "b2", "--"])
    message = one(dialect, updated(rejected=(("--", "has no letter or digit"),)))
    expected = {"type": "ConfigureSuccess", "request_id": "r-1", "keyterms": ["a1", "b2"]}
    assert message == expected


def test_changes_that_nobody_asked_for_are_not_told() -> None:
    """The server's own glossary may change during a session."""
    assert told(listening(), updated()) == []


def test_a_configure_that_fails_is_told_as_such() -> None:
    """With a code that the clients know; the next one is answered for itself."""
    dialect = listening()
    sent(dialect, type="Configure", keyterms=["a1"])
    sent(dialect, type="Configure", keyterms=["b2"])
    failed = error_event(GlossaryError("cannot load 'a1'"), fatal=False)
    assert one(dialect, failed) == {
        "type": "ConfigureFailure",
        "request_id": "r-1",
        "code": "CONFIGURE_INTERNAL_ERROR",
        "description": "cannot load 'a1'",
    }
    assert one(dialect, updated())["keyterms"] == ["b2"]


def test_other_errors_are_told_as_errors() -> None:
    """The session goes on, whether a Configure waits or not."""
    dialect = listening()
    sent(dialect, type="Configure", keyterms=["a1"])
    error = one(
        dialect, error_event(TruncatedAudio("the audio ended inside a sample"), fatal=False)
    )
    assert (error["type"], error["variant"]) == ("Error", "truncated_audio")
    assert error["description"] == error["message"] == "the audio ended inside a sample"
    assert one(dialect, updated())["type"] == "ConfigureSuccess"


# The end


def test_the_metadata_comes_last() -> None:
    """It sums up the audio and gives back what came along."""
    dialect = listening("encoding=mulaw&tag=ward 3&tag=test&extra=case:7:a&extra=who")
    for data in (b"abc", b"def"):
        dialect.receive_bytes(data)
    assert told(dialect, SessionEnded(audio_samples=24_000)) == []
    (text,), code, reason = dialect.goodbye(None, None)
    metadata = json.loads(str(text))
    (model_uuid,) = metadata.pop("models")
    model = {"name": "whisper-base", "version": "unknown", "arch": "whisper"}
    assert metadata.pop("model_info") == {model_uuid: model}
    assert metadata == {
        "type": "Metadata",
        "transaction_key": "deprecated",
        "request_id": "r-1",
        "sha256": hashlib.sha256(b"abcdef").hexdigest(),
        "created": "2026-01-02T03:04:05.000Z",
        "duration": 1.5,
        "channels": 1,
        "tags": ["ward 3", "test"],
        "extra": {"case": "7:a", "who": ""},
    }
    assert (code, reason) == (1000, "")


@pytest.mark.parametrize(
    ("error", "variant", "code", "reason"),
    [
        (IdleTimeout("nothing came for 10 s"), "NET-0001", 1011, "NET-0001: no audio data and no"),
        (AudioError("no known container"), "DATA-0000", 1008, "DATA-0000: no known container"),
        (ServerFull("all taken"), "full", 1013, "full; retry after 5 s"),
        (ShuttingDown("stopping"), "shutting_down", 1012, "shutting_down"),
        (ModelError("broken"), "model_failed", 1011, "model_failed"),
    ],
)
def test_what_went_wrong_is_told_before_the_close(
    error: Exception, variant: str, code: int, reason: str
) -> None:
    """In a message and in the close frame, by the names that the clients' manuals use."""
    retry_after_s = 5.0 if isinstance(error, ServerFull) else None
    (text,), closed, said = listening().goodbye(error, retry_after_s)
    message = json.loads(str(text))
    assert (message["type"], message["variant"], closed) == ("Error", variant, code)
    assert said.startswith(reason) and message["description"]


def test_long_reasons_fit_into_a_close_frame() -> None:
    """123 bytes, cut between characters."""
    _, _, reason = listening().goodbye(AudioError("ü" * 200), None)
    assert len(reason.encode()) <= 123 and reason.endswith("ü")


def test_an_unforeseen_error_says_nothing_of_the_servers_insides() -> None:
    """That is in the log."""
    (text,), code, _ = listening().goodbye(RuntimeError("secret path"), None)
    assert code == 1011 and "secret" not in str(text)


# Whatever comes


@settings(max_examples=500)
@given(
    st.one_of(
        st.text(),
        st.builds(
            lambda kind, rest: json.dumps({**rest, "type": kind}),
            st.sampled_from([*COMMANDS, "Start", None, 7]),
            st.dictionaries(
                st.sampled_from(["keyterms", "features", "channel", "x"]),
                st.recursive(
                    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
                    lambda inner: st.lists(inner, max_size=4),
                ),
                max_size=4,
            ),
        ),
    )
)
def test_any_text_is_understood_or_refused(text: str) -> None:
    """Nothing but a ProtocolError comes out, and its answer is JSON."""
    dialect = listening()
    try:
        dialect.receive_text(text)
    except ProtocolError as error:
        (answer,) = dialect.refuse(error) or ("",)
        assert json.loads(str(answer))["type"] == "Error"


EVENTS = st.one_of(
    st.builds(started, st.integers(1, 3), st.floats(0, 9)),
    st.builds(stopped, st.integers(1, 3), st.floats(0, 9)),
    st.builds(stats, st.floats(0, 99), st.floats(0, 9)),
    st.builds(lambda words: partial(words=words), st.sampled_from([(), WORDS])),
    st.builds(
        lambda reason, segment_id, words: final(reason, segment_id=segment_id, words=words),
        st.sampled_from(["endpoint", "max_length", "flush", "stop"]),
        st.integers(1, 3),
        st.sampled_from([(), WORDS]),
    ),
    st.just(Flushed()),
    st.builds(updated),
    st.builds(lambda: error_event(ModelError("broken"), fatal=False)),
)


@settings(max_examples=200)
@given(
    st.sampled_from(["", "vad_events=1&utterance_end_ms=1000&language=multi&punctuate=false"]),
    st.lists(EVENTS | st.sampled_from(["Finalize", "Configure", "CloseStream"]), max_size=30),
)
def test_any_order_of_events_and_commands_gives_messages(
    query: str, acts: list[Event | str]
) -> None:
    """All of them are JSON objects with a type; there are as many answers as questions at most."""
    dialect, finalized, asked = listening(query), 0, 0
    for act in acts:
        if isinstance(act, str):
            asked += bool(sent(dialect, type=act, keyterms=["a"]) and act == "Finalize")
            continue
        messages = told(dialect, act)
        assert all(message["type"] for message in messages)
        finalized += sum(message.get("from_finalize", False) for message in messages)
    assert finalized <= asked
    assert json.loads(str(dialect.goodbye(None, None).messages[0]))["type"] == "Metadata"
