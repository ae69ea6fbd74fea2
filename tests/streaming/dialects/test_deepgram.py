"""Deepgram's live interface, message by message: the core alone, without sockets and models."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2p_engine.errors import AudioError, GlossaryError, ModelError
from a2p_engine.types import Word
from streaming.commands import Audio, Command, EditGlossary, Flush, Offer, Stop
from streaming.dialects.base import Handshake
from streaming.dialects.deepgram import COMMANDS, Deepgram, plain
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
    EndReason,
    Event,
    Final,
    Flushed,
    GlossaryUpdated,
    Partial,
    SessionEnded,
    SpeechStarted,
    SpeechStopped,
    Stats,
)

OFFER = Offer(languages=("auto", "en", "de"), glossaries=("ward",), speech_llm="whisper-base")
HZ = 16_000
WORDS = (
    Word(text=" Give", start_sample=16_000, end_sample=20_000, probability=0.9),
    Word(text=" apixaban,", start_sample=20_000, end_sample=30_000, probability=0.5),
    Word(text=" Tom's.", start_sample=30_000, end_sample=40_000, probability=0.99),
)
TEXT = "Give apixaban, Tom's."

Message = dict[str, Any]


def listening(query: str = "model=nova-3&encoding=linear16", *subprotocols: str) -> Deepgram:
    """A connection at its beginning; the query as it stands in a URL, undecoded."""
    pairs = tuple(tuple(pair.split("=", 1)) for pair in query.split("&") if pair)
    handshake = Handshake(path="/v1/listen", query=pairs, subprotocols=subprotocols)  # type: ignore[arg-type]
    return Deepgram(handshake, OFFER, request_id="r-1", created="2026-01-02T03:04:05.000Z")


def partial(**fields: Any) -> Partial:
    """An interim hypothesis from 0.8 s to 2.6 s."""
    given = {"segment_id": 1, "revision": 1, "start_sample": 12_800, "end_sample": 41_600}
    text = {"committed": "Give apixaban,", "volatile": " Tom's.", "words": WORDS, "language": "en"}
    return Partial(**{**given, **text, **fields})


def final(reason: EndReason = "endpoint", **fields: Any) -> Final:
    """The caption of the same speech."""
    given = {"segment_id": 1, "revision": 2, "start_sample": 12_800, "end_sample": 48_000}
    text = {"text": TEXT, "language": "en", "reason": reason, "words": WORDS}
    return Final(**{**given, **text, **fields})


def stats(audio_s: float, lag_s: float = 0.0) -> Stats:
    """How far the audio is."""
    return Stats(audio_samples=round(audio_s * HZ), lag_samples=round(lag_s * HZ))


def started(segment_id: int, time_s: float) -> SpeechStarted:
    """Speech from there on."""
    return SpeechStarted(segment_id=segment_id, time_sample=round(time_s * HZ))


def stopped(segment_id: int, time_s: float) -> SpeechStopped:
    """No more speech from there on."""
    return SpeechStopped(segment_id=segment_id, time_sample=round(time_s * HZ))


def told(dialect: Deepgram, *events: Event) -> list[Message]:
    """The messages that tell the events."""
    return [json.loads(text) for event in events for text in dialect.send(event)]


def one(dialect: Deepgram, event: Event) -> Message:
    """The one message that tells an event."""
    (message,) = told(dialect, event)
    return message


def sent(dialect: Deepgram, **message: Any) -> tuple[Command, ...]:
    """The commands that a message makes."""
    return dialect.receive_text(json.dumps(message)).commands


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


# Results


def test_an_interim_has_everything_that_clients_read() -> None:
    """Times are seconds, confidence is that of the words, the transcript is as written."""
    assert one(listening(), partial()) == {
        "type": "Results",
        "channel_index": [0, 1],
        "start": 0.8,
        "duration": 1.8,
        "is_final": False,
        "speech_final": False,
        "from_finalize": False,
        "channel": {
            "alternatives": [
                {
                    "transcript": TEXT,
                    "confidence": 0.9,
                    "words": [
                        {
                            "word": word,
                            "start": start,
                            "end": end,
                            "confidence": confidence,
                            "punctuated_word": written,
                        }
                        for word, start, end, confidence, written in (
                            ("give", 1.0, 1.25, 0.9, "Give"),
                            ("apixaban", 1.25, 1.875, 0.5, "apixaban,"),
                            ("tom's", 1.875, 2.5, 0.99, "Tom's."),
                        )
                    ],
                }
            ]
        },
        "metadata": {
            "request_id": "r-1",
            "model_info": {"name": "whisper-base", "version": "unknown", "arch": "whisper"},
            "model_uuid": str(uuid.uuid5(uuid.NAMESPACE_URL, "whisper-base")),
        },
    }


def test_interims_and_the_final_share_their_start() -> None:
    """That is how a client knows what replaces what."""
    dialect = listening()
    messages = told(dialect, partial(), partial(revision=2, volatile=" Tom."), final())
    assert {message["start"] for message in messages} == {0.8}
    assert [message["is_final"] for message in messages] == [False, False, True]
    assert messages[-1]["duration"] == 2.2


@pytest.mark.parametrize(
    ("reason", "endpointing", "speech_final"),
    [
        ("endpoint", "300", True),
        ("endpoint", "false", False),
        ("max_length", "300", False),
        ("flush", "false", True),
        ("stop", "false", True),
    ],
)
def test_speech_final_tells_that_nothing_of_the_utterance_follows(
    reason: EndReason, endpointing: str, speech_final: bool
) -> None:
    """At the endpoint if it was asked for, at a flush and at the end; not at a cut."""
    message = one(listening(f"endpointing={endpointing}"), final(reason))
    assert message["is_final"] is True and message["speech_final"] is speech_final


def test_the_confidence_is_the_upper_median_of_the_words() -> None:
    """It is one of the words' own, and 0 where there is none."""
    dialect = listening()
    message = one(dialect, final(words=WORDS[:2]))
    assert message["channel"]["alternatives"][0]["confidence"] == 0.9
    message = one(dialect, final(text="", words=()))
    assert message["channel"]["alternatives"] == [
        {"transcript": "", "confidence": 0.0, "words": []}
    ]


@pytest.mark.parametrize(
    ("query", "transcript"),
    [
        ("", TEXT),
        ("punctuate=true", TEXT),
        ("punctuate=false", "give apixaban tom's"),
        ("punctuate=False&smart_format=True", TEXT),
    ],
)
def test_case_and_punctuation_go_only_when_they_are_refused(query: str, transcript: str) -> None:
    """Words have both forms in any case."""
    (said,) = one(listening(query), final())["channel"]["alternatives"]
    assert said["transcript"] == transcript
    assert [word["punctuated_word"] for word in said["words"]] == ["Give", "apixaban,", "Tom's."]


@pytest.mark.parametrize(
    ("written", "expected"),
    [("Tom's.", "tom's"), ("«C-17»", "c-17"), ("--", ""), ("", ""), ("3.5", "3.5"), ("É", "é")],
)
def test_a_plain_word_has_no_punctuation_around_it(written: str, expected: str) -> None:
    """What is inside of it stays."""
    assert plain(written) == expected


def test_a_word_of_punctuation_alone_keeps_it() -> None:
    """A word is never empty."""
    dash = Word(text=" --", start_sample=0, end_sample=1, probability=1)
    (said,) = one(listening(), final(words=(dash,)))["channel"]["alternatives"]
    assert said["words"][0]["word"] == said["words"][0]["punctuated_word"] == "--"


@pytest.mark.parametrize("query", ["language=multi", "detect_language=true"])
def test_the_language_is_told_when_it_was_asked(query: str) -> None:
    """Of the transcript and of each word."""
    (said,) = one(listening(query), final(language="de"))["channel"]["alternatives"]
    assert said["languages"] == ["de"] and {word["language"] for word in said["words"]} == {"de"}
    (said,) = one(listening("language=de"), final(language="de"))["channel"]["alternatives"]
    assert "languages" not in said and "language" not in said["words"][0]


# Finalize


def test_a_finalize_is_answered_by_the_final_it_makes() -> None:
    """Once, although ``flushed`` follows."""
    dialect = listening()
    sent(dialect, type="Finalize")
    message, *rest = told(dialect, final("flush"), Flushed())
    assert message["from_finalize"] and message["is_final"] and message["speech_final"] and not rest
    assert not one(dialect, final())["from_finalize"]


def test_a_finalize_with_nothing_to_say_is_answered_too() -> None:
    """By an empty final where the audio is, as clients wait for it."""
    dialect = listening()
    told(dialect, final())
    sent(dialect, type="Finalize")
    message = one(dialect, Flushed())
    assert message["from_finalize"] and message["is_final"] and message["speech_final"]
    assert (message["start"], message["duration"]) == (3.0, 0.0)
    assert message["channel"]["alternatives"][0]["transcript"] == ""


def test_finals_of_what_was_said_before_do_not_answer_it() -> None:
    """Only the one that it cut short."""
    dialect = listening()
    sent(dialect, type="Finalize")
    messages = told(dialect, final(), final("flush"), Flushed())
    assert [message["from_finalize"] for message in messages] == [False, True]


def test_each_finalize_is_answered() -> None:
    """In order, however close they follow each other."""
    dialect = listening()
    for _ in range(3):
        sent(dialect, type="Finalize")
    messages = told(dialect, final("flush"), Flushed(), Flushed(), Flushed(), Flushed())
    transcripts = [one["channel"]["alternatives"][0]["transcript"] for one in messages]
    assert transcripts == [TEXT, "", ""]
    assert all(message["from_finalize"] for message in messages)


# Speech and its end


def test_the_beginning_of_speech_is_told_if_wanted() -> None:
    """In seconds."""
    event = SpeechStarted(segment_id=1, time_sample=12_000)
    expected = {"type": "SpeechStarted", "channel": [0, 1], "timestamp": 0.75}
    assert one(listening("vad_events=true"), event) == expected
    assert told(listening(), event) == []


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
