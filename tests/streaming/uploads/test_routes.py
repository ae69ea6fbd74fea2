"""Uploads through the OpenAI package, against a real server around the fake engine."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import openai
import pytest
from openai import AsyncOpenAI

from a2p_engine.errors import ModelError
from a2p_engine.types import StepRequest, TermHit, Word
from streaming.events import Final
from streaming.security.keys import KeyLimits, new_key, write_keys
from streaming.server import Running
from streaming.uploads.answers import Transcript, render
from streaming.uploads.captioning import Progress
from streaming.uploads.form import Form
from tests.streaming.conftest import Serving
from tests.streaming.fake_engine import FakeEngine
from tests.streaming.recordings import packed, wav
from tests.streaming.signals import pcm, silence, tone
from tests.streaming.wire import connect

# Two segments; the fake engine writes a word for each quarter second of them.
RECORDING = np.concatenate([silence(0.7), tone(2), silence(1.2), tone(1)])
FIRST = "w0 w1 w2 w3 w4 w5 w6 w7 w8 w9 w10"
SECOND = "w0 w1 w2 w3 w4"
FILE = ("talk.wav", wav(RECORDING))
ENERGY = {"vad": "energy"}  # a tone is speech to it


@asynccontextmanager
async def client_of(server: Running, **options: Any) -> AsyncIterator[AsyncOpenAI]:
    """The OpenAI package, pointed at a server."""
    options = {"api_key": "none", "max_retries": 0, **options}
    async with AsyncOpenAI(base_url=f"{server.url}v1", **options) as client:
        yield client


async def transcribe(client: AsyncOpenAI, file: Any = FILE, **fields: Any) -> Any:
    """A request for captions, heard by energy."""
    extra = {**ENERGY, **fields.pop("extra_body", {})}
    return await client.audio.transcriptions.create(
        file=file, model="whisper-1", extra_body=extra, **fields
    )


async def translate(client: AsyncOpenAI, **fields: Any) -> Any:
    """A request for captions in English; the package calls these deprecated by now."""
    with pytest.deprecated_call():
        return await client.audio.translations.create(
            file=FILE, model="whisper-1", extra_body=ENERGY, **fields
        )


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110, what is waited for tells nobody
            await asyncio.sleep(0.01)


async def test_json_is_the_text(serving: Serving) -> None:
    """The default answer: text, its language, and what would be paid for."""
    async with serving() as server, client_of(server) as client:
        answer = await transcribe(client, language="en")
    assert answer.text == f"{FIRST} {SECOND}"
    assert [language.code for language in answer.languages] == ["en"]
    assert (answer.usage.type, answer.usage.seconds) == ("duration", 5)


async def test_verbose_json_has_segments(serving: Serving) -> None:
    """Every field that clients of Whisper know, with times in seconds of the recording."""
    async with serving() as server, client_of(server) as client:
        answer = await transcribe(client, response_format="verbose_json", language="en")
    assert (answer.language, answer.duration, answer.words) == ("en", 4.9, None)
    assert answer.text == f"{FIRST} {SECOND}"
    first, second = answer.segments
    assert (first.id, first.start, first.end, first.seek) == (0, 0.4, 3.2, 40)
    assert (first.text, second.text) == (f" {FIRST}", f" {SECOND}")
    assert first.avg_logprob == pytest.approx(np.log(0.9), abs=1e-4)
    assert 0 < first.compression_ratio < 2.4
    assert (first.tokens, first.temperature, first.no_speech_prob) == ([], 0.0, 0.0)
    assert (second.id, second.terms) == (1, [])
    assert answer.task == "transcribe"


@pytest.mark.parametrize("brackets", [True, False])
async def test_times_of_words(serving: Serving, brackets: bool) -> None:
    """At the top as OpenAI has them, and in each segment with their spaces, as Vexa joins them."""
    asked: dict[str, Any] = (
        {"timestamp_granularities": ["word"]}
        if brackets
        else {"extra_body": {"timestamp_granularities": "word"}}
    )
    async with serving() as server, client_of(server) as client:
        answer = await transcribe(client, response_format="verbose_json", **asked)
    assert [word.word for word in answer.words] == f"{FIRST} {SECOND}".split()
    assert (answer.words[1].start, answer.words[1].end) == (0.65, 0.9)
    words = answer.segments[0].words
    assert "".join(word["word"] for word in words) == answer.segments[0].text
    assert words[0]["probability"] == 0.9


async def test_text_is_one_line(serving: Serving) -> None:
    """Nothing but what was said."""
    async with serving() as server, client_of(server) as client:
        assert await transcribe(client, response_format="text") == f"{FIRST} {SECOND}\n"


@pytest.mark.parametrize(("form", "name"), [("srt", "srt"), ("vtt", "webvtt")])
async def test_subtitles(serving: Serving, form: Any, name: str) -> None:
    """A player's reader finds a cue for each segment, at its time."""
    async with serving() as server, client_of(server) as client:
        answer = await transcribe(client, response_format=form)
    with av.open(io.BytesIO(answer.encode()), format=name) as file:
        cues = [
            (bytes(packet).decode(), float(packet.pts * packet.time_base))
            for packet in file.demux()
            if packet.size
        ]
    assert cues == [(FIRST, pytest.approx(0.4)), (SECOND, pytest.approx(3.6))]


async def test_a_stream_tells_each_segment(engine: FakeEngine, serving: Serving) -> None:
    """Deltas that make up the text of the last event, the first before all work is done."""
    engine.step_s = 0.2
    told = []
    async with serving() as server, client_of(server) as client:
        async for event in await transcribe(client, stream=True):
            told.append((event, len(engine.requests)))
    deltas = [event.delta for event, _ in told[:-1]]
    done, _ = told[-1]
    assert deltas == [FIRST, f" {SECOND}"]
    assert (done.type, done.text) == ("transcript.text.done", f"{FIRST} {SECOND}")
    assert told[0][1] < told[-1][1] == 2


async def test_other_formats_and_paths(serving: Serving) -> None:
    """Compressed files are heard as well, and a translation is asked of the engine as one."""
    async with serving() as server, client_of(server) as client:
        for form in ("mp3", "webm"):
            answer = await transcribe(client, (f"talk.{form}", packed(form, RECORDING)))
            assert answer.text.startswith("w0 w1 w2")
        translated = await translate(client, response_format="verbose_json")
    assert translated.text == f"{FIRST} {SECOND}"
    assert translated.to_dict()["task"] == "translate"


async def test_models(serving: Serving) -> None:
    """The speech LLM is listed, and can be asked for; others cannot."""
    async with serving() as server, client_of(server) as client:
        assert [model.id async for model in client.models.list()] == ["fake"]
        assert (await client.models.retrieve("fake")).owned_by == "a2p-live"
        with pytest.raises(openai.NotFoundError) as caught:
            await client.models.retrieve("gpt-5")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("file", [wav(silence(3)), packed("ogg", silence(3))])
@pytest.mark.parametrize("form", ["json", "text", "verbose_json", "srt", "vtt"])
async def test_no_speech(engine: FakeEngine, serving: Serving, file: bytes, form: Any) -> None:
    """Empty text in every form, and the engine has no step to do."""
    async with serving() as server, client_of(server) as client:
        answer = await transcribe(client, ("silence", file), response_format=form)
    text = answer if isinstance(answer, str) else answer.text
    assert text.strip() == ("WEBVTT" if form == "vtt" else "")
    if form == "verbose_json":
        assert (answer.segments, answer.language) == ([], "unknown")
        assert answer.duration == pytest.approx(3, abs=0.1)
    assert engine.requests == []


async def test_what_vexa_sends(serving: Serving) -> None:
    """Its form as its client builds it: no brackets, own fields, what was said before as prompt."""
    fields = {
        "model": "whisper-1",
        "response_format": "verbose_json",
        "language": "en",
        "timestamp_granularities": "word",
        "max_speech_duration_s": "15",
        "min_silence_duration_ms": "160",
        "prompt": "So, that is the plan. And then",
        "vad": "energy",  # for the tone
    }
    head = (
        b'--form\r\nContent-Disposition: form-data; name="file"; filename="audio.wav"\r\n'
        b"Content-Type: audio/wav\r\n\r\n"
    )
    parts = "".join(
        f'\r\n--form\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}'
        for name, value in fields.items()
    )
    body = head + wav(RECORDING) + parts.encode() + b"\r\n--form--\r\n"
    async with serving() as server:
        answer = (await post(server, body, "multipart/form-data; boundary=form")).json()
    assert (answer["language"], answer["duration"]) == ("en", 4.9)
    texts = [segment["text"].strip() for segment in answer["segments"]]
    assert texts == [FIRST, SECOND]
    for segment in answer["segments"]:
        assert "".join(word["word"] for word in segment["words"]) == segment["text"]
        assert segment["avg_logprob"] > -1.3
        assert segment["compression_ratio"] < 2.4
        assert segment["terms"] == []


# Terms


async def terms(client: AsyncOpenAI, **fields: Any) -> list[str]:
    """Terms of the first segment, as told in the answer."""
    answer = await transcribe(client, response_format="verbose_json", **fields)
    return [term["term"] for term in answer.segments[0].terms]


async def test_glossary_terms(serving: Serving, tmp_path: Path) -> None:
    """By name, as keywords, listed in the prompt; else the default one; none when it is said."""
    (tmp_path / "drugs.txt").write_text("apixaban\n")
    (tmp_path / "places.txt").write_text("Ghent\n")
    glossaries = {name: tmp_path / f"{name}.txt" for name in ("drugs", "places")}
    async with (
        serving(glossaries=glossaries, default_glossary="drugs") as server,
        client_of(server) as client,
    ):
        assert await terms(client) == ["apixaban"]
        assert await terms(client, extra_body={"glossary": "places"}) == ["Ghent"]
        assert await terms(client, extra_body={"glossary": ""}) == []
        assert await terms(client, keywords=["warfarin", "Xa"]) == ["apixaban", "warfarin", "Xa"]
        both = {"glossary": "", "keywords": "warfarin, Xa\nINR"}
        assert await terms(client, extra_body=both) == ["warfarin", "Xa", "INR"]
        none = {"glossary": ""}
        assert await terms(client, prompt="Xa, INR", extra_body=none) == ["Xa", "INR"]
        assert await terms(client, prompt="So he said yes.", extra_body=none) == []


async def test_options_reach_the_engine(engine: FakeEngine, serving: Serving) -> None:
    """Language, task and threshold are those that were asked for."""
    asked: list[Any] = []
    engine.hook = lambda request: asked.append(engine.sessions[request.session].options)
    async with serving() as server, client_of(server) as client:
        await transcribe(client, language="de-AT", extra_body={"threshold": "eager"})
        await transcribe(client, extra_body={"threshold": "0.25", "languages[]": "de"})
        await transcribe(client, temperature=0.7)
        await translate(client)
    first, second, third, fourth = asked[::2]
    assert (first.language, first.task, first.threshold) == ("de", "transcribe", "eager")
    assert (second.language, second.threshold) == ("de", 0.25)
    assert (third.language, third.threshold) == ("auto", "balanced")
    assert fourth.task == "translate"


async def test_keywords_that_cannot_be_used_are_told(serving: Serving) -> None:
    """The others count."""
    async with serving() as server, client_of(server) as client:
        keywords = ["warfarin", "x" * 500]
        answer = await transcribe(client, response_format="verbose_json", keywords=keywords)
    assert [term["term"] for term in answer.segments[0].terms] == ["warfarin"]
    (rejected,) = answer.rejected_terms
    assert rejected["entry"].startswith("xxx")
    assert rejected["reason"]


# Errors


@pytest.mark.parametrize(
    ("fields", "param", "named"),
    [
        ({"response_format": "diarized_json"}, "response_format", "accepted: json, text, srt"),
        ({"language": "tlh"}, "language", '"tlh"; accepted: auto, de, en'),
        ({"temperature": 3.0}, "temperature", "accepted: a number from 0 to 1"),
        (
            {"extra_body": {"timestamp_granularities[]": "letter"}, "response_format": "json"},
            "timestamp_granularities",
            "accepted: word, segment",
        ),
        ({"timestamp_granularities": ["word"]}, "response_format", "accepted: verbose_json"),
        ({"stream": True, "response_format": "srt"}, "response_format", "json or text"),
        ({"extra_body": {"glossary": "nope"}}, "glossary", "none, the server has no glossary"),
        ({"extra_body": {"threshold": "much"}}, "threshold", "cautious, balanced, eager"),
        ({"extra_body": {"stream": "perhaps"}}, "stream", "accepted: true, false"),
        ({"extra_body": {"vad": "nose"}}, "vad", "accepted: silero"),
        ({"file": ("a.wav", b"not audio at all")}, None, "accepted: wav, flac"),
        ({"file": ("a.wav", b"")}, None, "cannot be read as audio"),
    ],
)
async def test_bad_requests(serving: Serving, fields: Any, param: str | None, named: str) -> None:
    """The package's own exception, which names the field and what is accepted."""
    async with serving() as server, client_of(server) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await transcribe(client, **{"file": FILE, **fields})
    error = caught.value
    assert (error.status_code, error.param, error.type) == (400, param, "invalid_request_error")
    assert named in error.message
    assert server.hub.uploads.open == 0


async def test_bodies_that_are_no_form(serving: Serving) -> None:
    """415 for another content type, 400 for a broken form or one without a file."""
    async with serving() as server:
        for content, content_type, status, code in (
            (b"{}", "application/json", 415, "unsupported_media_type"),
            (b"junk", "multipart/form-data; boundary=x", 400, "bad_input"),
            (b"junk", "multipart/form-data", 400, "bad_input"),
            (b"--x--\r\n", "multipart/form-data; boundary=x", 400, "missing_required_field"),
        ):
            answer = await post(server, content, content_type)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize("announced", [True, False])
async def test_a_file_that_is_too_long_is_refused(serving: Serving, announced: bool) -> None:
    """413 that the client gets to see, although it was still sending."""
    file = wav(silence(200))
    async with serving(max_audio_upload_bytes=100_000) as server, client_of(server) as client:
        if announced:
            with pytest.raises(openai.APIStatusError) as caught:
                await transcribe(client, ("long.wav", file))
            status, error = caught.value.status_code, dict(caught.value.body)
        else:
            answer = await post(server, _unannounced(file), "multipart/form-data; boundary=x")
            status, error = answer.status_code, answer.json()["error"]
    assert (status, error["param"], error["code"]) == (413, "file", "file_too_large")
    assert "up to 100000 bytes" in error["message"]


async def post(
    server: Running, content: bytes | AsyncIterator[bytes], content_type: str
) -> httpx.Response:
    """A request that the package would not send."""
    async with httpx.AsyncClient() as client:
        return await client.post(
            f"{server.url}v1/audio/transcriptions",
            content=content,
            headers={"content-type": content_type},
        )


async def _unannounced(file: bytes) -> AsyncIterator[bytes]:
    yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    for at in range(0, len(file), 65_536):
        yield file[at : at + 65_536]


async def test_a_recording_that_is_too_long_is_refused(
    engine: FakeEngine, serving: Serving
) -> None:
    """However small its file; nothing stays behind."""
    async with serving(max_upload_s=5) as server, client_of(server) as client:
        with pytest.raises(openai.BadRequestError, match="longer than 5 s"):
            await transcribe(client, ("long.ogg", packed("ogg", silence(20))))
    assert engine.sessions == {}


async def test_the_engines_failure_is_an_error_of_the_server(
    engine: FakeEngine, serving: Serving
) -> None:
    """500 with a text that was meant to be told, and in a stream an error event."""

    def fail(request: StepRequest) -> None:
        if len(engine.requests) % 2 == 0:
            raise ModelError("the model is ill")

    engine.hook = fail
    async with serving() as server, client_of(server) as client:
        with pytest.raises(openai.InternalServerError, match="the model is ill") as caught:
            await transcribe(client)
        stream = await transcribe(client, stream=True)
        assert (await anext(aiter(stream))).delta == FIRST
        with pytest.raises(openai.APIError, match="the model is ill"):
            await anext(aiter(stream))
    assert (caught.value.status_code, caught.value.type) == (500, "server_error")
    assert engine.sessions == {}


async def test_bugs_are_not_told(engine: FakeEngine, serving: Serving) -> None:
    """Their text may show what nobody should see."""

    def fail(request: StepRequest) -> None:
        raise KeyError("secret")

    engine.hook = fail
    async with serving() as server, client_of(server) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await transcribe(client)
    assert "secret" not in str(caught.value)
    assert caught.value.code == "internal"


async def test_keys_are_asked_for(serving: Serving, tmp_path: Path) -> None:
    """401 as the package's authentication error, for uploads and models."""
    keys = tmp_path / "keys.json"
    write_keys(keys, [])
    async with serving(keys_file=keys) as server, client_of(server, api_key="wrong") as client:
        for asked in (transcribe(client), client.models.retrieve("fake")):
            with pytest.raises(openai.AuthenticationError) as caught:
                await asked
            assert caught.value.code == "invalid_api_key"
            assert "wrong" not in str(caught.value)


async def test_limits_of_a_key_hold(serving: Serving, tmp_path: Path) -> None:
    """429 as the package's rate limit error, when the key has had its audio."""
    keys = tmp_path / "keys.json"
    key, record = new_key("ward", limits=KeyLimits(audio_s_per_hour=6))
    write_keys(keys, [record])
    keys.chmod(0o600)
    async with serving(keys_file=keys) as server, client_of(server, api_key=key) as client:
        assert (await transcribe(client)).text == f"{FIRST} {SECOND}"
        for _ in range(2):
            with pytest.raises(openai.RateLimitError, match="6 s of audio an hour") as caught:
                await transcribe(client)
            assert int(caught.value.response.headers["retry-after"]) > 1000


# Load


async def test_when_all_places_are_taken(engine: FakeEngine, serving: Serving) -> None:
    """503 with a time to come back, which the package does by itself; the place is free then."""
    engine.step_s = 0.3
    async with (
        serving(max_uploads=1, retry_after_s=1) as server,
        client_of(server) as client,
        client_of(server, max_retries=3) as patient,
    ):
        first = asyncio.create_task(transcribe(client))
        await eventually(lambda: bool(engine.requests))
        with pytest.raises(openai.InternalServerError) as caught:
            await transcribe(client)
        assert caught.value.status_code == 503
        assert caught.value.code == "full"
        assert caught.value.response.headers["retry-after"] == "1"
        second = asyncio.create_task(transcribe(patient))
        assert [(await task).text for task in (first, second)] == [f"{FIRST} {SECOND}"] * 2
    assert server.hub.uploads.open == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_frees_its_place(
    engine: FakeEngine, serving: Serving, stream: bool
) -> None:
    """What is under way ends, nothing further is begun, and the engine's session is closed."""
    engine.step_s = 0.2
    long = ("long.wav", wav(*[tone(1), silence(1)] * 10))
    async with serving(max_uploads=1) as server:
        async with client_of(server) as client:
            if stream:
                await anext(aiter(await transcribe(client, long, stream=True)))
            else:
                with pytest.raises(openai.APITimeoutError):
                    await transcribe(client, long, timeout=0.5)
        await eventually(lambda: server.hub.uploads.open == 0)
        steps = len(engine.requests)
        assert 0 < steps < 6
        assert engine.sessions == {}
        await asyncio.sleep(0.5)
        assert len(engine.requests) == steps


async def test_uploads_beside_a_live_session(engine: FakeEngine, serving: Serving) -> None:
    """Finals of a live session come as quickly beside three uploads as without any."""
    engine.step_s = 0.6
    long = ("long.wav", wav(*[tone(1), silence(1)] * 20))
    async with serving(workers=2) as server, client_of(server) as client:
        alone_s = await _final_latency_s(server)
        uploads = [asyncio.create_task(transcribe(client, long)) for _ in range(3)]
        await eventually(lambda: engine.busy > 0)
        beside_s = await _final_latency_s(server)
        assert not any(task.done() for task in uploads)
        for task in uploads:
            task.cancel()
        await asyncio.gather(*uploads, return_exceptions=True)
    assert engine.most_busy <= 2
    assert beside_s < alone_s + 0.2


async def _final_latency_s(server: Running) -> float:
    """Median time from the end of an utterance, as it is heard, to its final, of three."""
    latencies = []
    async with connect(server.ws_url) as live:
        await live.start(options={"partials": False})
        for _ in range(3):
            for part in (tone(1), silence(0.5)):
                for at in range(0, len(part), 1600):
                    await live.send(pcm(part[at : at + 1600]))
                    await asyncio.sleep(0.1)
            ended_s = time.monotonic()
            await live.wait_for("final")
            latencies.append(time.monotonic() - ended_s)
    return sorted(latencies)[1]


async def test_a_server_that_stops_breaks_uploads_off(engine: FakeEngine, serving: Serving) -> None:
    """With 503, so that the client sends the recording to another server."""
    engine.step_s = 0.3
    long = ("long.wav", wav(*[tone(1), silence(1)] * 20))
    async with serving() as server, client_of(server) as client:
        upload = asyncio.create_task(transcribe(client, long))
        await eventually(lambda: len(engine.requests) > 1)
        stopping = asyncio.create_task(server.stop())
        with pytest.raises(openai.InternalServerError) as caught:
            await upload
        await stopping
    assert (caught.value.status_code, caught.value.code) == (503, "shutting_down")
    assert "retry-after" in caught.value.response.headers
    assert engine.sessions == {}


# Answers


def _final(text: str, words: tuple[str, ...], probability: float, **fields: Any) -> Final:
    spoken = tuple(
        Word(
            text=word,
            start_sample=number * 8000,
            end_sample=(number + 1) * 8000,
            probability=probability,
        )
        for number, word in enumerate(words)
    )
    return Final(
        segment_id=1,
        revision=1,
        start_sample=0,
        end_sample=8000 * len(words),
        text=text,
        reason="endpoint",
        words=spoken,
        **{"language": "en", **fields},
    )


def _verbose(*finals: Final) -> Any:
    progress = Progress(audio_samples=16_000, finals=list(finals))
    form = Form(data=b"", response_format="verbose_json")
    return json.loads(render(Transcript(task="transcribe", form=form, progress=progress)))


def test_a_rare_term_does_not_make_its_segment_look_bad() -> None:
    """Vexa drops segments below -1.3; words of a term count with the probability of the term."""
    words = (" Take", " apixaban,")
    hits = (
        TermHit(term="Apixaban", probability=0.9, used=True, start_sample=1600),
        TermHit(term="take", probability=0.99),
    )
    plain = _verbose(_final("Take apixaban,", words, 0.01))["segments"][0]
    told = _verbose(_final("Take apixaban,", words, 0.01, terms=hits))["segments"][0]
    assert plain["avg_logprob"] == pytest.approx(np.log(0.01), abs=1e-3)
    assert told["avg_logprob"] == pytest.approx((np.log(0.01) + np.log(0.9)) / 2, abs=1e-3)
    assert told["terms"][0] == {
        "term": "Apixaban",
        "probability": 0.9,
        "start": 0.1,
        "end": None,
        "used": True,
    }


def test_repetition_shows_in_the_compression_ratio() -> None:
    """Above 2.4, as with Whisper, where the same is written again and again."""
    loop = _verbose(_final("no " * 100, (" no",) * 100, 0.9))["segments"][0]
    assert loop["compression_ratio"] > 2.4


def test_languages_are_spaced_and_named_as_they_are() -> None:
    """No spaces between segments of Japanese; the language of most of the audio stands first."""
    body = _verbose(
        _final("血栓です", ("血栓", "です"), 0.9, language="ja"),
        _final("薬です", ("薬", "で", "す"), 0.9, language="ja"),
        _final("Yes.", (" Yes.",), 0.9),
    )
    assert body["text"] == "血栓です薬です Yes."
    assert body["language"] == "ja"
