"""The protocol core understands what docs/protocol.md says and names what it does not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.audio.pcm import AudioFormat
from streaming.commands import (
    Audio,
    Command,
    EditGlossary,
    Flush,
    GlossaryChoice,
    Offer,
    Resume,
    Start,
    Stop,
    StreamOptions,
)
from streaming.dialects.native import REPLAYABLE_EVENTS, Native
from streaming.errors import (
    BadCommand,
    BadJson,
    BadOption,
    BadStart,
    ProtocolError,
    UnexpectedFrame,
    UnknownResume,
)
from streaming.events import Event, Flushed, Partial, SpeechStarted, Stats

PARTIAL = Partial(
    segment_id=1, revision=1, start_sample=0, end_sample=1, committed="", volatile="w"
)
OFFER = Offer(languages=("en", "de"), glossaries=("demo",))


def fresh() -> Native:
    """A connection before its start."""
    return Native(OFFER)


def started() -> Native:
    """A connection after its start."""
    protocol = fresh()
    protocol.receive_text('{"type":"start"}')
    return protocol


def command_of(protocol: Native, message: str | bytes) -> Command:
    """The one command that a message makes."""
    text = isinstance(message, str)
    taken = protocol.receive_text(message) if text else protocol.receive_bytes(message)
    ((command,), replies) = taken
    assert not replies
    return command


def start(**keys: Any) -> Start:
    """What the protocol makes of a start with these keys."""
    command = command_of(fresh(), json.dumps({"type": "start", **keys}))
    assert isinstance(command, Start)
    return command


def told(protocol: Native, *events: Event) -> list[dict[str, Any]]:
    """The messages that tell the events."""
    return [json.loads(text) for event in events for text in protocol.send(event)]


def test_start_needs_nothing_but_its_type() -> None:
    """Everything in a start has the documented default."""
    assert start() == Start(
        audio=AudioFormat(encoding="pcm_s16le", sample_rate_hz=16_000, channels=1),
        language="en",
        task="transcribe",
        glossary=GlossaryChoice(default=True),
        options=StreamOptions(),
    )


def test_start_takes_every_documented_key() -> None:
    """A full start is taken over value by value."""
    entry = {"term": "Eliquis", "sounds_like": ["ella quiss"], "target": None, "weight": 1.0}
    command = start(
        audio={"encoding": "pcm_f32le", "sample_rate_hz": 44_100, "channels": 2},
        language="de",
        task="translate",
        glossary={"name": "demo", "terms": ["apixaban", entry]},
        options={
            "vad": "webrtc",
            "partials": False,
            "partial_interval_ms": 250,
            "endpoint_ms": 300,
            "top_k": 0,
            "threshold": 0.25,
            "stats_interval_ms": 0,
            "words": False,
            "target_language": "zh",
            "source_text": True,
        },
    )
    assert command.audio == AudioFormat(encoding="pcm_f32le", sample_rate_hz=44_100, channels=2)
    assert (command.language, command.task) == ("de", "translate")
    assert command.glossary == GlossaryChoice(name="demo", entries=("apixaban", entry))
    assert command.options == StreamOptions(
        vad="webrtc",
        partials=False,
        partial_interval_ms=250,
        endpoint_ms=300,
        top_k=0,
        threshold=0.25,
        stats_interval_ms=0,
        words=False,
        target_language="zh",
        source_text=True,
    )


@pytest.mark.parametrize("threshold", [0, 0.5, 1.0, "cautious", "balanced", "eager"])
def test_a_threshold_is_a_number_or_a_name(threshold: object) -> None:
    """Names are left to the retriever, which knows what they stand for."""
    assert start(options={"threshold": threshold}).options.threshold == threshold


@pytest.mark.parametrize("glossary", [None, {}])
def test_an_empty_glossary_switches_the_default_off(glossary: object) -> None:
    """Null and {} mean no glossary, which differs from not naming one."""
    assert start(glossary=glossary).glossary == GlossaryChoice()


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"langauge": "en"}, '"langauge"; accepted: audio, language'),
        ({"audio": {"rate": 16000}}, '"audio.rate"; accepted: encoding, sample_rate_hz'),
        ({"audio": {"sample_rate_hz": 11025}}, "audio.sample_rate_hz is 11025; accepted: 8000"),
        ({"audio": {"sample_rate_hz": "16000"}}, 'audio.sample_rate_hz is "16000"'),
        ({"audio": {"sample_rate_hz": 16000.0}}, "audio.sample_rate_hz is 16000.0"),
        ({"audio": {"channels": True}}, "audio.channels is true; accepted: 1, 2"),
        ({"audio": {"encoding": "mp3"}}, 'audio.encoding is "mp3"; accepted: "pcm_s16le"'),
        ({"audio": []}, "audio is []; accepted: an object"),
        ({"language": "xx"}, 'language is "xx"; accepted: "en", "de"'),
        ({"task": "summarise"}, 'task is "summarise"; accepted: "transcribe", "translate"'),
        ({"glossary": "demo"}, 'glossary is "demo"; accepted: an object or null'),
        ({"glossary": {"name": "nope"}}, 'glossary.name is "nope"; accepted: demo'),
        ({"glossary": {"terms": "apixaban"}}, "glossary.terms is"),
        ({"glossary": {"terms": [3]}}, "glossary.terms is [3]; accepted: a list of strings"),
        ({"glossary": {"words": []}}, '"glossary.words"; accepted: name, terms'),
        ({"options": {"vad": "none"}}, 'options.vad is "none"; accepted: "silero"'),
        ({"options": {"partials": 1}}, "options.partials is 1; accepted: true, false"),
        ({"options": {"top_k": -1}}, "options.top_k is -1; accepted: an integer from 0 to 50"),
        ({"options": {"top_k": True}}, "options.top_k is true"),
        ({"options": {"threshold": 2}}, 'is 2; accepted: a number from 0 to 1, "cautious"'),
        ({"options": {"threshold": True}}, "options.threshold is true; accepted: a number"),
        ({"options": {"threshold": None}}, "options.threshold is null; accepted: a number"),
        ({"options": {"threshold": "bold"}}, 'options.threshold is "bold"; accepted: a number'),
        ({"options": {"stats_interval_ms": 1}}, "accepted: 0 or an integer from 500 to 600000"),
        ({"options": {"beam": 5}}, '"options.beam"'),
    ],
)
def test_a_bad_start_names_what_is_wrong(keys: dict[str, Any], named: str) -> None:
    """The error names the key, the value and what is accepted."""
    with pytest.raises(BadOption) as caught:
        start(**keys)
    assert named in str(caught.value)


def test_a_failed_start_may_not_be_followed_by_audio() -> None:
    """A start that was refused does not open the session."""
    protocol = fresh()
    with pytest.raises(BadOption):
        protocol.receive_text('{"type":"start","x":1}')
    with pytest.raises(UnexpectedFrame):
        protocol.receive_bytes(b"\0\0")


@pytest.mark.parametrize("text", ['{"type":"flush"}', "{}", '{"type":["start"]}'])
def test_the_first_message_must_be_a_start(text: str) -> None:
    """Anything else is refused with the type it had."""
    with pytest.raises(BadStart, match="first message has type"):
        fresh().receive_text(text)


@pytest.mark.parametrize(
    "text",
    ["", "hello", "[]", "1", '"start"', "{", '{"a":NaN}', '{"a":"\\ud800"}', "[" * 100_000],
)
def test_text_that_is_no_json_object_is_bad_json(text: str) -> None:
    """So are Python's extensions of JSON and nesting beyond reason."""
    for protocol in (fresh(), started()):
        with pytest.raises(BadJson):
            protocol.receive_text(text)


def test_commands_after_the_start() -> None:
    """Edits, flush, stop and audio come out as they were sent."""
    protocol = started()
    edit = '{"type":"glossary.edit","add":["a",{"term":"b"}],"remove":["c"]}'
    assert command_of(protocol, edit) == EditGlossary(add=("a", {"term": "b"}), remove=("c",))
    assert command_of(protocol, '{"type":"flush"}') == Flush()
    assert command_of(protocol, b"abc") == Audio(b"abc")
    assert command_of(protocol, '{"type":"stop"}') == Stop()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"type":"start"}', "glossary.edit, flush, stop"),
        ('{"type":"finish"}', '"finish"'),
        ('{"type":"flush","now":true}', '"now"'),
        ('{"type":"glossary.edit","add":"x"}', "add is"),
        ('{"type":"glossary.edit","remove":[{"term":"x"}]}', "remove is"),
    ],
)
def test_bad_commands_name_what_is_wrong(text: str, named: str) -> None:
    """After the start an error is about the command alone."""
    with pytest.raises(BadCommand) as caught:
        started().receive_text(text)
    assert named in str(caught.value)


def test_events_are_numbered_from_one() -> None:
    """Each sent event carries the next seq."""
    protocol = fresh()
    first, second = told(protocol, SpeechStarted(segment_id=1, time_sample=8000), Flushed())
    assert first == {"type": "speech.started", "segment_id": 1, "time_s": 0.5, "seq": 1}
    assert second == {"type": "flushed", "seq": 2}


def test_a_resume_names_the_session_and_what_has_arrived() -> None:
    """It may take the place of the start, and needs the session's name and secret."""
    message = {"session_id": "ab", "token": "t", "last_seq": 7, "first_frame": 16000}
    command = command_of(fresh(), json.dumps({"type": "resume", **message}))
    assert command == Resume(session_id="ab", token="t", last_seq=7, first_frame=16000)
    with pytest.raises(BadOption, match="token is null; accepted: a string"):
        fresh().receive_text('{"type":"resume","session_id":"ab"}')


def test_what_was_missed_is_replayed_as_it_was() -> None:
    """Only partials and statistics are stale by then; numbers stay, so gaps show what was left."""
    protocol = started()
    sent = told(protocol, Flushed(), PARTIAL, Stats(audio_samples=1, lag_samples=0), Flushed())
    assert [json.loads(text) for text in protocol.replay(0)] == [sent[0], sent[3]]
    assert [json.loads(text) for text in protocol.replay(1)] == [sent[3]]
    assert protocol.replay(4) == ()


def test_there_is_an_end_to_what_can_be_replayed() -> None:
    """A client that would miss something is told from where it could have gone on."""
    protocol = started()
    told(protocol, *[Flushed()] * (REPLAYABLE_EVENTS + 1))
    assert len(protocol.replay(1)) == REPLAYABLE_EVENTS
    for seq in (0, REPLAYABLE_EVENTS + 2):
        with pytest.raises(UnknownResume, match=f"accepted: 1 to {REPLAYABLE_EVENTS + 1}"):
            protocol.replay(seq)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        "token",
        "session_id",
        "audio",
        "language",
        "task",
        "glossary",
        "options",
        "add",
        "remove",
        "x",
    ]
)
TYPES = st.sampled_from(["start", "resume", "glossary.edit", "flush", "stop", "x"])


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_random_text_raises_nothing_but_protocol_errors(text: str) -> None:
    """Noise is refused, never crashed on."""
    for protocol in (fresh(), started()):
        with pytest.raises(ProtocolError):
            protocol.receive_text(text)


@given(TYPES | JSON_VALUES, st.dictionaries(KEYS, JSON_VALUES, max_size=4))
def test_random_json_raises_nothing_but_protocol_errors(kind: Any, message: Any) -> None:
    """Messages of nearly the right shape are taken or refused, never crashed on."""
    text = json.dumps({"type": kind, **message})
    for protocol in (fresh(), started()):
        try:
            protocol.receive_text(text)
        except ProtocolError as error:
            assert str(error)
