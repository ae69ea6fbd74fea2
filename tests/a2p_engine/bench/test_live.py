"""Ticks of a model of random numbers, on a tiny one."""

from __future__ import annotations

import json

import pytest

from a2p_engine.bench import live
from a2p_engine.errors import InputError
from a2p_engine.speech_llm.shapes import SHAPES
from streaming.cli import main
from tests.a2p_engine.speech_llm.test_plan import TINY

OPTIONS = live.Options(
    sessions=(1, 3), device="cpu", terms=50, window_s=4.0, new_tokens=4, repeat=2
)


@pytest.mark.parametrize("name", ["qwen3-asr-0.6b", "granite-speech-4.1-2b"])
def test_an_encoder_of_another_kind_is_a_clear_error(name: str) -> None:
    """It is refused before anything is built, not timed with the wrong encoder."""
    with pytest.raises(InputError, match=f"{name} cannot be timed live"):
        live.run(SHAPES[name](), OPTIONS)


def test_each_session_is_encoded_read_and_written_once_per_tick() -> None:
    """What a tick does grows with the sessions, and the passes of the language model do not."""
    report = live.run(TINY, OPTIONS)
    assert [row.sessions for row in report.rows] == [1, 3]
    frames, unsettled = 100, 50 + 13
    for row in report.rows:
        done, count = row.per_tick, row.sessions
        assert (done.encodes, done.encoded_frames) == (count, count * frames)
        assert done.prefilled_tokens == count * (unsettled + 90)
        assert done.decoded_tokens == count * (4 - 1)  # the last one is not read again
        assert done.forwards == 1 + 1 + 3
        assert all(row.steps[step].p50_ms > 0 for step in live.STEPS)
    assert report.plan.total_parameters > 0


def test_command_prints_json_for_docs(capsys: pytest.CaptureFixture[str]) -> None:
    """``a2p bench live --json``; weights that are not random are refused."""
    SHAPES["tiny"] = lambda: TINY
    command = ["bench", "live", "--speech-llm", "tiny", "--sessions", "2", "--device", "cpu"]
    command += ["--terms", "20", "--window-s", "1", "--new-tokens", "2", "--repeat", "2"]
    try:
        assert main([*command, "--random-weights", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["model"] == "tiny"
        assert found["rows"][0]["per_tick"]["encodes"] == 2
        assert set(found["rows"][0]["steps"]) == set(live.STEPS)
        assert main(command) == 1
        assert "--random-weights" in capsys.readouterr().err
    finally:
        del SHAPES["tiny"]


def test_what_cannot_be_measured_is_an_error() -> None:
    """No sessions, and windows that are too long."""
    with pytest.raises(InputError, match="sessions"):
        live.Options(sessions=())
    with pytest.raises(InputError, match="30 s"):
        live.Options(window_s=40.0)


@pytest.mark.gpu
def test_the_whole_model_ticks_on_a_gpu() -> None:
    """Qwen2-Audio at full size, one session: 20 GB of GPU memory."""
    options = live.Options(sessions=(1,), device="cuda", terms=1_000, repeat=3)
    row = live.run(SHAPES["qwen2-audio"](), options).rows[0]
    assert row.per_tick.encodes == 1
    assert row.peak_bytes is not None
    assert row.peak_bytes > 16e9
