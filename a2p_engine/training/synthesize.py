"""Text to training data: speak, degrade, encode, store; resumable, equal for equal seeds."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from a2p_engine.encoders.base import Encoder
from a2p_engine.errors import TrainingError
from a2p_engine.training import augment
from a2p_engine.training.shards import Frames, Storage, Utterance, is_complete, write_shard
from a2p_engine.training.texts import (
    Line,
    Split,
    TermSet,
    TrainingText,
    read_lines,
    split_sentences,
    words_of,
)
from a2p_engine.training.voices import HibariVoice, Voice, accented, kokoro_voices
from a2p_engine.training.workers import run_side_by_side
from a2p_engine.types import SAMPLE_RATE_HZ, Samples

VoiceKind = Literal["hibari", "kokoro"]

_SHARD_LINES = 64
_LONGEST_S = 27.0
_LEAST_WORDS = 4  # of a held-out sentence, after excluded words were cut out
_BABBLE_LINES = (
    "and so we went on talking about the weather for the whole afternoon",
    "no that is not what i said to her when she called me yesterday",
    "there were more people in the room than anybody had expected to come",
    "if you ask me they should have finished the work a long time ago",
    "please put it over there next to the other ones thank you very much",
    "the buses were late again and nobody could tell us the reason",
)


@dataclass(frozen=True, kw_only=True)
class SynthesisPlan:
    """What to make; equal plans make equal data.

    Attributes:
        text: file of sentences, one a line.
        rare_words: file of words for carriers and lists, one a line; None means sentences only.
        exclude: file of words and phrases that must never be spoken, one a line.
        split: ``train`` leaves out the held-out sentences; ``dev`` and ``test`` speak just those.
        utterances: how many; None means each held-out sentence once (not for ``train``). A greater
            number adds to data of whole shards, those of a multiple of 64 utterances.
        first: number of the first utterance, to add to earlier data.
        voice: ``hibari`` (fast, one voice bent into many) or ``kokoro`` (slow, many voices).
        voices: names of Kokoro voices; None means all that are not held out.
        augment: vary the speaker, trim and degrade; without it the speech is clean and whole.
        takes: how many differently degraded copies of each utterance; for slow voices.
        seed: chooses everything random.
        keep_audio: also write flac files and manifest.jsonl.
        storage: how frames are stored; ``int8`` takes half the disk of ``float16``.
        model: directory of the Whisper weights whose encoder makes the frames.
        voice_model: directory of Kokoro's files, for ``voice="kokoro"``.
    """

    text: Path
    rare_words: Path | None = None
    exclude: Path | None = None
    split: Split = "train"
    utterances: int | None = None
    first: int = 0
    voice: VoiceKind = "hibari"
    voices: tuple[str, ...] | None = None
    augment: bool = True
    takes: int = 1
    seed: int = 1
    keep_audio: bool = False
    storage: Storage = "float16"
    model: Path
    voice_model: Path | None = None


def synthesize(plan: SynthesisPlan, *, out: Path, processes: int = 2) -> int:
    """Make the data of a plan, skipping shards that are there already.

    Args:
        plan: what to make.
        out: directory for shards (and audio); made if need be.
        processes: how many to run side by side, one thread each.

    Returns:
        Number of shards written by this call.

    Raises:
        TrainingError: the plan cannot be carried out.
    """
    lines = _lines(plan)
    end = _end(plan, lines)
    out.mkdir(parents=True, exist_ok=True)
    missing = [
        (start, min(start + _SHARD_LINES, end))
        for start in range(plan.first, end, _SHARD_LINES)
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
    if plan.keep_audio:
        _join_manifests(out)
    return len(missing)


def _shard_path(plan: SynthesisPlan, out: Path, start: int) -> Path:
    return out / f"{plan.voice}-{plan.split}-{start:07d}"


def _lines(plan: SynthesisPlan) -> TrainingText | list[Line]:
    """The text of a plan: endless for training, otherwise what is left of held-out sentences."""
    split = split_sentences(read_lines(plan.text))
    if plan.split == "train":
        held_out = {w for s in (*split.dev, *split.test) for w in words_of(s)}
        spoken = {w for s in split.train for w in words_of(s)}
        rare = read_lines(plan.rare_words) if plan.rare_words else []
        # A held-out sentence's word that no training sentence has stays unspoken.
        exclude = {*_excluded(plan), *(held_out - spoken)}
        return TrainingText(split.train, rare, exclude=exclude, seed=plan.seed)
    excluded = TermSet(_excluded(plan))
    sentences = split.dev if plan.split == "dev" else split.test
    kept = (max(excluded.cut(sentence), key=len, default="") for sentence in sentences)
    return [
        Line(id=f"{plan.split}-{n:04d}", text=text)
        for n, text in enumerate(kept)
        if len(words_of(text)) >= _LEAST_WORDS
    ]


def _excluded(plan: SynthesisPlan) -> list[str]:
    return read_lines(plan.exclude) if plan.exclude else []


def _end(plan: SynthesisPlan, lines: TrainingText | list[Line]) -> int:
    """One past the number of the last utterance."""
    if not isinstance(lines, list):
        if plan.utterances is None:
            raise TrainingError("say how many utterances to synthesize for training")
        return plan.first + plan.utterances
    end = len(lines) if plan.utterances is None else plan.first + plan.utterances
    if end > len(lines) or plan.first >= end:
        raise TrainingError(
            f"{plan.split} has {len(lines)} sentences; asked for numbers {plan.first} to {end - 1}"
        )
    return end


class ShardMaker:
    """Speaks, degrades and encodes numbered lines."""

    def __init__(
        self,
        plan: SynthesisPlan,
        out: Path,
        *,
        lines: Sequence[Line] | TrainingText,
        voices: Sequence[Voice],
        encoder: Encoder,
    ) -> None:
        """Take the parts; see ``_start_worker`` for how they are loaded.

        Args:
            plan: what to make.
            out: directory for shards and audio.
            lines: number -> line.
            voices: voices taken in turns.
            encoder: makes the frames.
        """
        from hibari import Hibari

        self._plan = plan
        self._out = out
        self._lines = lines
        self._voices = voices
        self._encoder = encoder
        self._phonemize = Hibari().phonemize
        self._rare = frozenset(read_lines(plan.rare_words)) if plan.rare_words else frozenset()
        self._babble: list[Samples] = []
        if plan.augment:
            talker, rng = HibariVoice(), np.random.default_rng(plan.seed)
            excluded = TermSet(_excluded(plan))
            self._babble = [
                talker.speak(self._phonemize(line)[0], rng)
                for line in _BABBLE_LINES * 2
                if not excluded.found_in(line)
            ]

    def make(self, start: int, end: int) -> None:
        """Write the shard of the lines ``start`` to ``end``."""
        path = _shard_path(self._plan, self._out, start)
        frames: list[Frames] = []
        utterances: list[Utterance] = []
        manifest: list[str] = []
        for number in range(start, end):
            line = self._lines[number]
            rng = np.random.default_rng([self._plan.seed, number, 1])
            voice = self._voices[int(rng.integers(len(self._voices)))]
            phonemes = self._phonemize(line.text)
            clean = self._speak(voice, phonemes, rng)
            for take in range(self._plan.takes):
                samples = self._degrade(clean, rng)
                if not 0.3 <= len(samples) / SAMPLE_RATE_HZ <= _LONGEST_S:
                    continue
                encoded = self._encoder.encode(samples).frames.astype(np.float16)
                name = f"{line.id}-{voice.name}" + (f"-{take}" if self._plan.takes > 1 else "")
                utterances.append(
                    Utterance(
                        id=name,
                        text=line.text,
                        phonemes=" ".join(phonemes),
                        voice=voice.name,
                        seed=self._plan.seed,
                        start=sum(map(len, frames)),
                        frames=len(encoded),
                    )
                )
                frames.append(encoded)
                if self._plan.keep_audio:
                    manifest.append(self._keep(name, samples, line.text))
        if self._plan.keep_audio:
            path.with_suffix(".manifest").write_text("".join(manifest), "utf-8")
        write_shard(path, frames, utterances, self._plan.storage)

    def _speak(self, voice: Voice, phonemes: list[str], rng: np.random.Generator) -> Samples:
        if self._plan.augment and rng.random() < 0.35:
            phonemes = [accented(part, rng) for part in phonemes]
        return np.concatenate([voice.speak(part, rng) for part in phonemes])

    def _degrade(self, clean: Samples, rng: np.random.Generator) -> Samples:
        if not self._plan.augment:
            return clean
        return augment.degrade(augment.trim(clean, rng), self._babble, rng)

    def _keep(self, name: str, samples: Samples, text: str) -> str:
        """Write one flac; returns its manifest line."""
        import soundfile

        audio = Path("audio") / f"{name}.flac"
        (self._out / "audio").mkdir(exist_ok=True)
        soundfile.write(self._out / audio, samples, SAMPLE_RATE_HZ)
        terms = sorted(self._rare.intersection(words_of(text)))
        record = {"id": name, "audio": str(audio), "text": text, "terms": terms}
        return json.dumps(record, ensure_ascii=False) + "\n"


def _join_manifests(out: Path) -> None:
    parts = sorted(out.glob("*.manifest"))
    partial = out / "manifest.partial"
    partial.write_text("".join(part.read_text("utf-8") for part in parts), "utf-8")
    os.replace(partial, out / "manifest.jsonl")


_maker: ShardMaker | None = None  # of this worker process


def _start_worker(plan: SynthesisPlan, out: Path) -> None:
    """Load the models once per process."""
    global _maker
    from a2p_engine.encoders.whisper import WhisperEncoder

    voices: Sequence[Voice]
    if plan.voice == "hibari":
        voices = [HibariVoice(vary=plan.augment)]
    elif plan.voice_model is None:
        raise TrainingError("Kokoro's voices need the directory of their files")
    else:
        voices = kokoro_voices(plan.voice_model, plan.voices)
    encoder = WhisperEncoder(plan.model, device="cpu")
    _maker = ShardMaker(plan, out, lines=_lines(plan), voices=voices, encoder=encoder)


def _run_worker(lines: tuple[int, int]) -> None:
    if _maker is None:
        raise TrainingError("the worker was not started")
    _maker.make(*lines)
