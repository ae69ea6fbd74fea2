"""Published sets to training data: read, encode, store; resumable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from a2p_engine.encoders import ENCODERS, Device, Encoder, build_encoder
from a2p_engine.errors import TrainingError
from a2p_engine.published.data import Entry, Language, Moved, read_entries
from a2p_engine.speech_llm import build_speech_llm
from a2p_engine.training.shards import Frames, Storage, Utterance, is_complete, write_shard
from a2p_engine.training.workers import run_side_by_side
from a2p_engine.types import SAMPLE_RATE_HZ

_SHARD_UTTERANCES = 64
# The published encoder hears so much of an utterance and no more.
LONGEST_SAMPLES = 30 * SAMPLE_RATE_HZ


@dataclass(frozen=True, kw_only=True)
class FramesPlan:
    """What to encode.

    Attributes:
        data: the published set.
        language: of text and hints.
        model: name of the model whose encoder makes the frames.
        device: where it runs.
        storage: how frames are stored; ``int8`` takes half the disk of ``float16``.
        moved: where files lie that the set names.
        limit: only so many utterances.
    """

    data: Path
    language: Language
    model: str = "whisper-base"
    device: Device = "auto"
    storage: Storage = "float16"
    moved: Sequence[Moved] = ()
    limit: int | None = None


def make_frames(plan: FramesPlan, out: Path, processes: int = 1) -> int:
    """Encode a set, but for the shards that are there already.

    Args:
        plan: what.
        out: directory for shards; made if need be.
        processes: how many to run side by side, each with an encoder of its own.

    Returns:
        Number of shards written by this call.

    Raises:
        InputError: the set cannot be read.
        TrainingError: a recording cannot be encoded.
    """
    count = len(_entries(plan))
    out.mkdir(parents=True, exist_ok=True)
    missing = [
        (start, min(start + _SHARD_UTTERANCES, count))
        for start in range(0, count, _SHARD_UTTERANCES)
        if not is_complete(_shard_path(plan, out, start))
    ]
    run_side_by_side(
        _run_worker,
        missing,
        start=_start_worker,
        arguments=(plan, out),
        processes=processes,
        unit="shard",
    )
    return len(missing)


def _entries(plan: FramesPlan) -> list[Entry]:
    return read_entries(plan.data, [plan.language], plan.moved)[: plan.limit]


def _shard_path(plan: FramesPlan, out: Path, start: int) -> Path:
    return out / f"{plan.data.stem}-{plan.language}-{start:07d}"


class FrameMaker:
    """Encodes numbered entries."""

    def __init__(self, plan: FramesPlan, out: Path, entries: Sequence[Entry], encoder: Encoder):
        """Take the parts; see ``make_frames``."""
        self._plan, self._out, self._entries, self._encoder = plan, out, entries, encoder
        self._phonemize = _phonemizer(plan.language)

    def make(self, start: int, end: int) -> None:
        """Write the shard of the entries ``start`` to ``end``."""
        frames: list[Frames] = []
        utterances: list[Utterance] = []
        for entry in self._entries[start:end]:
            samples = entry.audio.read()[:LONGEST_SAMPLES]
            encoded = self._encoder.encode(samples).frames.astype(np.float16)
            text = entry.texts[self._plan.language]
            utterances.append(
                Utterance(
                    id=entry.id,
                    text=text,
                    phonemes=self._phonemize(text),
                    voice="",
                    seed=0,
                    start=sum(map(len, frames)),
                    frames=len(encoded),
                    terms=entry.terms[self._plan.language],
                    seeds=entry.seeds,
                    frame_rate_hz=SAMPLE_RATE_HZ // self._encoder.hop_samples,
                )
            )
            frames.append(encoded)
        path = _shard_path(self._plan, self._out, start)
        write_shard(path, frames, utterances, self._plan.storage)


def _phonemizer(language: Language) -> Callable[[str], str]:
    """English has a dictionary; of Chinese there is no phoneme head to be trained."""
    if language != "en":
        return lambda text: ""
    from hibari import Hibari

    phonemize = Hibari().phonemize
    # Transcripts in capitals would be spelled.
    return lambda text: " ".join(phonemize(text.lower() if text.isupper() else text))


_maker: FrameMaker | None = None  # of this worker process


def _start_worker(plan: FramesPlan, out: Path) -> None:
    """Load the encoder once per process."""
    global _maker
    if plan.model in ENCODERS:
        encoder = build_encoder(plan.model, plan.device, 1)
    else:
        encoder, _ = build_speech_llm(plan.model, plan.device, 1)
    _maker = FrameMaker(plan, out, _entries(plan), encoder)


def _run_worker(part: tuple[int, int]) -> None:
    if _maker is None:
        raise TrainingError("the worker was not started")
    _maker.make(*part)
