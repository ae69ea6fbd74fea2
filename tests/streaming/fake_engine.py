"""An engine without a model: deterministic, writes one word for every quarter second it hears."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from a2p_engine.errors import GlossaryError, UnknownSession
from a2p_engine.types import (
    GlossaryInfo,
    SessionOptions,
    Source,
    StepRequest,
    StepResult,
    Term,
    TermHit,
    Word,
)

WORD_SAMPLES = 4_000


@dataclass
class FakeSession:
    """What the engine remembers of a session."""

    options: SessionOptions
    terms: dict[str, Term]
    version: int = 1
    segment_id: int = 0
    heard: int = 0
    from_sample: int = 0


def _term(text: str) -> Term:
    return Term(text=text)


@dataclass
class FakeEngine:
    """Hears lengths only; ``hook`` runs in every step and may sleep or raise."""

    languages: tuple[str, ...] = ("en", "de")
    target_languages: tuple[str, ...] = ("en",)
    max_segment_s: float = 28.0
    speech_llm: str = "fake"
    step_s: float = 0.0
    hook: Callable[[StepRequest], None] | None = None
    sessions: dict[str, FakeSession] = field(default_factory=dict)
    requests: list[StepRequest] = field(default_factory=list)
    busy: int = 0
    most_busy: int = 0
    threads: set[int] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _opened: int = 0

    def load_index(self, path: Path) -> int:
        """An index of the fake engine is a text file, one term a line."""
        if not path.exists():
            raise GlossaryError(f"cannot read index {path}")
        return len(path.read_text().split())

    def open(
        self,
        options: SessionOptions,
        glossary: Sequence[Term] = (),
        *,
        index: Path | None = None,
    ) -> tuple[str, GlossaryInfo]:
        """See the engine."""
        texts = index.read_text().split() if index else ()
        terms = {term.text: term for term in (*map(_term, texts), *glossary)}
        with self._lock:
            self._opened += 1
            handle = f"fake-{self._opened}"
            self.sessions[handle] = FakeSession(options, terms)
        return handle, GlossaryInfo(version=1, terms=len(terms))

    def edit_glossary(
        self, session: str, *, add: Sequence[Term] = (), remove: Sequence[str] = ()
    ) -> GlossaryInfo:
        """See the engine."""
        state = self._state(session)
        if any(term.text == "unloadable" for term in add):
            raise GlossaryError("cannot load 'unloadable'")
        gone = [text for text in remove if state.terms.pop(text, None)]
        new = [term for term in add if term.text not in state.terms]
        state.terms.update({term.text: term for term in new})
        state.version += 1
        return GlossaryInfo(
            version=state.version,
            terms=len(state.terms),
            added=len(new),
            removed=len(gone),
            from_sample=state.from_sample,
        )

    def step(self, request: StepRequest) -> StepResult:
        """See the engine."""
        with self._lock:
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
            self.requests.append(request)
            self.threads.add(threading.get_ident())
        try:
            if self.hook:
                self.hook(request)
            time.sleep(self.step_s)
            return self._hear(request)
        finally:
            with self._lock:
                self.busy -= 1

    def close(self, session: str) -> None:
        """See the engine."""
        del self.sessions[session]

    def _state(self, session: str) -> FakeSession:
        if session not in self.sessions:
            raise UnknownSession(f"session {session} is not open")
        return self.sessions[session]

    def _hear(self, request: StepRequest) -> StepResult:
        state = self._state(request.session)
        if state.segment_id != request.segment_id:
            state.segment_id, state.heard = request.segment_id, 0
        state.heard += len(request.samples)
        state.from_sample = request.start_sample + (state.heard if request.final else 0)
        words = tuple(
            Word(
                text=f" w{index}",
                start_sample=request.start_sample + index * WORD_SAMPLES,
                end_sample=request.start_sample + (index + 1) * WORD_SAMPLES,
                probability=0.9,
            )
            for index in range(state.heard // WORD_SAMPLES)
        )
        return StepResult(
            session=request.session,
            segment_id=request.segment_id,
            final=request.final,
            text="".join(word.text for word in words).strip(),
            words=words,
            end_sample=request.start_sample + state.heard,
            terms=tuple(TermHit(term=text, probability=0.5) for text in state.terms),
            language=state.options.language,
            glossary_version=state.version,
            timings_ms={"encode": 1.0, "retrieve": 0.0, "decode": 2.0, "guard": 0.0},
            source=Source(text=f"{len(words)} palabras", language="es")
            if state.options.source_text
            else None,
        )
