"""Captions reach a real broker, as seen by an independent subscriber."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from a2p_engine.types import TermHit
from clients import CaptionClient
from clients import Final as ClientFinal
from streaming.errors import SettingsError
from streaming.events import (
    Error,
    Final,
    Partial,
    SessionEnded,
    SessionStarted,
    SpeechStarted,
)
from streaming.publishers import mqtt
from streaming.publishers.mqtt import MqttPublisher, MqttSettings
from streaming.publishers.mqtt_messages import Message, Outbox, Topics
from tests.streaming.conftest import Serving
from tests.streaming.signals import pcm, silence, tone

STARTED = SessionStarted(
    session_id="S1", audio={"sample_rate_hz": 16000}, language="en", task="transcribe", options={}
)
HIT = TermHit(term="apixaban", probability=0.9, start_sample=8000, end_sample=16000, used=True)


def _partial(revision: int = 1, terms: tuple[TermHit, ...] = ()) -> Partial:
    return Partial(
        segment_id=1,
        revision=revision,
        start_sample=0,
        end_sample=16000,
        committed="take",
        volatile=" a pick",
        terms=terms,
    )


def _final(text: str = "Take apixaban.", segment_id: int = 1) -> Final:
    return Final(
        segment_id=segment_id,
        revision=2,
        start_sample=1600,
        end_sample=24000,
        text=text,
        language="en",
        reason="endpoint",
        terms=(HIT,),
    )


def _program(name: str) -> str:
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        pytest.fail(f"{name} is not installed: run scripts/setup-system", pytrace=False)
    return path


class Broker:
    """A mosquitto of our own on a loopback port that stays the same over restarts."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._config = directory / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def require_password(self, username: str, password: str) -> None:
        """Refuse everybody else from the next start on."""
        file = self._config.with_name("passwords")
        subprocess.run(
            [_program("mosquitto_passwd"), "-c", "-b", str(file), username, password],
            check=True,
            capture_output=True,
        )
        text = self._config.read_text().replace("allow_anonymous true", "allow_anonymous false")
        self._config.write_text(f"{text}password_file {file}\n")

    def start(self) -> None:
        """Return once connections are taken."""
        self._process = subprocess.Popen(
            [_program("mosquitto"), "-c", str(self._config)], stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise TimeoutError("mosquitto does not listen")

    def kill(self) -> None:
        """Go away without a word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def settings(self) -> MqttSettings:
        """How a publisher reaches this broker."""
        return MqttSettings.from_url(f"mqtt://127.0.0.1:{self.port}", node="hall")


class Subscriber:
    """``mosquitto_sub`` as an independent observer of everything under ``a2p/``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.seen: list[dict[str, Any]] = []

    async def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Read on until a message is as wanted, and return that one."""
        async with asyncio.timeout(10):
            while True:
                message = json.loads(await self._line(b"{"))
                text = message.pop("payload", "")
                message["body"] = json.loads(text) if text else None
                message["kind"] = message["topic"].rpartition("/")[2]
                self.seen.append(message)
                if wanted(message):
                    return message

    async def subscribed(self) -> None:
        """Wait until the broker has taken the subscription."""
        async with asyncio.timeout(10):
            await self._line(b"Subscribed")

    async def _line(self, start: bytes) -> bytes:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            if line.startswith(start):
                return line
        raise EOFError("mosquitto_sub has ended")


@asynccontextmanager
async def subscriber(broker: Broker, *options: str) -> AsyncIterator[Subscriber]:
    """An observer that has subscribed."""
    process = await asyncio.create_subprocess_exec(
        *("stdbuf", "-oL"),  # else a line stays in its buffer until the next message
        _program("mosquitto_sub"),
        *("-h", "127.0.0.1", "-p", str(broker.port), "-t", "a2p/#", "-q", "2", "-d", "-F", "%j"),
        *options,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        observer = Subscriber(process)
        await observer.subscribed()
        yield observer
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def publisher(settings: MqttSettings) -> AsyncIterator[MqttPublisher]:
    """A publisher between start and stop."""
    running = MqttPublisher(settings)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that is not started yet."""
    made = Broker(tmp_path)
    yield made
    made.kill()


def _of(kind: str) -> Callable[[dict[str, Any]], bool]:
    return lambda message: message["kind"] == kind


def _status(status: str) -> Callable[[dict[str, Any]], bool]:
    return lambda message: message["kind"] == "status" and message["body"]["status"] == status


async def test_a_session_is_told_in_order(broker: Broker) -> None:
    """Topics, QoS, versioned payloads in milliseconds, and the order of a whole session."""
    broker.start()
    async with subscriber(broker) as observer:
        async with publisher(broker.settings) as running:
            await observer.until(_status("online"))
            running.publish("S1", STARTED)
            running.publish("S1", SpeechStarted(segment_id=1, time_sample=0))
            running.publish("S1", _partial(1))
            running.publish("S1", _partial(2, terms=(HIT,)))
            running.publish("S1", _partial(3, terms=(HIT,)))
            running.publish("S1", _final())
            running.publish("S1", SessionEnded(audio_samples=32000))
        await observer.until(_status("offline"))
    told = [(m["kind"], m["qos"]) for m in observer.seen]
    assert told == [
        ("status", 1),
        ("state", 1),
        ("state", 1),
        ("partial", 0),
        ("partial", 0),
        ("terms", 0),
        ("partial", 0),
        ("final", 1),
        ("terms", 1),
        ("state", 1),
        ("state", 1),
        ("status", 1),
    ]
    final = observer.seen[7]
    assert final["topic"] == "a2p/hall/session/s1/final"
    body = final["body"]
    assert body.pop("time").endswith("+00:00")
    assert body == {
        "v": 1,
        "node": "hall",
        "session": "S1",
        "segment_id": 1,
        "revision": 2,
        "start_ms": 100,
        "end_ms": 1500,
        "text": "Take apixaban.",
        "language": "en",
        "reason": "endpoint",
        "words": [],
        "terms": [
            {"term": "apixaban", "probability": 0.9, "start_ms": 500, "end_ms": 1000, "used": True}
        ],
    }
    assert [m["body"] and m["body"]["state"] for m in observer.seen if m["kind"] == "state"] == [
        "listening",
        "speaking",
        "ended",
        None,
    ]


async def test_only_status_and_states_are_retained(broker: Broker) -> None:
    """A late subscriber sees who is there and what is open, but no speech, and no ended session."""
    broker.start()
    async with subscriber(broker) as early, publisher(broker.settings) as running:
        running.publish("gone", STARTED)
        await early.until(_of("state"))
        running.publish("gone", Error(code="internal", message="broken", fatal=True))
        await early.until(lambda message: message["body"] is None)
        running.publish("S1", STARTED)
        running.publish("S1", _partial())
        running.publish("S1", _final())
        await early.until(_of("final"))
        async with subscriber(broker) as late:
            await late.until(_status("online"))
            running.publish("S1", _final("marker"))
            await late.until(_of("final"))
    retained = {m["topic"] for m in late.seen if m["retain"]}
    assert retained <= {"a2p/hall/status", "a2p/hall/session/s1/state"}
    assert [m["body"]["text"] for m in late.seen if m["kind"] == "final"] == ["marker"]
    assert {m["topic"] for m in late.seen if m["kind"] == "state"} == {"a2p/hall/session/s1/state"}


async def test_last_will_tells_of_a_killed_server(broker: Broker) -> None:
    """When the process dies, the broker says offline in its place, and keeps saying so."""
    broker.start()
    program = (
        "import asyncio\n"
        "from streaming.publishers.mqtt import MqttPublisher, MqttSettings\n"
        "async def main():\n"
        f"    settings = MqttSettings.from_url('mqtt://127.0.0.1:{broker.port}', node='hall')\n"
        "    await MqttPublisher(settings).start()\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    async with subscriber(broker) as observer:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
        await observer.until(_status("online"))
        process.send_signal(signal.SIGKILL)
        await process.wait()
        assert (await observer.until(_status("offline")))["qos"] == 1
    async with subscriber(broker) as late:
        assert (await late.until(_status("offline")))["retain"] == 1


async def test_broker_absent_at_the_start(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finals wait for the broker; partials from before are not sent late."""
    monkeypatch.setattr(mqtt, "_FIRST_RETRY_S", 2.0)
    async with publisher(broker.settings) as running:
        running.publish("S1", STARTED)
        running.publish("S1", _partial())
        running.publish("S1", _final("one"))
        running.publish("S1", _final("two", segment_id=2))
        await asyncio.sleep(0.2)
        broker.start()
        async with subscriber(broker) as observer:
            await observer.until(lambda m: m["kind"] == "final" and m["body"]["text"] == "two")
    assert [m["kind"] for m in observer.seen] == ["status", "state", "final", "terms", "final"]


async def test_broker_that_restarts(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a restart the server is online again, states are restored and no final is missing."""
    monkeypatch.setattr(mqtt, "_FIRST_RETRY_S", 2.0)
    broker.start()
    async with publisher(broker.settings) as running:
        async with subscriber(broker) as observer:
            running.publish("S1", STARTED)
            running.publish("S1", _final("before"))
            await observer.until(_of("final"))
        broker.kill()
        await asyncio.sleep(0.2)
        running.publish("S1", _partial())
        running.publish("S1", _final("meanwhile"))
        broker.start()
        async with subscriber(broker) as observer:
            final = await observer.until(_of("final"))
            assert final["body"]["text"] == "meanwhile"
            running.publish("S1", _partial(2))
            assert (await observer.until(_of("partial")))["body"]["revision"] == 2
    assert [m["kind"] for m in observer.seen] == ["status", "state", "final", "terms", "partial"]


async def test_stop_is_quick_without_a_broker(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """Stopping does not wait for a broker that is not there, and says what was lost."""
    async with asyncio.timeout(3):
        async with publisher(broker.settings) as running:
            running.publish("S1", _final())
            await asyncio.sleep(0.2)
    assert "2 MQTT messages were not delivered" in caplog.text


async def test_password_comes_from_the_environment(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker with passwords lets the publisher in, and the password shows nowhere."""
    broker.require_password("captions", "s3cret")
    broker.start()
    monkeypatch.setenv("A2P_MQTT_PASSWORD", "s3cret")
    settings = MqttSettings.from_url(f"mqtt://captions@127.0.0.1:{broker.port}", node="hall")
    assert "s3cret" not in repr(settings)
    async with subscriber(broker, "-u", "captions", "-P", "s3cret") as observer:
        async with publisher(settings):
            await observer.until(_status("online"))


async def test_the_server_publishes_its_sessions(broker: Broker, serving: Serving) -> None:
    """What a client hears goes to the broker as well, from the first state to the last."""
    broker.start()

    async def source() -> AsyncIterator[bytes]:
        yield pcm(silence(0.3), tone(1.0), silence(1.0))

    async with subscriber(broker) as observer:
        async with serving(publishers=[MqttPublisher(broker.settings)]) as server:
            async with CaptionClient(server.ws_url, options={"vad": "energy"}) as client:
                finals = [e async for e in client.caption(source()) if isinstance(e, ClientFinal)]
            told = await observer.until(_of("final"))
            await observer.until(
                lambda m: m["body"] is not None and m["body"].get("state") == "ended"
            )
        await observer.until(_status("offline"))
    assert [told["body"]["text"]] == [final.text for final in finals]


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://broker", "looks like mqtt://"),
        ("mqtt://", "looks like mqtt://"),
        ("mqtt://broker:99999", "cannot be read"),
        ("mqtt://broker/topic", "looks like mqtt://"),
        ("mqtt://me:pw@broker", "A2P_MQTT_PASSWORD"),
    ],
)
def test_bad_addresses_are_explained(url: str, complaint: str) -> None:
    """Each unusable address gets a line that helps, without the password in it."""
    with pytest.raises(SettingsError, match=complaint) as caught:
        MqttSettings.from_url(url)
    assert "pw" not in str(caught.value)


def test_addresses_are_read() -> None:
    """Ports and encryption follow the scheme; a node must be safe in a topic."""
    settings = MqttSettings.from_url("mqtts://me@broker.example", node="room-1")
    assert (settings.host, settings.port, settings.tls) == ("broker.example", 8883, True)
    assert (settings.username, settings.node) == ("me", "room-1")
    assert MqttSettings.from_url("mqtt://b").port == 1883
    with pytest.raises(SettingsError, match="lower-case"):
        MqttSettings.from_url("mqtt://b", node="a/b")


def _message(name: str, *, expendable: bool = False) -> Message:
    return Message(topic=name, payload=b"", expendable=expendable)


def _drain(outbox: Outbox) -> str:
    return "".join(iter(lambda: message.topic if (message := outbox.take()) else "", ""))


def test_full_outbox_drops_partials_before_finals() -> None:
    """The oldest expendable message goes first, then the oldest of the others."""
    outbox = Outbox(3)
    for name in "FpqG":
        outbox.put(_message(name, expendable=name in "pq"))
    assert outbox.undelivered == 2
    outbox.put(_message("H"))
    outbox.put(_message("I"))
    assert outbox.undelivered == 4
    assert _drain(outbox) == "GHI"


def test_outbox_puts_messages_back_in_front() -> None:
    """Messages that could not be sent come before those that waited; stale ones are forgotten."""
    outbox = Outbox(9)
    outbox.put(_message("c"))
    outbox.put(_message("p", expendable=True))
    outbox.put_first([_message("a"), _message("b")])
    outbox.drop_expendable()
    assert _drain(outbox) == "abc"


def test_session_ids_cannot_break_topics() -> None:
    """Characters with a meaning in topics are replaced; the payload has the id as it is."""
    (message,) = Topics("hall").messages("a/+#B", _final("", segment_id=3))[:1]
    assert message.topic == "a2p/hall/session/a___b/final"
    assert json.loads(message.payload)["session"] == "a/+#B"
