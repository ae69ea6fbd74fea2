"""The models under test, loaded once and shared by everything that is compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from a2p_engine.encoders import Device, Encoder
from a2p_engine.engine import WEIGHTS, torch_device
from a2p_engine.retriever.pronunciation import Pronouncer, spoken_forms
from a2p_engine.retriever.retriever import Retriever
from a2p_engine.speech_llm import SpeechLLM, build_speech_llm
from a2p_engine.training.terms import SPOKEN_WORDS, read_spoken_words
from a2p_engine.types import Term

_PRONOUNCED_AT_ONCE = 1000


@dataclass(frozen=True, kw_only=True)
class Models:
    """What is measured.

    Attributes:
        encoder: samples to frames.
        speech_llm: frames and terms to text.
        retriever: frames to probable terms.
        pronouncer: texts to phonemes.
        trained: words that were spoken in the retriever's training.
    """

    encoder: Encoder
    speech_llm: SpeechLLM
    retriever: Retriever
    pronouncer: Pronouncer
    trained: frozenset[str]

    @classmethod
    def load(
        cls, speech_llm: str, retriever: Path | None = None, device: Device = "auto"
    ) -> Models:
        """Load by name; a retriever of None is the shipped one.

        Raises:
            ModelError: weights are missing or damaged.
        """
        encoder, decoder = build_speech_llm(speech_llm, device, 1)
        directory = retriever or WEIGHTS / decoder.retriever_weights
        pronouncer = Pronouncer()
        return cls(
            encoder=encoder,
            speech_llm=decoder,
            retriever=Retriever.load(
                directory,
                embeddings=torch.from_numpy(decoder.token_embeddings()),
                tokenize=decoder.tokenize,
                pronouncer=pronouncer,
                device=torch_device(device),
            ),
            pronouncer=pronouncer,
            trained=read_spoken_words(directory / SPOKEN_WORDS),
        )

    def pronounce(self, terms: Sequence[Term]) -> None:
        """Work out pronunciations; an interruption loses a thousand of them, not a million."""
        for first in range(0, len(terms), _PRONOUNCED_AT_ONCE):
            part = terms[first : first + _PRONOUNCED_AT_ONCE]
            self.pronouncer.phonemes(form for term in part for form in spoken_forms(term))
