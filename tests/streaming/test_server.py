"""Real clients against a real server; only the engine is a fake."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import soxr

from streaming.errors import SettingsError
from streaming.events import Event
from streaming.server import running
from streaming.settings import ServerSettings
from tests.streaming.conftest import Serving
from tests.streaming.fake_engine import FakeEngine
from tests.streaming.own_server import STOP, TWO_SEGMENTS, client_of, until
from tests.streaming.signals import pcm, silence, tone
from tests.streaming.wire import connect


async def test_a_session_from_start_to_end(serving: Serving, engine: FakeEngine) -> None:
    """Audio becomes speech events, partials and finals; the close is normal."""
    async with client_of(serving) as client:
        started = await client.start()
        await client.send(TWO_SEGMENTS)
        await client.send(STOP)
        assert await client.until_closed() == 1000
    assert started["protocol"] == 1 and len(started["session_id"]) == 16
    assert started["audio"] == {"encoding": "pcm_s16le", "sample_rate_hz": 16000, "channels": 1}
    assert [m["seq"] for m in client.got] == list(range(1, len(client.got) + 1))
    assert [m["time_s"] for m in client.of_type("speech.started")] == [0.5, 3.5]
    assert [m["time_s"] for m in client.of_type("speech.stopped")] == [2.5, 4.5]
    first, second = client.of_type("final")
    assert (first["start_s"], first["end_s"], first["reason"]) == (0.2, 3.0, "endpoint")
    assert (second["start_s"], second["end_s"], second["reason"]) == (3.2, 4.5, "stop")
    assert second["text"] == "w0 w1 w2 w3 w4"
    assert [word["word"] for word in second["words"]] == second["text"].split()
    assert client.got[-1] == {"type": "session.ended", "audio_s": 4.5, "seq": len(client.got)}
    assert engine.sessions == {}


async def test_partials_come_while_speaking(serving: Serving) -> None:
    """At real-time pace partials grow, and committed text is a prefix of all that follows."""
    async with client_of(serving) as client:
        await client.start(options={"partial_interval_ms": 100})
        audio = pcm(tone(2.5))
        for at in range(0, len(audio), 3200):
            await client.send(audio[at : at + 3200])
            await asyncio.sleep(0.02)
        await client.send(STOP)
        await client.until_closed()
    partials, (final,) = client.of_type("partial"), client.of_type("final")
    assert len(partials) >= 5
    assert [m["revision"] for m in partials] == list(range(1, len(partials) + 1))
    assert final["revision"] == len(partials) + 1
    later = [m["committed"] + m["volatile"] for m in partials[1:]] + [final["text"]]
    assert all(text.startswith(m["committed"]) for m, text in zip(partials, later, strict=True))
    assert partials[-1]["committed"]


async def test_a_translation_comes_with_what_was_said(serving: Serving, engine: FakeEngine) -> None:
    """The options reach the engine, the transcript the client; what is in force is echoed."""
    options = {"target_language": "en", "source_text": True}
    async with client_of(serving) as client:
        started = await client.start(task="translate", options=options)
        (session,) = engine.sessions.values()
        assert (session.options.task, session.options.target_language) == ("translate", "en")
        await client.send(pcm(np.concatenate([tone(1), silence(1)])))
        await client.send(STOP)
        await client.until_closed()
    assert {key: started["options"][key] for key in options} == options
    (final,) = client.of_type("final")
    assert final["source"] == {"text": f"{len(final['text'].split())} palabras", "language": "es"}


@pytest.mark.parametrize("rate_hz", [8_000, 24_000, 32_000, 44_100, 48_000])
async def test_other_formats(serving: Serving, rate_hz: int) -> None:
    """Any documented rate, as float stereo in odd pieces, gives the same segment."""
    audio = np.concatenate([silence(0.5), tone(1), silence(0.6)])
    mono = soxr.resample(audio, 16_000, rate_hz)
    data = np.stack([mono, mono], axis=1).astype("<f4").tobytes()
    async with client_of(serving) as client:
        form = {"encoding": "pcm_f32le", "sample_rate_hz": rate_hz, "channels": 2}
        await client.start(audio=form)
        for at in range(0, len(data), 9_999):
            await client.send(data[at : at + 9_999])
        await client.send(STOP)
        assert await client.until_closed() == 1000
    (final,) = client.of_type("final")
    assert abs(final["start_s"] - 0.2) <= 0.02 and abs(final["end_s"] - 2.0) <= 0.02
    assert abs(client.got[-1]["audio_s"] - 2.1) < 0.001


async def test_several_clients_at_once(serving: Serving, engine: FakeEngine) -> None:
    """Sessions run beside one another, each in order, within the bound on steps."""
    engine.step_s = 0.02
    lengths = [1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
    async with serving(workers=2) as server:

        async def talk(length_s: float) -> str:
            async with connect(server.ws_url) as client:
                await client.start()
                await client.send(pcm(tone(length_s), silence(1)))
                await client.send(STOP)
                assert await client.until_closed() == 1000
            (final,) = client.of_type("final")
            return str(final["text"])

        texts = await asyncio.gather(*(talk(length_s) for length_s in lengths))
    spoken = [len(text.split()) for text in texts]
    assert spoken == [int((length_s + 0.5) / 0.25) for length_s in lengths]
    assert engine.most_busy == 2
    assert threading.main_thread().ident not in engine.threads


async def test_flush_ends_the_open_segment(serving: Serving) -> None:
    """A flush gives the final at once, then ``flushed``; the session goes on."""
    async with client_of(serving) as client:
        await client.start()
        await client.send(pcm(tone(1)))
        await client.send({"type": "flush"})
        await client.wait_for("flushed")
        assert [m["reason"] for m in client.of_type("final")] == ["flush"]
        await client.send(pcm(tone(1)))
        await client.send(STOP)
        assert await client.until_closed() == 1000
    assert [m["reason"] for m in client.of_type("final")] == ["flush", "stop"]


async def test_a_session_without_audio_ends_in_order(serving: Serving) -> None:
    """Empty messages are no audio; stopping without any gives ``session.ended`` alone."""
    async with client_of(serving) as client:
        await client.start()
        await client.send(b"")
        await client.send(STOP)
        assert await client.until_closed() == 1000
    assert client.got[1:] == [{"type": "session.ended", "audio_s": 0.0, "seq": 2}]


async def test_audio_that_ends_inside_a_sample(serving: Serving) -> None:
    """The odd byte is dropped with an error that is not fatal; the final still comes."""
    async with client_of(serving) as client:
        await client.start()
        await client.send(pcm(tone(1)) + b"x")
        await client.send(STOP)
        assert await client.until_closed() == 1000
    (error,) = client.of_type("error")
    assert (error["code"], error["fatal"]) == ("truncated_audio", False)
    assert len(client.of_type("final")) == 1


async def test_glossaries_by_name_inline_and_by_default(
    serving: Serving, engine: FakeEngine, tmp_path: Path
) -> None:
    """A name and inline entries add up; null switches the default off."""
    path = tmp_path / "demo.txt"
    path.write_text("apixaban\nmetoprolol\n", encoding="utf-8")
    counts = []
    async with serving(glossaries={"demo": path}, default_glossary="demo") as server:
        for keys in (
            {},
            {"glossary": None},
            {"glossary": {"name": "demo", "terms": ["Eliquis", "apixaban", "", "😀"]}},
        ):
            async with connect(server.ws_url) as client:
                counts.append((await client.start(**keys))["glossary"])
    assert [(found["terms"], found["rejected_count"]) for found in counts] == [
        (2, 0),
        (0, 0),
        (3, 2),
    ]
    assert counts[2]["rejected"][0] == {"entry": "", "reason": "blank"}


async def test_a_glossary_edit_in_mid_stream(serving: Serving) -> None:
    """The answer says from when the new glossary counts: what has no final yet."""
    async with client_of(serving) as client:
        await client.start(glossary={"terms": ["old"]})
        await client.send(pcm(tone(1), silence(1), tone(1)))
        final = await client.wait_for("final")
        edit = {"type": "glossary.edit", "add": ["new", "new", "-"], "remove": ["old"]}
        await client.send(edit)
        updated = await client.wait_for("glossary.updated")
        await client.send(STOP)
        await client.until_closed()
    counts = [updated[key] for key in ("version", "terms", "added", "removed", "rejected_count")]
    assert counts == [2, 1, 1, 1, 2]
    assert final["end_s"] <= updated["audio_time_s"] <= 1.7
    assert [term["term"] for term in client.of_type("final")[-1]["terms"]] == ["new"]


async def test_a_refused_glossary_edit_leaves_the_session_alone(serving: Serving) -> None:
    """The engine's refusal is told as an error that is not fatal."""
    async with client_of(serving) as client:
        await client.start()
        await client.send({"type": "glossary.edit", "add": ["unloadable"]})
        error = await client.wait_for("error")
        assert (error["code"], error["fatal"]) == ("bad_glossary", False)
        await client.send(TWO_SEGMENTS)
        await client.send(STOP)
        assert await client.until_closed() == 1000


async def test_stopping_the_server_delivers_last_finals(
    serving: Serving, engine: FakeEngine
) -> None:
    """Open sessions get their finals, then ``shutting_down`` and 1012; so do idle connections."""
    engine.step_s = 0.1
    async with serving() as server:
        async with connect(server.ws_url) as client, connect(server.ws_url) as idle:
            await client.start()
            await client.send(pcm(tone(2), silence(0.6), tone(1)))
            await client.wait_for("speech.stopped")
            closing = asyncio.gather(client.until_closed(), idle.until_closed())
            await server.stop()
            assert await closing == [1012, 1012]
    assert [m["reason"] for m in client.of_type("final")] == ["endpoint", "stop"]
    assert [m["code"] for m in (client.got[-1], idle.got[-1])] == ["shutting_down"] * 2
    assert not client.of_type("session.ended")
    assert engine.sessions == {}


class Recorder:
    """A publisher that notes what it is asked, and may be broken."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken
        self.calls: list[str] = []

    async def start(self) -> None:
        """Note it."""
        self.calls.append("start")

    def publish(self, session_id: str, event: Event) -> None:
        """Note the event's type."""
        assert not self.broken
        self.calls.append(event.type)

    async def stop(self) -> None:
        """Note it."""
        self.calls.append("stop")


async def test_publishers_get_every_event_and_may_fail(serving: Serving) -> None:
    """A publisher hears what the client hears; one that raises harms nobody."""
    recorder, broken = Recorder(), Recorder(broken=True)
    async with client_of(serving, publishers=[broken, recorder]) as client:
        await client.start()
        await client.send(TWO_SEGMENTS)
        await client.send(STOP)
        await client.until_closed()
    assert recorder.calls == ["start", *(m["type"] for m in client.got), "stop"]
    assert broken.calls == ["start", "stop"]


@pytest.mark.parametrize("message", [None, "oops"])
async def test_publishers_get_the_last_words_of_a_client_that_fails(
    serving: Serving, engine: FakeEngine, message: str | None
) -> None:
    """Whether it vanishes or breaks the protocol: its last sentence is captioned, for others."""
    recorder = Recorder()
    async with serving(publishers=[recorder]) as server, connect(server.ws_url) as client:
        await client.start()
        await client.send(pcm(tone(1)))
        await client.wait_for("speech.started")
        if message is None:
            client.socket.transport.abort()
        else:
            await client.send(message)
            assert await client.until_closed() == 1007
            assert client.got[-1]["code"] == "bad_json" and not client.of_type("final")
        await until(lambda: server.hub.sessions == 0)
    assert recorder.calls[-3:] == ["final", "session.ended", "stop"]
    assert engine.sessions == {}


async def test_pages_and_information(serving: Serving, tmp_path: Path) -> None:
    """The captions page, health and information share the port with the socket."""
    (tmp_path / "index.html").write_text("<title>captions</title>", encoding="utf-8")
    async with serving(web_directory=tmp_path) as server, httpx.AsyncClient() as http:
        page = await http.get(server.url)
        assert "captions" in page.text and page.headers["content-type"].startswith("text/html")
        assert (await http.get(server.url + "healthz")).json() == {"status": "ok", "sessions": 0}
        assert (await http.get(server.url + "nothing")).status_code == 404
        info = (await http.get(server.url + "api/info")).json()
    assert info["languages"] == ["auto", "en", "de"] and info["limits"]["max_sessions"] == 32
    assert info["vads"] == ["silero", "webrtc", "energy"]
    assert info["tasks"] == ["transcribe", "translate"] and info["target_languages"] == ["en"]


async def test_an_address_in_use_is_a_clear_error(serving: Serving, engine: FakeEngine) -> None:
    """A second server on the port is refused in one line."""
    async with serving() as server:
        with pytest.raises(SettingsError, match=f"port {server.port}: Address already in use"):
            async with running(ServerSettings.load(port=server.port), engine):
                pass


async def test_a_missing_certificate_is_a_clear_error(engine: FakeEngine) -> None:
    """TLS that cannot be set up is refused before anything listens."""
    settings = ServerSettings.load(port=0, ssl_certfile="nowhere.pem")
    with pytest.raises(SettingsError, match=r"cannot use certificate nowhere\.pem: .*No such file"):
        async with running(settings, engine):
            pass


SERVE = """
import sys
from streaming.server import serve
from streaming.settings import ServerSettings
from tests.streaming.fake_engine import FakeEngine
serve(
    ServerSettings.load(port=0),
    FakeEngine(step_s=0.2),
    on_ready=lambda server: print(server.ws_url, flush=True),
)
print("stopped", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_the_server_cleanly(number: signal.Signals) -> None:
    """The process delivers last finals, closes with 1012 and exits with 0."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().strip()
    assert re.fullmatch(r"ws://127\.0\.0\.1:\d+/ws", url)
    async with connect(url) as client:
        await client.start()
        await client.send(pcm(tone(2)))
        await client.wait_for("speech.started")
        process.send_signal(number)
        assert await client.until_closed() == 1012
    rest, errors = await asyncio.wait_for(process.communicate(), 10)
    assert (process.returncode, rest, errors) == (0, b"stopped\n", b"")
    assert [m["reason"] for m in client.of_type("final")] == ["stop"]


async def test_the_loop_is_never_blocked(serving: Serving, engine: FakeEngine) -> None:
    """While steps take their time the server answers others at once."""
    engine.step_s = 0.5
    async with serving() as server, connect(server.ws_url) as client, httpx.AsyncClient() as http:
        await client.start()
        await client.send(pcm(tone(2)))
        await until(lambda: engine.busy == 1)
        before_s = time.monotonic()
        await http.get(server.url + "healthz")
        assert time.monotonic() - before_s < 0.25
