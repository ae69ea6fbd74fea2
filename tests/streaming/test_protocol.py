"""The protocol core understands what docs/protocol.md says and names what it does not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.audio import AudioFormat
from streaming.errors import (
    BadCommand,
    BadJson,
    BadOption,
    BadStart,
    ProtocolError,
    UnexpectedFrame,
)
from streaming.events import Flushed, SpeechStarted
from streaming.protocol import (
    Audio,
    EditGlossary,
    Flush,
    GlossaryChoice,
    Offer,
    Protocol,
    Start,
    Stop,
    StreamOptions,
)

OFFER = Offer(languages=("en", "de"), glossaries=("demo",))


def fresh() -> Protocol:
    """A connection before its start."""
    return Protocol(OFFER)


def started() -> Protocol:
    """A connection after its start."""
    protocol = fresh()
    protocol.receive_text('{"type":"start"}')
    return protocol


def start(**keys: Any) -> Start:
    """What the protocol makes of a start with these keys."""
    command = fresh().receive_text(json.dumps({"type": "start", **keys}))
    assert isinstance(command, Start)
    return command


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
            "top_k": 0,
            "threshold": 0.25,
            "stats_interval_ms": 0,
            "words": False,
        },
    )
    assert command.audio == AudioFormat(encoding="pcm_f32le", sample_rate_hz=44_100, channels=2)
    assert (command.language, command.task) == ("de", "translate")
    assert command.glossary == GlossaryChoice(name="demo", entries=("apixaban", entry))
    assert command.options == StreamOptions(
        vad="webrtc",
        partials=False,
        partial_interval_ms=250,
        top_k=0,
        threshold=0.25,
        stats_interval_ms=0,
        words=False,
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
    assert protocol.receive_text(edit) == EditGlossary(add=("a", {"term": "b"}), remove=("c",))
    assert protocol.receive_text('{"type":"flush"}') == Flush()
    assert protocol.receive_bytes(b"abc") == Audio(b"abc")
    assert protocol.receive_text('{"type":"stop"}') == Stop()


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
    first = json.loads(protocol.send(SpeechStarted(segment_id=1, time_sample=8000)))
    second = json.loads(protocol.send(Flushed()))
    assert first == {"type": "speech.started", "segment_id": 1, "time_s": 0.5, "seq": 1}
    assert second == {"type": "flushed", "seq": 2}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
KEYS = st.sampled_from(["audio", "language", "task", "glossary", "options", "add", "remove", "x"])
TYPES = st.sampled_from(["start", "glossary.edit", "flush", "stop", "x"])


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
