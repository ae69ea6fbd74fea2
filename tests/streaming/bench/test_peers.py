"""Viewers of different servers are measured alike, and the measures are right."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from websockets.asyncio.server import ServerConnection, serve

from a2p_engine.audio import read_audio
from a2p_engine.errors import InputError
from a2p_engine.manifest import Recording
from streaming.bench.peers import Shown, Track, Utterance, judge, track_of, watch_native, watch_wlk
from streaming.cli import main
from tests.streaming.conftest import Serving

SPEECH = Path(__file__).parents[3] / "examples" / "data" / "ward_round.flac"
SECOND = np.zeros(16_000, np.float32)


def track(*utterances: tuple[float, float, str], duration_s: float = 10.0) -> Track:
    """A silent track in which utterances are said to lie."""
    placed = tuple(Utterance(begin, end, tuple(said.split())) for begin, end, said in utterances)
    return Track(np.zeros(round(duration_s * 16_000), np.float32), placed)


def test_the_times_a_viewer_waits_for_words() -> None:
    """First words count from the beginning of an utterance, lasting ones from its end."""
    spoken = track((0.0, 2.0, "good morning"), (4.0, 6.0, "bed now was fine"))
    shown = [
        Shown(0.5, "", "could"),
        Shown(1.5, "", "good mourning"),
        Shown(2.6, "good morning", ""),
        Shown(4.4, "good morning", "bed"),
        Shown(5.0, "good morning bed", "fife"),
        Shown(6.9, "good morning bed now was fine", ""),
    ]
    figures = judge(spoken, shown)
    assert figures.first_s == pytest.approx([0.5, 0.4])
    assert figures.committed_s == pytest.approx([0.6, 0.9])
    assert figures.wer == 0 and figures.late_s == 0
    assert figures.erasure == pytest.approx(3 / 6), "could, mourning and fife were taken back"


def test_what_was_never_written_counts_as_errors_alone() -> None:
    """An utterance without a word has no times; text that never stayed does when the last came."""
    spoken = track((0.0, 1.0, "hello"), (3.0, 4.0, "there my friend"), duration_s=5.0)
    figures = judge(spoken, [Shown(3.5, "", "there my"), Shown(6.0, "", "there my fiend")])
    assert figures.first_s == pytest.approx([0.5]) and figures.committed_s == pytest.approx([2.0])
    assert figures.wer == pytest.approx(2 / 4) and figures.late_s == pytest.approx(1.0)
    assert judge(spoken, []).wer == 1.0


def test_recordings_are_laid_in_a_row(tmp_path: Path) -> None:
    """With a pause behind each; one without a text can not be compared."""
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", SECOND, 16_000)
    recordings = [
        Recording(id=name, audio=tmp_path / f"{name}.wav", text=f"Said {name}.", terms=())
        for name in "ab"
    ]
    row = track_of(recordings, pause_s=0.5)
    assert row.utterances == (
        Utterance(0.0, 1.0, ("said", "a")),
        Utterance(1.5, 2.5, ("said", "b")),
    )
    assert row.duration_s == 3.0
    silent = Recording(id="c", audio=tmp_path / "a.wav", text=None, terms=())
    with pytest.raises(InputError, match="recording c has no text"):
        track_of([silent], 0.5)


async def test_a_server_of_this_project_is_watched(serving: Serving) -> None:
    """What stays only grows, and the last view is all finals."""
    speech = read_audio(SPEECH)[: 8 * 16_000]
    async with serving() as server:
        shown = await watch_native(server.ws_url, Track(speech, ()), pace=8)
    assert len(shown) > 5 and all(b.stays.startswith(a.stays) for a, b in pairwise(shown))
    assert shown[-1].stays and not shown[-1].may_change


async def test_a_server_of_the_other_kind_is_watched() -> None:
    """Lines stay, its buffer may change, and its last message ends the watching."""
    heard: list[int] = []

    async def answer(socket: ServerConnection) -> None:
        await _send(socket, type="config", useAudioWorklet=True)
        async for message in socket:
            heard.append(len(message))
            if not message:
                break
        await _send(socket, lines=[{"text": "good"}, {"text": None}], buffer_transcription="mor")
        await _send(socket, lines=[{"text": "good morning"}], buffer_transcription="")
        await _send(socket, type="ready_to_stop")

    async with serve(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        shown = await watch_wlk(f"ws://127.0.0.1:{port}/asr", Track(SECOND, ()), pace=50)
    assert sum(heard) == 32_000
    said = [(view.stays.strip(), view.may_change) for view in shown]
    assert said == [("good", "mor"), ("good morning", "")]


async def _send(socket: ServerConnection, **message: Any) -> None:
    await socket.send(json.dumps(message))


@pytest.mark.parametrize(
    ("peer", "said"),
    [
        ("foo=ws://localhost/asr", "KIND is one of a2p, wlk"),
        ("wlk=http://localhost/asr", "takes KIND=URL"),
        ("wlk=ws://localhost/asr@999999999", "there is no process 999999999"),
    ],
)
def test_a_peer_that_cannot_be_is_a_clear_error(
    peer: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is spoken."""
    assert main(["bench", "peers", "--peer", peer]) != 0
    assert said in capsys.readouterr().err
