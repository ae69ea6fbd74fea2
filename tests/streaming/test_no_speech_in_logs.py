"""What is said, what a glossary holds and what opens doors stays out of the log."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import websockets

from a2p_engine.types import StepRequest, StepResult
from streaming.security.keys import new_key, write_keys
from tests.streaming.conftest import Serving
from tests.streaming.fake_engine import FakeEngine
from tests.streaming.signals import pcm, silence, tone
from tests.streaming.wire import Client, connect

SPEECH = "canary speech"
TERM = "canaryterm"
WRONG = "canary-wrong-key"


class Speaking(FakeEngine):
    """Hears the same phrase in everything, contradicts itself, and fails where it is told to."""

    fail = False

    def step(self, request: StepRequest) -> StepResult:
        """See the engine."""
        result = super().step(request)
        if self.fail:
            raise ValueError(f"cannot align {SPEECH!r}")
        words = tuple(
            replace(word, text=f" {SPEECH}{index}{'' if len(result.words) % 3 else '!'}")
            for index, word in enumerate(result.words)
        )
        text = "".join(word.text for word in words).strip()
        return replace(result, text=text, words=words)


@pytest.fixture
def engine() -> Speaking:
    """The server's engine."""
    return Speaking()


@pytest.fixture
def everything(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Whatever any logger lets through when the root lets through all.

    The client in this process is the test's own, and it may say what it sends.
    """
    for name in ("websockets.client", "httpx", "httpcore"):
        caplog.set_level(logging.ERROR, logger=name)
    for name in ("", "streaming", "a2p_engine", "clients", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


async def talk(client: Client) -> None:
    """A session with terms, edits, speech, a failure and messages that are refused."""
    await client.start(glossary={"terms": [TERM, TERM * 50, {"trem": TERM}]})
    await client.send(pcm(tone(2), silence(1)))
    await client.wait_for("final")
    await client.send({"type": "glossary.edit", "add": [TERM + "2", "unloadable"]})
    await client.wait_for("error")
    await client.send({"type": "glossary.edit", "ad": [TERM]})
    await client.wait_for("error")
    Speaking.fail = True
    await client.send(pcm(tone(1), silence(1)))
    await client.wait_for("error")
    await client.send(f"no json: {SPEECH}")
    await client.until_closed()


def told(record: logging.LogRecord) -> str:
    """Everything that a handler could write of a record."""
    return logging.Formatter().format(record) + repr(vars(record))


async def test_nothing_that_is_said_or_secret_is_logged(
    serving: Serving,
    tmp_path: Path,
    everything: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not in a session with everything that can go wrong, nor at the handshake, at any level."""
    monkeypatch.setattr(Speaking, "fail", False)
    made = new_key("room")
    secret = made.secret.rpartition("_")[2]
    write_keys(tmp_path / "keys.json", [made.record])
    async with serving(keys_file=tmp_path / "keys.json") as server, httpx.AsyncClient() as http:
        async with connect(f"{server.ws_url}?api_key={made.secret}") as client:
            await talk(client)
            spoken = str(client.got)
        offered = ["a2p", f"a2p-key.{made.secret}"]
        async with connect(server.ws_url, subprotocols=offered) as client:
            await client.send({"type": "start", "glossary": {"name": TERM}})
            await client.until_closed()
        with pytest.raises(websockets.InvalidStatus):
            async with connect(f"{server.ws_url}?token={WRONG}"):
                pass
        await http.get(f"{server.url}api/info?token={WRONG}", headers={"X-API-Key": WRONG})
        await http.get(f"{server.url}nothing?api_key={made.secret}")
    assert SPEECH in spoken
    heard = "\n".join(map(told, everything.records))
    assert "step failed on segment" in heard and "refused a client" in heard
    for canary in (SPEECH, TERM, WRONG, secret):
        assert canary not in heard, next(
            told(record) for record in everything.records if canary in told(record)
        )
