"""``a2p bench openai``: what asking a server on the loopback adds to the model's own time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from streaming.cli import common

WINDOWS_S = (1.0, 5.0, 14.0)  # the first partial, a usual one, the longest segment
COLUMNS = ("interface", "window s", "requests", "model p50 ms", "added p50 ms", "added p95 ms")


def openai(
    repeat: Annotated[int, typer.Option(min=1, help="Requests per figure.")] = 20,
    bound_ms: Annotated[
        float, typer.Option(min=0, help="More than this at the median is too much.")
    ] = 30.0,
    recording: Annotated[
        Path | None, typer.Option(help="Speech to send.", show_default="the bundled one")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time the speech LLM "openai" against Whisper base behind a server of this process.

    The model's own time is measured in the server, around encoder and decoder. What is added is
    everything else: WAV and JSON or form, HTTP both ways, the text's way back to timed words.
    """
    rows = list(_rows(repeat, recording))
    if as_json:
        print(json.dumps({"benchmark": "openai", "bound_ms": bound_ms, "rows": rows}, indent=2))
    else:
        common.show_table(COLUMNS, [list(row.values()) for row in rows])
    worst = max(row["added_p50_ms"] for row in rows)
    common.note(f"at most {worst:g} ms are added at the median; allowed are {bound_ms:g}")
    raise typer.Exit(0 if worst <= bound_ms else 1)


def _rows(repeat: int, recording: Path | None) -> Iterator[dict[str, Any]]:
    from a2p_engine import models
    from a2p_engine.audio import read_audio
    from a2p_engine.encoders.whisper import WhisperEncoder
    from a2p_engine.types import SAMPLE_RATE_HZ
    from streaming.bench.whisper_server import WhisperServer
    from streaming.demo import RECORDING

    audio = read_audio(recording or RECORDING.audio)
    server = WhisperServer(WhisperEncoder(models.find("whisper-base"), device="cpu"))
    with server.serving() as url:
        for interface in ("chat", "transcriptions"):
            for window_s in WINDOWS_S:
                window = audio[: int(window_s * SAMPLE_RATE_HZ)]
                model_ms, added_ms = _times_ms(server, url, interface, window, repeat)
                yield {
                    "interface": interface,
                    "window_s": window_s,
                    "requests": repeat,
                    "model_p50_ms": _percentile(model_ms, 50),
                    "added_p50_ms": _percentile(added_ms, 50),
                    "added_p95_ms": _percentile(added_ms, 95),
                }


def _times_ms(
    server: Any, url: str, interface: Any, window: Any, repeat: int
) -> tuple[list[float], list[float]]:
    """Of each request the model's time and what was added; the first one warms up."""
    import time

    from a2p_engine.speech_llm.base import DecodeRequest
    from a2p_engine.speech_llm.openai_server import ENCODER, OpenAISpeechLLM
    from a2p_engine.speech_llm.openai_settings import OpenAISettings
    from a2p_engine.speech_llm.whisper import WhisperSpeechLLM

    settings = OpenAISettings(
        base_url=url, model="whisper-1", interface=interface, final_timeout_s=600
    )
    remote = OpenAISpeechLLM(WhisperSpeechLLM(ENCODER, server.encoder), settings)
    request = DecodeRequest(
        samples=window,
        encoded=server.encoder.encode(window),
        terms=("metformin", "apixaban", "levetiracetam"),
        committed="",
        language="en",
        task="transcribe",
        final=True,
    )
    server.model_s.clear()
    whole_ms: list[float] = []
    for _ in range(repeat + 1):
        begin = time.perf_counter()
        remote.decode(request)
        whole_ms.append(1000 * (time.perf_counter() - begin))
    model_ms = [1000 * each for each in server.model_s]
    added_ms = [whole - model for whole, model in zip(whole_ms, model_ms, strict=True)]
    return model_ms[1:], added_ms[1:]


def _percentile(values: list[float], percent: float) -> float:
    import numpy as np

    return round(float(np.percentile(values, percent)), 1)
