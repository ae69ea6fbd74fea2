"""Vosk's protocol: one reply a frame, nothing unasked, and the exact texts of Vosk's server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2p_engine.errors import ModelError
from a2p_engine.types import Word
from streaming.commands import Audio, EditGlossary, Flush, Offer, Start, Stop
from streaming.dialects.base import Handshake
from streaming.dialects.vosk import Vosk, dump
from streaming.errors import (
    BadCommand,
    BadJson,
    BadOption,
    ProtocolError,
    ServerFull,
    ShuttingDown,
    TruncatedAudio,
    error_event,
)
from streaming.events import (
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

OFFER = Offer(languages=("auto", "en", "de"), glossaries=("ward",))
EMPTY_PARTIAL = '{\n  "partial" : ""\n}'
EMPTY_TEXT = '{\n  "text" : ""\n}'
HZ = 16_000


def vosk(*query: tuple[str, str], subprotocols: tuple[str, ...] = (), opened_s: float = 0) -> Vosk:
    """A connection that was greeted."""
    handshake = Handshake(path="/vosk", query=query, subprotocols=subprotocols)
    dialect = Vosk(handshake, OFFER, sample_rate_hz=8000, opened_s=opened_s)
    assert dialect.greet() == ((), ())
    return dialect


def word(text: str, start_s: float, end_s: float, probability: float = 1.0) -> Word:
    """A word as the engine makes it."""
    return Word(
        text=f" {text}",
        start_sample=round(start_s * HZ),
        end_sample=round(end_s * HZ),
        probability=probability,
    )


def partial(text: str, segment_id: int = 1, *, committed: str = "", **more: Any) -> Partial:
    """What a segment says so far."""
    return Partial(
        segment_id=segment_id,
        revision=1,
        start_sample=0,
        end_sample=HZ,
        committed=committed,
        volatile=text,
        **more,
    )


def final(text: str, *words: Word, segment_id: int = 1, start_s: float = 0) -> Final:
    """A segment's caption, two seconds long."""
    return Final(
        segment_id=segment_id,
        revision=2,
        start_sample=round(start_s * HZ),
        end_sample=round((start_s + 2) * HZ),
        text=text,
        language="de",
        reason="endpoint",
        words=words,
    )


def tell(dialect: Vosk, *events: Event) -> None:
    """Tell events; none of them is worth a message of its own."""
    assert [dialect.send(event) for event in events] == [()] * len(events)


def frame(dialect: Vosk, data: bytes = b"\0\0") -> Any:
    """Send audio and read its one reply."""
    commands, replies = dialect.receive_bytes(data)
    assert commands[-1] == Audio(data)
    (reply,) = replies
    assert isinstance(reply, str)
    return json.loads(reply)


def start_of(dialect: Vosk) -> Start:
    """The start that a first frame makes."""
    (start, audio), _ = dialect.receive_bytes(b"\0\0")
    assert isinstance(start, Start) and audio == Audio(b"\0\0")
    return start


def configured(**values: Any) -> Start:
    """The start of a client that sends a config first."""
    dialect = vosk()
    assert dialect.receive_text(json.dumps({"config": values})) == ((), ())
    return start_of(dialect)


# Frames and replies


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0", bytes(100_000)])
def test_every_frame_has_one_reply(data: bytes) -> None:
    """An empty one and a huge one as well; with nothing new it is an empty partial."""
    dialect = vosk()
    for _ in range(3):
        commands, replies = dialect.receive_bytes(data)
        assert commands[-1] == Audio(data)
        assert replies == (EMPTY_PARTIAL,)


def test_a_session_starts_with_the_first_frame() -> None:
    """And only once; without a config it is 8 kHz, English and the server's default glossary."""
    dialect = vosk()
    start = start_of(dialect)
    assert (start.audio.sample_rate_hz, start.audio.encoding, start.audio.channels) == (
        8000,
        "pcm_s16le",
        1,
    )
    assert (start.language, start.glossary.default, start.glossary.entries) == ("en", True, ())
    assert dialect.receive_bytes(b"\1\0").commands == (Audio(b"\1\0"),)


def test_a_partial_is_repeated_until_it_changes() -> None:
    """As Vosk's server does; committed and volatile text are one."""
    dialect = vosk()
    tell(dialect, SpeechStarted(segment_id=1, time_sample=0), partial(" on", committed="turn"))
    assert [frame(dialect), frame(dialect)] == [{"partial": "turn on"}] * 2
    tell(dialect, partial(" on the light", committed="turn"))
    assert frame(dialect) == {"partial": "turn on the light"}


def test_finals_wait_for_frames() -> None:
    """One a frame, in order, before what the next segment says so far."""
    dialect = vosk()
    tell(dialect, partial("one"), final("One."), final("Two."), partial("three", 3))
    said = [frame(dialect) for _ in range(4)]
    assert said == [{"text": "One."}, {"text": "Two."}, {"partial": "three"}, {"partial": "three"}]


def test_a_final_ends_its_partial() -> None:
    """What was a partial is not repeated after its final."""
    dialect = vosk()
    tell(dialect, partial("one"), SpeechStopped(segment_id=1, time_sample=9), final("One."))
    assert [frame(dialect), frame(dialect)] == [{"text": "One."}, {"partial": ""}]


def test_a_partial_that_came_to_nothing() -> None:
    """Its empty final ends it, as an empty result of Vosk's server would."""
    dialect = vosk()
    tell(dialect, partial("hm"), final(""))
    assert [frame(dialect), frame(dialect)] == [{"text": ""}, {"partial": ""}]


def test_nothing_is_sent_unasked() -> None:
    """No event makes a message."""
    tell(
        vosk(),
        SpeechStarted(segment_id=1, time_sample=0),
        partial("a"),
        SpeechStopped(segment_id=1, time_sample=1),
        final("A."),
        Stats(audio_samples=1, lag_samples=0),
        GlossaryUpdated(version=2, terms=1, added=1, removed=0, audio_time_sample=0),
        error_event(TruncatedAudio("half a sample"), fatal=False),
        error_event(ModelError("ill"), fatal=False),
        Flushed(),
        SessionEnded(audio_samples=1),
    )


# Exact texts: the layout of Vosk's own JSON writer


def test_a_result_to_the_byte() -> None:
    """Keys in order, a space on both sides of colons, six decimals."""
    dialect = vosk()
    tell(dialect, final("Turn on.", word("Turn", 0.36, 0.51, 0.97), word("on.", 0.51, 0.9)))
    assert dialect.receive_bytes(b"").replies == (
        "{\n"
        '  "result" : [{\n'
        '      "conf" : 0.970000,\n'
        '      "end" : 0.510000,\n'
        '      "start" : 0.360000,\n'
        '      "word" : "Turn"\n'
        "    }, {\n"
        '      "conf" : 1.000000,\n'
        '      "end" : 0.900000,\n'
        '      "start" : 0.510000,\n'
        '      "word" : "on."\n'
        "    }],\n"
        '  "text" : "Turn on."\n'
        "}",
    )


def test_a_partial_to_the_byte() -> None:
    """Letters beyond ASCII are written as they are."""
    dialect = vosk()
    tell(dialect, partial("für"))
    assert dialect.receive_bytes(b"").replies == ('{\n  "partial" : "für"\n}',)


def test_alternatives_to_the_byte() -> None:
    """A list of one, whose words have no confidence, because it is the alternative's."""
    dialect = vosk()
    dialect.receive_text('{"config" : { "max_alternatives" : 20, "sample_rate" : 16000 } }')
    tell(dialect, final("Turn on.", word("Turn", 0.36, 0.51, 0.9), word("on.", 0.51, 0.9, 0.8)))
    assert dialect.receive_bytes(b"").replies == (
        "{\n"
        '  "alternatives" : [{\n'
        '      "confidence" : 0.850000,\n'
        '      "result" : [{\n'
        '          "end" : 0.510000,\n'
        '          "start" : 0.360000,\n'
        '          "word" : "Turn"\n'
        "        }, {\n"
        '          "end" : 0.900000,\n'
        '          "start" : 0.510000,\n'
        '          "word" : "on."\n'
        "        }],\n"
        '      "text" : "Turn on."\n'
        "    }]\n"
        "}",
    )
    nothing = dialect.goodbye(None, None).messages[0]
    assert isinstance(nothing, str)
    assert json.loads(nothing) == {"alternatives": [{"confidence": 1.0, "text": ""}]}
    assert frame(dialect) == {"partial": ""}  # partials have one form only


@pytest.mark.parametrize("off", [False, 0, "0", "false"])
def test_words_can_be_left_out(off: Any) -> None:
    """In whatever way false is written."""
    dialect = vosk()
    dialect.receive_text(json.dumps({"config": {"words": off}}))
    tell(dialect, final("Turn.", word("Turn.", 0.36, 0.51)))
    assert frame(dialect) == {"text": "Turn."}


@given(st.text(), st.lists(st.text(), max_size=3))
def test_no_result_has_an_empty_string(text: str, words: list[str]) -> None:
    """Nor anything that looks like one, or like a partial's key, to who searches in the text."""
    dialect = vosk()
    tell(dialect, final(f"x{text}", *(word(each, 0, 1) for each in words)))
    (message,) = dialect.receive_bytes(b"").replies
    assert isinstance(message, str)
    assert '""' not in message and '"partial"' not in message
    result = json.loads(message)
    assert result["text"] == f"x{text}"
    assert [each["word"] for each in result.get("result", [])] == [
        each.strip() for each in words if each.strip()
    ]


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner)))
def test_what_is_dumped_is_json(value: Any) -> None:
    """Text of any kind comes back as it was."""
    assert json.loads(dump({"value": value})) == {"value": value}


# Configuration


@pytest.mark.parametrize("rate", [48000, 48000.0, "48000", "48000.0", " 48000 "])
def test_rates_in_all_spellings(rate: Any) -> None:
    """Integers, floats and strings."""
    assert configured(sample_rate=rate).audio.sample_rate_hz == 48_000


@pytest.mark.parametrize("nothing", ["", None])
def test_values_that_say_nothing_are_skipped(nothing: Any) -> None:
    """BigBlueButton's template has an empty rate."""
    start = configured(sample_rate=nothing, language=nothing, glossary=nothing, words=nothing)
    assert (start.audio.sample_rate_hz, start.language) == (8000, "en")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"sample_rate": "fast"}, "sample_rate is .* accepted: a whole number from 8000 to 192000"),
        ({"sample_rate": 4000}, "sample_rate"),
        ({"sample_rate": 16000.5}, "sample_rate"),
        ({"sample_rate": "nan"}, "sample_rate"),
        ({"sample_rate": "1e999"}, "sample_rate"),
        ({"sample_rate": 10**400}, "sample_rate"),
        ({"sample_rate": True}, "sample_rate"),
        ({"sample_rate": [16000]}, "sample_rate"),
        ({"language": "fr"}, 'language is "fr"; accepted: auto, en, de'),
        ({"language": 1}, "language"),
        ({"glossary": "office"}, 'glossary is "office"; accepted: ward'),
        ({"glossary": ["ward"]}, "glossary"),
        ({"vad": "ear"}, 'vad is "ear"; accepted: silero, webrtc, energy'),
        ({"words": "perhaps"}, 'words is "perhaps"; accepted: 1, true, 0, false'),
        ({"words": []}, "words"),
        ({"max_alternatives": -1}, "max_alternatives"),
        ({"max_alternatives": 1.5}, "max_alternatives"),
        ({"phrase_list": "one two"}, "phrase_list .* accepted: a list of strings"),
        ({"phrase_list": [1]}, "phrase_list"),
    ],
)
def test_values_that_are_not_offered(values: dict[str, Any], reason: str) -> None:
    """The error names the key, the value and what is accepted, and ends the connection."""
    dialect = vosk()
    with pytest.raises(BadOption, match=reason) as caught:
        dialect.receive_text(json.dumps({"config": values}))
    assert dialect.refuse(caught.value) is None


def test_configs_add_up() -> None:
    """What a later one does not say stays; the model, a path on Vosk's server, has no meaning."""
    dialect = vosk()
    dialect.receive_text('{"config":{"sample_rate":"16000","language":"de"}}')
    dialect.receive_text(
        '{"config":{"model":"/models/small","glossary":"ward","sample_rate":8000}}'
    )
    start = start_of(dialect)
    assert (start.audio.sample_rate_hz, start.language) == (8000, "de")
    assert (start.glossary.name, start.glossary.default) == ("ward", False)


def test_a_phrase_list_is_glossary_entries() -> None:
    """Without the placeholder for all other words; other entries may be objects."""
    entries = ["apixaban", "bed four", {"term": "Eliquis", "sounds_like": ["ella quiss"]}]
    start = configured(phrase_list=[*entries, "[unk]"])
    assert start.glossary.entries == tuple(entries)
    assert start.glossary.default


def test_the_query_is_a_first_config() -> None:
    """A locale counts as its language; what is not known, such as a key, is not looked at."""
    query = (("language", "de-AT"), ("glossary", "ward"), ("sample_rate", "16000"), ("token", "x"))
    start = start_of(vosk(*query, ("sample_rate", "44100")))
    assert (start.language, start.glossary.name, start.audio.sample_rate_hz) == (
        "de",
        "ward",
        16_000,
    )
    later = vosk(*query)
    later.receive_text('{"config":{"sample_rate":48000}}')
    assert start_of(later).audio.sample_rate_hz == 48_000


def test_a_bad_query_ends_the_connection() -> None:
    """There is no other way to tell."""
    handshake = Handshake(query=(("language", "fr"),))
    with pytest.raises(BadOption, match="language"):
        Vosk(handshake, OFFER, sample_rate_hz=8000).greet()


def test_a_late_config() -> None:
    """It changes the form of results and adds phrases; the same rate again is no change."""
    dialect = vosk()
    dialect.receive_text('{"config":{"sample_rate":16000}}')
    frame(dialect)
    late = {"config": {"sample_rate": "16000", "words": 0, "phrase_list": ["apixaban"]}}
    assert dialect.receive_text(json.dumps(late)) == ((EditGlossary(add=("apixaban",)),), ())
    assert dialect.receive_text('{"config":{"words":1}}') == ((), ())
    assert dialect.receive_text(json.dumps(late)) == ((), ())
    tell(dialect, final("Turn.", word("Turn.", 0, 1)))
    assert frame(dialect) == {"text": "Turn."}


@pytest.mark.parametrize(
    "change", [{"sample_rate": 48000}, {"language": "de"}, {"glossary": "ward"}, {"vad": "energy"}]
)
def test_a_config_that_comes_too_late(change: dict[str, Any]) -> None:
    """Audio of another rate than the first cannot be understood any more."""
    dialect = vosk()
    frame(dialect)
    with pytest.raises(BadOption, match="cannot change once audio has come"):
        dialect.receive_text(json.dumps({"config": change}))


def test_subprotocols() -> None:
    """Asterisk's is accepted, others are not."""
    assert vosk(subprotocols=("ws",)).subprotocol == "ws"
    assert vosk(subprotocols=("audio.drachtio.org",)).subprotocol is None
    assert vosk().subprotocol is None


# The end


@pytest.mark.parametrize("spelling", ['{"eof" : 1}', '{"eof":1}', ' { "eof" : true } '])
def test_the_last_message(spelling: str) -> None:
    """Whatever is left comes in one message after eof, in order, then a normal close."""
    dialect = vosk()
    frame(dialect)
    tell(dialect, final("One.", word("One.", 0, 1)))
    assert dialect.receive_text(spelling) == ((Stop(),), ())
    tell(dialect, final(""), final("Two.", word("Two.", 2, 3)), SessionEnded(audio_samples=9))
    messages, code, reason = dialect.goodbye(None, None)
    (last,) = messages
    assert isinstance(last, str)
    result = json.loads(last)
    assert result["text"] == "One. Two."
    assert [each["word"] for each in result["result"]] == ["One.", "Two."]
    assert (code, reason) == (1000, "")


def test_an_end_without_audio() -> None:
    """There is a last message all the same, an empty one."""
    dialect = vosk()
    commands, replies = dialect.receive_text('{"eof" : 1}')
    assert isinstance(commands[0], Start) and commands[1:] == (Stop(),)
    assert replies == ()
    assert dialect.goodbye(None, None).messages == (EMPTY_TEXT,)


def test_nothing_counts_after_the_end() -> None:
    """Neither audio nor text, not even bad text."""
    dialect = vosk()
    dialect.receive_text('{"eof" : 1}')
    assert dialect.receive_bytes(b"\0\0") == ((), ())
    assert dialect.receive_text('{"eof" : 1}') == ((), ())
    assert dialect.receive_text("bye") == ((), ())


# Reset


def test_a_reset_is_answered_when_everything_said_has_its_final() -> None:
    """One reply with all of it; frames in between get theirs, without the finals."""
    dialect = vosk()
    frame(dialect)
    tell(dialect, partial("one"))
    assert dialect.receive_text('{"reset" : 1}') == ((Flush(),), ())
    assert frame(dialect) == {"partial": "one"}
    tell(dialect, final("One."))
    assert frame(dialect) == {"partial": ""}
    tell(dialect, final("Two."))
    (answer,) = dialect.send(Flushed())
    assert json.loads(answer) == {"text": "One. Two."}
    tell(dialect, final("Three."))
    assert frame(dialect) == {"text": "Three."}


def test_resets_are_counted() -> None:
    """Two in a row have two answers, and one before any audio an empty one."""
    dialect = vosk()
    assert dialect.receive_text('{"reset":1}').commands[1:] == (Flush(),)
    assert dialect.receive_text('{"reset":1}').commands == (Flush(),)
    assert [dialect.send(Flushed()), dialect.send(Flushed())] == [(EMPTY_TEXT,)] * 2


# Errors


@pytest.mark.parametrize(
    ("text", "kind", "code"),
    [
        ("hello", BadJson, 1007),
        ("[]", BadJson, 1007),
        ('{"config":{"sample_rate":NaN}}', BadJson, 1007),
        ('{"type":"start"}', BadCommand, 1008),
        ('{"config":1}', BadCommand, 1008),
        ('{"eof":0}', BadCommand, 1008),
        ("{}", BadCommand, 1008),
    ],
)
def test_text_that_is_not_understood(text: str, kind: type[ProtocolError], code: int) -> None:
    """The connection ends, and its close tells what was wrong."""
    dialect = vosk()
    with pytest.raises(kind) as caught:
        dialect.receive_text(text)
    assert dialect.refuse(caught.value) is None
    messages, close, reason = dialect.goodbye(caught.value, None)
    assert (messages, close) == ((), code)
    assert str(caught.value)[:60] in reason


def test_reasons_fit_into_a_close() -> None:
    """Cut to 123 bytes, between letters."""
    reason = vosk().goodbye(BadCommand("ü" * 200), None).reason
    assert reason.startswith("bad_command: ü") and 121 <= len(reason.encode()) <= 123


def test_errors_of_the_server() -> None:
    """No message, because none would be understood; the code says whether to come back."""
    dialect = vosk()
    assert dialect.goodbye(ServerFull("full"), 5.0) == ((), 1013, "full; retry after 5 s")
    assert dialect.goodbye(ModelError("secret"), None) == ((), 1011, "model_failed")


def test_last_finals_come_before_a_shutdown() -> None:
    """What was said is not lost for want of a frame."""
    dialect = vosk()
    tell(dialect, final("One."))
    messages, code, _ = dialect.goodbye(ShuttingDown("stopping"), None)
    assert [json.loads(str(message)) for message in messages] == [{"text": "One."}]
    assert code == 1012


# Times, for BigBlueButton


def test_times_tell_utterances_apart() -> None:
    """Partials and the final of an utterance begin at one second of the epoch."""
    dialect = vosk(("times", "1"), opened_s=1_700_000_000.5)
    assert frame(dialect) == {"partial": ""}
    tell(dialect, partial("one"))
    times = {"time_begin": 1_700_000_000, "time_end": 1_700_000_001}
    assert frame(dialect) == {"partial": "one", **times}
    tell(dialect, final("One."), final("Two.", start_s=3.75))
    assert frame(dialect) == {"text": "One.", **times, "time_end": 1_700_000_002}
    assert frame(dialect)["time_begin"] == 1_700_000_004


def test_a_language_that_was_found_is_told() -> None:
    """Only with times, and where the client left the language open."""
    found = vosk(("times", "1"), ("language", "auto"))
    tell(found, partial("eins", language="de"))
    assert frame(found)["locale"] == "de"
    tell(found, final("Eins."))
    assert frame(found)["locale"] == "de"
    for told in (vosk(("times", "1")), vosk(("language", "auto"))):
        tell(told, final("One."))
        assert "locale" not in frame(told)


# Anything at all


@given(
    st.lists(
        st.binary(max_size=9)
        | st.text(max_size=20)
        | st.dictionaries(
            st.sampled_from(["config", "eof", "reset", "x"]),
            st.sampled_from([0, 1, "", None])
            | st.dictionaries(
                st.sampled_from(["sample_rate", "language", "words", "phrase_list", "times"]),
                st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([]),
            ),
        ).map(json.dumps)
    )
)
def test_nothing_but_protocol_errors(messages: list[str | bytes]) -> None:
    """Every frame has one reply until the end, whatever else is sent."""
    dialect, ended = vosk(), False
    for message in messages:
        if isinstance(message, bytes):
            assert len(dialect.receive_bytes(message).replies) == (0 if ended else 1)
            continue
        try:
            commands, replies = dialect.receive_text(message)
        except ProtocolError as error:
            dialect.goodbye(error, None)
            return
        assert replies == ()
        ended = ended or Stop() in commands
