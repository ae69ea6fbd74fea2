"""What the engine keeps between the ticks of a session."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np

from a2p_engine.encoders.base import Encoded
from a2p_engine.guard import Guard
from a2p_engine.retriever.glossary_index import GlossaryIndex
from a2p_engine.retriever.retriever import RetrieverState
from a2p_engine.retriever.term_rate import TermRate
from a2p_engine.retriever.transcript import Transcript
from a2p_engine.selection import Offering
from a2p_engine.speech_llm import TimedWord
from a2p_engine.types import Samples, SessionOptions


@dataclass
class Segment:
    """An open segment: its audio, and what was made of it at the tick before."""

    number: int
    start_sample: int
    offering: Offering
    guard: Guard = field(default_factory=Guard)
    encoded: Encoded | None = None  # of the latest step
    retrieval: RetrieverState | None = None
    chunks: list[Samples] = field(default_factory=list)
    words: tuple[TimedWord, ...] = ()  # of the latest step
    transcript: Transcript | None = None  # what was written without being told
    asked_at: float = 0.0  # time.monotonic of the latest step

    def samples(self) -> Samples:
        """All of its audio so far."""
        if len(self.chunks) > 1:
            self.chunks = [np.concatenate(self.chunks)]
        return self.chunks[0] if self.chunks else np.zeros(0, np.float32)


@dataclass
class Session:
    """What is kept of a session between its ticks."""

    options: SessionOptions
    index: GlossaryIndex | None
    glossary_version: int = 0
    heard_samples: int = 0
    segment: Segment | None = None
    said: tuple[str, ...] = ()  # terms written in the latest step
    rate: TermRate | None = None  # known once a segment was searched
    lock: threading.Lock = field(default_factory=threading.Lock)  # of everything above
    editing: threading.Lock = field(default_factory=threading.Lock)  # one edit at a time

    @property
    def open_sample(self) -> int:
        """Where audio begins that has no final yet."""
        return self.segment.start_sample if self.segment else self.heard_samples
