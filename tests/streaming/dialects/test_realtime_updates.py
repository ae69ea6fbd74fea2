"""What a client can set up: every field of today's and the beta's sessions, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from streaming.audio.pcm import AudioFormat
from streaming.commands import Audio, EditGlossary, GlossaryChoice, Start
from streaming.errors import BadOption
from tests.streaming.dialects.realtime_client import (
    LOGPROBS,
    Client,
    Message,
    audio_input,
    kinds,
    transcription,
)


def legacy(**session: Any) -> Message:
    """An update as before general availability."""
    return {"type": "transcription_session.update", "session": session}


def start_of(client: Client) -> Start:
    """The command that the first audio makes."""
    start, audio = client.append()
    assert isinstance(start, Start) and isinstance(audio, Audio)
    return start


def input_of(message: Message) -> Message:
    """The audio's settings as they are in force."""
    values: Message = message["session"]["audio"]["input"]
    return values


def test_the_greeting_tells_the_defaults() -> None:
    """Before any update; vLLM's clients look for the session's name beside it."""
    (created,) = Client().greeting
    assert created["type"] == "session.created"
    assert created["id"] == created["session"]["id"] == "sess_t"
    assert input_of(created) == {
        "format": {"type": "audio/pcm", "rate": 24_000},
        "noise_reduction": None,
        "transcription": {"model": "a2p-live", "language": None, "prompt": None, "keywords": []},
        "turn_detection": {
            "type": "server_vad",
            "threshold": 0.5,
            "prefix_padding_ms": 300,
            "silence_duration_ms": 500,
        },
    }


def test_a_session_needs_no_update() -> None:
    """The first audio begins it as the reference does: 24 kHz, any language, server VAD."""
    client = Client()
    start = start_of(client)
    assert start.audio == AudioFormat(encoding="pcm_s16le", sample_rate_hz=24_000)
    assert start.language == "auto"
    assert start.glossary == GlossaryChoice(default=True)
    assert start.options.endpoint_ms == 500 and start.options.stats_interval_ms == 0
    (audio,) = client.append()
    assert isinstance(audio, Audio)


def test_the_session_begins_with_the_latest_update() -> None:
    """Updates add up until the first audio; what one leaves out stays as it was."""
    client = Client()
    client.send(transcription(model="m", language="de", keywords=["a", "b"], prompt="c, a"))
    client.send(transcription(language="en", delay="minimal"))
    client.send(audio_input(turn_detection={"type": "server_vad", "silence_duration_ms": 900}))
    start = start_of(client)
    assert start.language == "en"
    assert start.glossary == GlossaryChoice(entries=("a", "b", "c"), default=True)
    assert (start.options.endpoint_ms, start.options.partial_interval_ms) == (900, 250)


def test_updates_are_answered_with_what_is_in_force() -> None:
    """Not with what was asked for."""
    client = Client()
    given = {
        "format": {"type": "audio/pcm", "rate": 24_000},
        "noise_reduction": {"type": "near_field"},
        "transcription": {"model": "gpt-transcribe", "language": "en-GB", "keywords": ["INR"]},
        "turn_detection": {
            "type": "server_vad",
            "threshold": 0.9,
            "prefix_padding_ms": 600,
            "silence_duration_ms": 10,
            "idle_timeout_ms": None,
            "create_response": True,
        },
    }
    (updated,) = client.send(audio_input(**given))
    assert updated["type"] == "session.updated"
    assert input_of(updated) == {
        "format": {"type": "audio/pcm", "rate": 24_000},
        "noise_reduction": None,
        "transcription": {
            "model": "gpt-transcribe",
            "language": "en",
            "prompt": None,
            "keywords": ["INR"],
        },
        "turn_detection": {
            "type": "server_vad",
            "threshold": 0.5,
            "prefix_padding_ms": 300,
            "silence_duration_ms": 200,
        },
    }


@pytest.mark.parametrize(
    ("chosen", "silence_ms"),
    [
        ({"type": "server_vad"}, 500),
        ({"type": "server_vad", "silence_duration_ms": 350}, 350),
        ({"type": "server_vad", "silence_duration_ms": 60_000}, 5000),
        ({"type": "semantic_vad"}, 800),
        ({"type": "semantic_vad", "eagerness": "high"}, 400),
        ({"type": "semantic_vad", "eagerness": "low"}, 1500),
    ],
)
def test_turn_detection_is_a_length_of_silence(chosen: Message, silence_ms: int) -> None:
    """Within what a session takes; the answer says which."""
    client = Client()
    (updated,) = client.send(audio_input(turn_detection=chosen))
    told = input_of(updated)["turn_detection"]
    assert (told["type"], told["silence_duration_ms"]) == (chosen["type"], silence_ms)
    assert start_of(client).options.endpoint_ms == silence_ms


@pytest.mark.parametrize(
    ("chosen", "audio"),
    [
        ({"type": "audio/pcm"}, AudioFormat(sample_rate_hz=24_000)),
        ({"type": "audio/pcm", "rate": 8_000}, AudioFormat(sample_rate_hz=8_000)),
        ({"type": "audio/pcm", "rate": 16_000}, AudioFormat(sample_rate_hz=16_000)),
        ({"type": "audio/pcm", "rate": 48_000}, AudioFormat(sample_rate_hz=48_000)),
        ({"type": "audio/pcmu"}, AudioFormat(encoding="mulaw", sample_rate_hz=8_000)),
        ({"type": "audio/pcma"}, AudioFormat(encoding="alaw", sample_rate_hz=8_000)),
        (None, AudioFormat(sample_rate_hz=24_000)),
    ],
)
def test_audio_formats(chosen: Message | None, audio: AudioFormat) -> None:
    """The reference's three, and other rates of linear samples."""
    client = Client(strict=False)  # the package's types know no rate but 24 kHz
    (updated,) = client.send(audio_input(format=chosen))
    told = input_of(updated)["format"]
    assert told["type"] == (chosen or {"type": "audio/pcm"})["type"]
    assert told.get("rate", 8_000) == audio.sample_rate_hz
    assert start_of(client).audio == audio


@pytest.mark.parametrize(
    ("name", "audio"),
    [
        ("pcm16", AudioFormat(sample_rate_hz=24_000)),
        ("g711_ulaw", AudioFormat(encoding="mulaw", sample_rate_hz=8_000)),
        ("g711_alaw", AudioFormat(encoding="alaw", sample_rate_hz=8_000)),
    ],
)
def test_formats_of_the_beta(name: str, audio: AudioFormat) -> None:
    """Under the names they had."""
    client = Client(strict=False, headers={"openai-beta": "realtime=v1"})
    (updated,) = client.send(legacy(input_audio_format=name))
    assert updated["session"]["input_audio_format"] == name
    assert start_of(client).audio == audio


def test_a_session_of_the_beta() -> None:
    """Flat, and answered so; clients that say so in the handshake are greeted so."""
    client = Client(strict=False, headers={"openai-beta": "realtime=v1"})
    assert kinds(client.greeting) == ["transcription_session.created"]
    (updated,) = client.send(
        legacy(
            input_audio_format="pcm16",
            input_audio_transcription={"model": "whisper-1", "language": "de", "prompt": "INR"},
            input_audio_noise_reduction={"type": "far_field"},
            turn_detection={"type": "server_vad", "silence_duration_ms": 700},
            include=[LOGPROBS],
            modalities=["text"],
        )
    )
    assert updated["type"] == "transcription_session.updated"
    session = updated["session"]
    assert session["input_audio_transcription"]["language"] == "de"
    assert session["turn_detection"]["silence_duration_ms"] == 700
    assert session["include"] == [LOGPROBS]
    start = start_of(client)
    assert start.language == "de" and start.glossary.entries == ("INR",)


@pytest.mark.parametrize("subprotocols", [(), ("realtime", "openai-beta.realtime-v1")])
def test_the_first_update_decides_about_the_words(subprotocols: tuple[str, ...]) -> None:
    """A client may say nothing in the handshake, or say there what it does not keep to."""
    client = Client(strict=False, subprotocols=subprotocols)
    beta = "transcription_session.created" in kinds(client.greeting)
    assert beta == bool(subprotocols)
    assert kinds(client.send(legacy())) == ["transcription_session.updated"]
    assert kinds(client.send(audio_input())) == ["session.updated"]


def test_the_subprotocol_is_accepted() -> None:
    """Only the one that is no key."""
    offered = ("realtime", "openai-insecure-api-key.abc")
    assert Client(subprotocols=offered).dialect.subprotocol == "realtime"
    assert Client().dialect.subprotocol is None


def test_settings_may_come_with_the_address() -> None:
    """The model, as gateways want it, and what a client that can not be told more is to get."""
    query = (("intent", "transcription"), ("model", "m"), ("language", "de-AT"))
    client = Client(query=(*query, ("glossary", "ward"), ("vad", "energy")))
    told = input_of(client.greeting[0])["transcription"]
    assert (told["model"], told["language"], told["glossary_id"]) == ("m", "de", "ward")
    start = start_of(client)
    assert (start.language, start.glossary.name, start.options.vad) == ("de", "ward", "energy")


@pytest.mark.parametrize(
    ("name", "accepted"),
    [("language", "auto, en, de"), ("glossary", '"ward", "all"'), ("vad", '"silero"')],
)
def test_an_address_that_asks_for_what_is_not_offered(name: str, accepted: str) -> None:
    """There is no session then."""
    with pytest.raises(BadOption, match=f'{name} is "x"; accepted: .*{accepted}'):
        Client(query=((name, "x"),))


@pytest.mark.parametrize(
    ("given", "language"),
    [
        ({"language": "de"}, "de"),
        ({"language": "en-US"}, "en"),
        ({"language": "EN_gb"}, "en"),
        ({"language": None}, "auto"),
        ({"language": "auto"}, "auto"),
        ({"languages": ["de"]}, "de"),
        ({"languages": ["de", "en"]}, "auto"),
        ({"languages": ["de", "en"], "language": "en"}, "en"),
    ],
)
def test_languages(given: Message, language: str) -> None:
    """Of several possible ones the one spoken is found out."""
    client = Client()
    client.send(transcription(**given))
    assert start_of(client).language == language


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        ({}, GlossaryChoice(default=True)),
        ({"glossary_id": "ward"}, GlossaryChoice(name="ward")),
        ({"glossary_id": "ward", "keywords": ["x"]}, GlossaryChoice(name="ward", entries=("x",))),
        ({"glossary_id": None}, GlossaryChoice()),
    ],
)
def test_a_glossary_of_the_server(given: Message, choice: GlossaryChoice) -> None:
    """Named by a field that the openai package passes on; null switches the default off."""
    client = Client()
    (updated,) = client.send(transcription(**given))
    told = input_of(updated)["transcription"]
    assert told.get("glossary_id", "absent") == given.get("glossary_id", "absent")
    assert start_of(client).glossary == choice


def test_null_takes_the_hints_back() -> None:
    """So ``transcription: null`` leaves the model without any."""
    client = Client()
    client.send(transcription(language="de", keywords=["a"], prompt="b"))
    client.send(audio_input(transcription=None))
    start = start_of(client)
    assert start.language == "auto" and start.glossary.entries == ()


@pytest.mark.parametrize(
    ("message", "param", "accepted"),
    [
        (audio_input(format={"type": "opus"}), "format.type", '"audio/pcm", "audio/pcmu"'),
        (audio_input(format={"type": "audio/pcm", "rate": 11_025}), "format.rate", "8000, 16000"),
        (audio_input(format={"type": "audio/pcmu", "rate": 16_000}), "format.rate", "8000"),
        (audio_input(format="pcm16"), "format", "an object or null"),
        (audio_input(noise_reduction={"type": "x"}), "noise_reduction.type", '"near_field"'),
        (audio_input(turn_detection={"type": "x"}), "turn_detection.type", '"semantic_vad"'),
        (
            audio_input(turn_detection={"type": "server_vad", "threshold": 2}),
            "turn_detection.threshold",
            "a number from 0 to 1",
        ),
        (
            audio_input(turn_detection={"type": "server_vad", "silence_duration_ms": 1.5}),
            "turn_detection.silence_duration_ms",
            "an integer from 0",
        ),
        (
            audio_input(turn_detection={"type": "semantic_vad", "eagerness": "x"}),
            "turn_detection.eagerness",
            '"high"',
        ),
        (transcription(language="xx"), "transcription.language", "auto, en, de"),
        (transcription(languages=["en", "xx"]), "transcription.languages", "auto, en, de"),
        (transcription(keywords="INR"), "transcription.keywords", "a list of strings"),
        (transcription(keywords=[1]), "transcription.keywords", "a list of strings"),
        (transcription(prompt=[]), "transcription.prompt", "a string"),
        (transcription(delay="later"), "transcription.delay", '"minimal"'),
        (transcription(glossary_id="nope"), "transcription.glossary_id", '"ward", "all"'),
    ],
)
def test_a_value_that_is_not_offered_is_named(message: Message, param: str, accepted: str) -> None:
    """With the path that it has in the client's message, and what there is instead."""
    error = Client().trouble(message)
    assert error["type"] == "invalid_request_error" and error["code"] == "invalid_value"
    assert error["param"] == f"session.audio.input.{param}"
    assert accepted in error["message"]


@pytest.mark.parametrize(
    ("message", "code", "param"),
    [
        ({"type": "session.update"}, "missing_required_parameter", "session"),
        ({"type": "session.update", "session": []}, "invalid_value", "session"),
        (
            {"type": "session.update", "session": {"type": "realtime"}},
            "invalid_value",
            "session.type",
        ),
        (
            {"type": "session.update", "session": {"include": ["x"]}},
            "invalid_value",
            "session.include",
        ),
        (
            {"type": "session.update", "session": {"voice": "alloy"}},
            "unknown_parameter",
            "session.voice",
        ),
        (audio_input(transcripton={}), "unknown_parameter", "session.audio.input.transcripton"),
        (
            legacy(input_audio_format="pcm24"),
            "invalid_value",
            "session.input_audio_format",
        ),
        (
            legacy(input_audio_transcription={"language": "xx"}),
            "invalid_value",
            "session.input_audio_transcription.language",
        ),
        ({"type": "session.update", "model": 1}, "invalid_value", "model"),
    ],
)
def test_other_trouble_with_an_update(message: Message, code: str, param: str) -> None:
    """Unknown fields are refused as the reference refuses them; nothing of the update counts."""
    client = Client()
    error = client.trouble(message)
    assert (error["code"], error["param"]) == (code, param)
    assert start_of(client) == start_of(Client())


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (transcription(language="de"), "session.audio.input.transcription.language"),
        (transcription(glossary_id="all"), "session.audio.input.transcription.glossary_id"),
        (audio_input(format={"type": "audio/pcmu"}), "session.audio.input.format"),
        (audio_input(turn_detection=None), "session.audio.input.turn_detection"),
        (
            legacy(input_audio_transcription={"language": "de"}),
            "session.input_audio_transcription.language",
        ),
    ],
)
def test_some_things_can_not_change_once_there_is_audio(message: Message, param: str) -> None:
    """That is told, and nothing of such an update counts."""
    client = Client()
    client.send(transcription(language="en", glossary_id="ward"))
    client.append()
    error = client.trouble(message)
    assert (error["code"], error["param"]) == ("cannot_update_after_audio", param)
    assert client.send(transcription(language="en", glossary_id="ward")) != []


def test_how_long_pauses_are_stays_as_it_is_once_there_is_audio() -> None:
    """An update that repeats everything with another length is no error; the answer tells."""
    client = Client()
    client.append()
    changed = audio_input(turn_detection={"type": "server_vad", "silence_duration_ms": 900})
    (updated,) = client.send(changed)
    assert input_of(updated)["turn_detection"]["silence_duration_ms"] == 500


def test_terms_change_in_the_middle_of_a_session() -> None:
    """What an update adds or leaves out is an edit of the glossary."""
    client = Client()
    client.send(transcription(keywords=["a", "b"], prompt="c"))
    client.append()
    client.send(transcription(keywords=["b", "d"]))
    assert client.commands == [EditGlossary(add=("d",), remove=("a",))]
    client.send(transcription(prompt="c, e"))
    assert client.commands == [EditGlossary(add=("e",))]
    client.send(transcription(prompt="c, e"))
    assert client.commands == []


@pytest.mark.parametrize("default", [True, False])
def test_terms_beside_a_glossary_of_the_server_are_only_added(default: bool) -> None:
    """One that is no longer asked for may be the glossary's own."""
    client = Client(named_glossary=default)
    client.send(transcription(keywords=["a"], **({} if default else {"glossary_id": "ward"})))
    client.append()
    client.send(transcription(keywords=["b"]))
    assert client.commands == [EditGlossary(add=("b",))]


def test_a_prompt_of_the_meeting_so_far_is_edited_piece_by_piece() -> None:
    """A conference's proxy repeats its update with what the others have just said."""
    client = Client()
    head = "INR\n\nThe following was said by the others in the conference just now.\n"
    client.send(transcription(prompt=head))
    assert "INR" in start_of(client).glossary.entries
    client.send(transcription(prompt=head + "p1: He takes empagliflozin.\n"))
    assert client.commands == [EditGlossary(add=("empagliflozin",))]
    client.send(transcription(prompt=head + "p2: And what about clarithromycin?\n"))
    assert client.commands == [EditGlossary(add=("clarithromycin",), remove=("empagliflozin",))]
