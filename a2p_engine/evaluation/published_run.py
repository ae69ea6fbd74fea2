"""The published evaluation, with the published heads and data or any others of their form.

Retrieval is by the A2P head alone: there is no phoneme head for Chinese, nor for the published
weights. What the speech LLM writes is taken as it is; no guard looks after it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from a2p_engine.encoders import Encoder
from a2p_engine.encoders.base import Encoded
from a2p_engine.engine import torch_device
from a2p_engine.errors import InputError, ModelError
from a2p_engine.evaluation import published_measures as measures
from a2p_engine.evaluation import published_request
from a2p_engine.evaluation.bootstrap import Bootstrap, Estimate
from a2p_engine.evaluation.published_measures import DEPTHS, Retrieval, Search, Text, Writing
from a2p_engine.evaluation.published_request import PromptKind, Request
from a2p_engine.evaluation.retrieval_run import write
from a2p_engine.evaluation.windows import windows
from a2p_engine.published.config import EvaluationConfig
from a2p_engine.published.data import Entry, TermBank
from a2p_engine.retriever.head_search import FloatArray, HeadSearch, ranked
from a2p_engine.retriever.retriever import pool
from a2p_engine.speech_llm import DecodeRequest, SpeechLLM, build_speech_llm
from a2p_engine.types import SAMPLE_RATE_HZ, Samples

HEAD_FRAME_SAMPLES = SAMPLE_RATE_HZ // 25  # of all A2P heads, published ones included


@runtime_checkable
class PadsFrames(Protocol):
    """An encoder that also gives the frames behind the audio, as published heads were trained."""

    def padded_frames(self, samples: Samples) -> npt.NDArray[np.float32]:
        """Frames [T, D] of a whole window of the encoder's length, silence included."""
        ...


@dataclass(frozen=True, kw_only=True)
class Heard:
    """One utterance after retrieval and decoding.

    Attributes:
        id: of the utterance.
        search: what was retrieved.
        texts: what was written, by prompt.
    """

    id: str
    search: Search
    texts: dict[str, Text] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Figures, and how they came about.

    Attributes:
        settings: what a reader needs to know to repeat it.
        retrieval: by depth.
        writing: by prompt.
    """

    settings: dict[str, Any]
    retrieval: tuple[Retrieval, ...]
    writing: tuple[Writing, ...]

    def json(self) -> dict[str, Any]:
        """For printing."""
        parts = {"retrieval": self.retrieval, "writing": self.writing}
        figures = {name: [_rounded(vars(one)) for one in part] for name, part in parts.items()}
        return {"settings": self.settings} | figures


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    def form(value: Any) -> Any:
        if isinstance(value, Estimate):
            return value.json()
        return round(value, 5) if isinstance(value, float) else value

    return {name: form(value) for name, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything that is needed, read and loaded; see ``load``."""

    request: Request
    asked: EvaluationConfig
    entries: Sequence[Entry]
    bank: TermBank
    encoder: Encoder
    speech_llm: SpeechLLM
    head: HeadSearch
    padded: bool

    def run(self, progress: Callable[[], None] = lambda: None) -> Report:
        """Evaluate.

        Args:
            progress: called after each utterance.

        Raises:
            AudioError: a recording cannot be read.
            InputError: the dump cannot be written.
        """
        heard = []
        for entry in self.entries:
            heard.append(self._hear(entry))
            progress()
        if self.request.dump is not None:
            lines = [json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in heard]
            write(self.request.dump, "".join(lines))
        return self._report(heard)

    def _hear(self, entry: Entry) -> Heard:
        """Retrieve and decode."""
        samples = entry.audio.read()
        longest = self.speech_llm.max_samples
        pieces = [(piece, self.encoder.encode(piece)) for piece in windows(samples, longest)]
        best = self._search(pieces)
        column = self.bank.terms[self.asked.language]
        said = entry.terms[self.asked.language]
        return Heard(
            id=entry.id,
            search=Search(
                said=said,
                found=tuple(column[at] for at in best),
                absent=sum(term not in self._known for term in said),
            ),
            texts={kind: self._write(kind, entry, pieces, best) for kind in self.request.prompts},
        )

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.bank.terms[self.asked.language])

    def _search(self, pieces: Sequence[tuple[Samples, Encoded]]) -> list[int]:
        """Places of the most probable terms; of several windows the best counts."""
        logits = [self.head.logits(self._frames(*piece)) for piece in pieces]
        depth = max(self.asked.top_k, *DEPTHS)
        return [int(at) for at in ranked(np.maximum.reduce(logits), depth).places]

    def _frames(self, samples: Samples, encoded: Encoded) -> FloatArray:
        if self.padded and isinstance(self.encoder, PadsFrames):
            return self.encoder.padded_frames(samples)
        return pool(encoded.frames, HEAD_FRAME_SAMPLES // self.encoder.hop_samples)

    def _write(
        self,
        kind: PromptKind,
        entry: Entry,
        pieces: Sequence[tuple[Samples, Encoded]],
        best: Sequence[int],
    ) -> Text:
        """What the speech LLM makes of an utterance, told the terms of a kind."""
        target = self.asked.target
        column = self.bank.terms[target]
        terms: dict[PromptKind, Sequence[str]] = {
            "none": (),
            "retrieved": [column[at] for at in best[: self.asked.top_k]],
            "said": entry.terms[target],
        }
        written = [self._decode(*piece, terms[kind]) for piece in pieces]
        return Text(
            reference=entry.texts[target],
            written=("" if target == "zh" else " ").join(written),
            terms=entry.terms[target],
        )

    def _decode(self, samples: Samples, encoded: Encoded, terms: Sequence[str]) -> str:
        request = DecodeRequest(
            samples=samples,
            encoded=encoded,
            terms=terms,
            committed="",
            language=self.asked.language,
            task="transcribe" if self.asked.task == "asr" else "translate",
            target_language=self.asked.target,
        )
        return self.speech_llm.decode(request).text

    def _report(self, heard: Sequence[Heard]) -> Report:
        asked, draws = self.asked, Bootstrap(len(heard))
        searches = [one.search for one in heard]
        figures = measures.recognition if asked.task == "asr" else measures.translation
        return Report(
            settings={
                "config": self.request.config.source.name,
                "unused_keys": list(self.request.config.unused),
                "task": asked.task,
                "language": asked.language,
                "target": asked.target,
                "top_k": asked.top_k,
                "speech_llm": self.speech_llm.name,
                "padded_frames": self.padded,
                "utterances": len(heard),
                "bank": len(self.bank),
                "terms_said": sum(len(one.said) for one in searches),
                "terms_not_in_bank": sum(one.absent for one in searches),
                "utterances_without_terms": sum(not one.said for one in searches),
            },
            retrieval=tuple(
                measures.retrieval(searches, depth, draws)
                for depth in sorted({*DEPTHS, asked.top_k})
            ),
            writing=tuple(
                figures(kind, [one.texts[kind] for one in heard], asked.target, draws)
                for kind in self.request.prompts
            ),
        )


def load(request: Request) -> Evaluation:
    """Read the set and the term bank, and load the models.

    Raises:
        InputError: files or options are unusable.
        ModelError: weights are missing, damaged or of another shape.
    """
    asked = request.config.evaluation()
    if asked.task == "st":
        measures.check_installed()
    entries, bank = published_request.read(request, asked)
    name = request.speech_llm or asked.speech_llm
    if name is None:
        raise InputError(f"{request.config.source}: no speech LLM of ours is meant: --speech-llm")
    encoder, speech_llm = build_speech_llm(name, request.device, 1)
    if asked.language not in speech_llm.languages:
        raise InputError(f"{name} does not understand {asked.language!r}")
    if asked.task == "st" and asked.target not in speech_llm.target_languages:
        raise InputError(f"{name} does not translate into {asked.target!r}")
    if HEAD_FRAME_SAMPLES % encoder.hop_samples:
        raise ModelError(f"frames of {name} do not make frames of 40 ms")
    head, published = published_request.head_of(request, asked, speech_llm)
    return Evaluation(
        request=request,
        asked=asked,
        entries=entries,
        bank=bank,
        encoder=encoder,
        speech_llm=speech_llm,
        head=HeadSearch(
            head,
            bank.terms[asked.language],
            embeddings=torch.from_numpy(speech_llm.token_embeddings()),
            tokenize=speech_llm.tokenize,
            device=torch_device(request.device),
        ),
        padded=published and isinstance(encoder, PadsFrames),
    )
