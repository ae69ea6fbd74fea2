"""Deepgram's live interface by deepgram-sdk 4.3.0, in a process and an environment of its own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from streaming.server import Running
from tests.streaming.conftest import Serving
from tests.streaming.signals import pcm, silence, tone

PYTHON = Path(__file__).parents[3] / ".venv-deepgram4" / "bin" / "python"
CLIENT = Path(__file__).parent / "deepgram4_client.py"
OPTIONS = {
    "model": "nova-3",
    "encoding": "linear16",
    "sample_rate": 16_000,
    "channels": 1,
    "interim_results": True,
    "vad_events": True,
    "utterance_end_ms": "1000",
    "punctuate": True,
    "endpointing": 300,
    "keyterm": ["Dr. Ahn", "warfarin"],
    "language": "en-US",
}


async def run(server: Running, file: Path, **options: Any) -> tuple[list[tuple[str, Any]], str]:
    """The events of the package, and what it said besides."""
    assert PYTHON.exists(), f"{PYTHON} is missing; scripts/setup-deepgram4 makes it"
    command = (PYTHON, CLIENT, f"ws://127.0.0.1:{server.port}", file)
    process = await asyncio.create_subprocess_exec(
        *command,
        json.dumps({**OPTIONS, **options}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        output, errors = await process.communicate()
    return [tuple(json.loads(line)) for line in output.splitlines()], errors.decode()


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Two utterances, the second without silence behind it."""
    file = tmp_path / "speech.raw"
    file.write_bytes(pcm(silence(0.5), tone(2), silence(2), tone(1)))
    return file


async def test_every_event_of_the_package(serving: Serving, speech: Path) -> None:
    """Opened, begun, said in interims and finals, ended, finalized, summed up, closed."""
    async with serving() as server:
        events, errors = await run(server, speech)
    assert "Exception" not in errors
    names = [name for name, _ in events]
    assert names[0] == "Open" and names[-1] == "Close"
    assert set(names) == {
        *("Open", "SpeechStarted", "Transcript", "UtteranceEnd", "Metadata", "Close")
    }
    results = [message for name, message in events if name == "Transcript"]
    finals = [result for result in results if result["is_final"]]
    assert len(results) > len(finals)
    assert [final["from_finalize"] for final in finals] == [False, True]
    assert all(final["speech_final"] for final in finals)
    said = [final["channel"]["alternatives"][0] for final in finals]
    assert all(each["transcript"].startswith("w0 w1 w2") for each in said)
    assert all(each["confidence"] == each["words"][0]["confidence"] == 0.9 for each in said)
    assert names.count("UtteranceEnd") == 1 and names.count("Metadata") == 1
    (metadata,) = [message for name, message in events if name == "Metadata"]
    assert metadata["duration"] == pytest.approx(5.5, abs=0.01)
    assert metadata["request_id"] == finals[0]["metadata"]["request_id"]


async def test_what_is_not_offered_is_refused(serving: Serving, speech: Path) -> None:
    """The package's ``start`` says no."""
    async with serving() as server:
        events, errors = await run(server, speech, encoding="g729")
    assert not events and "the connection was refused" in errors and "400" in errors
