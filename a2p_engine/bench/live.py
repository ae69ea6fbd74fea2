"""``a2p bench live``: ticks of a speech LLM with random numbers at its full size.

What a tick costs depends on shapes, not on what the numbers say, but for the length of the text;
that is fixed here. Each session has an open segment of so many seconds: it is encoded, a glossary
is scored on half a second of new frames, what is not settled of the audio is read, and so many
tokens are written. A final reads all of the audio.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from a2p_engine.bench import machine
from a2p_engine.bench.clock import Clock, Timing
from a2p_engine.bench.glossaries import GlossaryMaker
from a2p_engine.bench.machine import Machine
from a2p_engine.bench.stage import Stage, Ticks
from a2p_engine.bench.synthetic import Model
from a2p_engine.encoders.qwen2_audio import BATCH_ROWS, Qwen2AudioEncoder
from a2p_engine.errors import InputError
from a2p_engine.speech_llm import plan as planning
from a2p_engine.speech_llm.greedy import GreedyDecoder, Past
from a2p_engine.speech_llm.pretrained import choose_dtype
from a2p_engine.speech_llm.shapes import Shape, encode_qwen2_audio
from a2p_engine.trace import Trace
from a2p_engine.types import SAMPLE_RATE_HZ, Samples

STEPS = ("encode", "score", "prefill", "decode", "tick", "final")
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is measured.

    Attributes:
        sessions: numbers of sessions that tick together.
        device: cpu, cuda or auto.
        terms: of the glossary that all share.
        window_s: audio of each open segment.
        new_tokens: written by each session per tick.
        repeat: ticks per figure.
        seed: of everything random.
    """

    sessions: Sequence[int] = (1, 8, 32)
    device: str = "auto"
    terms: int = 10_000
    window_s: float = 10.0
    new_tokens: int = planning.NEW_TOKENS
    repeat: int = 20
    seed: int = 1

    def __post_init__(self) -> None:
        if not self.sessions or min(self.sessions) < 1:
            raise InputError("--sessions: takes whole numbers from 1")
        if min(self.terms, self.new_tokens, self.repeat) < 1 or not 0.5 <= self.window_s <= 30:
            raise InputError(
                "terms, tokens and repetitions are counted from 1; windows are 0.5 s to 30 s long"
            )


@dataclass(frozen=True, kw_only=True)
class Row:
    """Ticks of so many sessions.

    Attributes:
        sessions: B.
        steps: times of each of ``STEPS``, for all sessions together.
        per_tick: what was encoded, read and written in one tick, of all sessions; no final.
        peak_bytes: most memory of the device in use; None on CPU.
    """

    sessions: int
    steps: dict[str, Timing]
    per_tick: Trace
    peak_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class LiveReport:
    """What was measured, where.

    Attributes:
        model: name of the shape.
        date: of the run, ISO 8601.
        options: what was asked for.
        machine: what it ran on.
        plan: what ``a2p models plan`` says of one session.
        rows: one per number of sessions.
        skipped: what found no memory.
    """

    model: str
    date: str
    options: Options
    machine: Machine
    plan: planning.Plan
    rows: list[Row] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


def run(shape: Shape, options: Options, progress: Progress = lambda text: None) -> LiveReport:
    """Measure ticks of a model of random numbers.

    Args:
        shape: of the model; an encoder like Qwen2-Audio's.
        options: what is measured.
        progress: told what comes next.

    Raises:
        InputError: there is no such device, or the encoder is of another kind.
    """
    if shape.encode is not encode_qwen2_audio:
        raise InputError(
            f"{shape.name} cannot be timed live: its encoder is not like Qwen2-Audio's; "
            "a2p models plan computes what it needs"
        )
    device = machine.find_device(options.device)
    dtype = choose_dtype(device)
    report = LiveReport(
        model=shape.name,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        options=options,
        machine=Machine.of(device),
        plan=planning.plan(
            shape,
            terms=options.terms,
            window_s=options.window_s,
            dtype=str(dtype).removeprefix("torch."),
        ),
    )
    progress(f"{shape.name}: {report.plan.total_parameters / 1e9:.2f} G random numbers")
    with torch.no_grad():  # the scorer keeps buffers, which inference mode would spoil for others
        stage = _Live(shape, options, device, dtype)
        for sessions in options.sessions:
            progress(f"{sessions} sessions")
            try:
                report.rows.append(stage.measure(sessions))
            except torch.cuda.OutOfMemoryError:
                report.skipped.append(f"{sessions} sessions: too little memory on the device")
    return report


class _Live:
    """A model, a glossary and audio."""

    def __init__(
        self, shape: Shape, options: Options, device: torch.device, dtype: torch.dtype
    ) -> None:
        torch.manual_seed(options.seed)
        self._options, self._clock = options, Clock(device)
        model: Any = shape.build(device, dtype)
        self._trace = Trace()
        tower, projector = (model.get_submodule(part) for part in shape.encoder_parts)
        self._encoder = Qwen2AudioEncoder(tower, projector, name=shape.name, trace=self._trace)
        # No token ends a text, so that every session writes as many as it should.
        self._decoder = GreedyDecoder(model, end_tokens=(), trace=self._trace)
        preset = planning.head_of(shape, model)
        glossary = GlossaryMaker(preset.vocabulary, options.seed).make(options.terms)
        self._stage = Stage.of(Model.random(preset, device, options.seed), glossary)
        self._question = self._decoder.embed(range(planning.QUESTION_TOKENS))
        beginning = self._decoder.embed(range(planning.BEFORE_TOKENS))
        self._beginning = self._decoder.read([Past()], [beginning])[0]
        self._frames_per_s = shape.frames_per_s

    def measure(self, sessions: int) -> Row:
        """Time the steps of a tick, each for itself and all together, and a final."""
        machine.peak_device_bytes(self._clock.device)
        windows = _windows(sessions, self._options)
        scored = Ticks(self._stage, sessions=sessions, settled=planning.TICK_FRAMES)
        audio = self._encode(windows)
        begun = [self._beginning] * sessions
        settled = planning.settled_rows(len(audio[0]), self._frames_per_s)
        heard = self._prefill(begun, [rows[:settled] for rows in audio]) if settled else begun
        pasts = self._prefill(heard, [rows[settled:] for rows in audio])

        def tick(number: int) -> None:
            rows = self._encode(windows)
            scored(number)
            self._decode(self._prefill(heard, [row[settled:] for row in rows]))

        def final(number: int) -> None:
            rows = self._encode(windows)
            scored(number)
            self._decode(self._prefill(begun, rows))

        work: dict[str, Callable[[int], object]] = {
            "encode": lambda number: self._encode(windows),
            "score": scored,
            "prefill": lambda number: self._prefill(heard, [rows[settled:] for rows in audio]),
            "decode": lambda number: self._decode(pasts),
            "tick": tick,
            "final": final,
        }
        repeat = self._options.repeat
        steps = {name: self._clock.time(work[name], repeat, after=scored.forget) for name in STEPS}
        before = self._trace.copy()
        tick(0)
        return Row(
            sessions=sessions,
            steps=steps,
            per_tick=self._trace - before,
            peak_bytes=machine.peak_device_bytes(self._clock.device),
        )

    def _encode(self, windows: Sequence[Samples]) -> list[torch.Tensor]:
        parts = [windows[at : at + BATCH_ROWS] for at in range(0, len(windows), BATCH_ROWS)]
        return [row for part in parts for row in self._encoder.encode_batch(part)]

    def _prefill(self, pasts: Sequence[Past], audio: Sequence[torch.Tensor]) -> list[Past]:
        return self._decoder.read(pasts, audio)

    def _decode(self, pasts: Sequence[Past]) -> list[list[int]]:
        count = len(pasts)
        return self._decoder.write(
            pasts, [self._question] * count, [self._options.new_tokens] * count
        )


def _windows(sessions: int, options: Options) -> list[Samples]:
    """Noise: encoders take as long over it as over speech."""
    random = np.random.default_rng(options.seed)
    length = round(options.window_s * SAMPLE_RATE_HZ)
    return [random.normal(0, 0.05, length).astype(np.float32) for _ in range(sessions)]
