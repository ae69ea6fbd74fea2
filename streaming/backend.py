"""The engine as the streaming side sees it; ``a2p_engine.engine.Engine`` is the real one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from a2p_engine.types import GlossaryInfo, SessionOptions, StepRequest, StepResult, Term


class Backend(Protocol):
    """Synchronous and thread-safe across sessions; one call at a time per session.

    Attributes:
        max_segment_s: the longest segment it takes.
        languages: ISO 639-1 codes it understands; ``auto`` is accepted besides.
        target_languages: codes of the languages it translates into.
        speech_llm: name of its speech LLM.
    """

    @property
    def max_segment_s(self) -> float: ...  # noqa: D102

    @property
    def languages(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def target_languages(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def speech_llm(self) -> str: ...  # noqa: D102

    def load_index(self, path: Path) -> int:
        """Map a file of indexed terms; returns how many there are."""
        ...

    def open(
        self,
        options: SessionOptions,
        glossary: Sequence[Term] = (),
        *,
        index: Path | None = None,
    ) -> tuple[str, GlossaryInfo]:
        """Begin a session with some terms and those of an index file; returns its handle."""
        ...

    def edit_glossary(
        self, session: str, *, add: Sequence[Term] = (), remove: Sequence[str] = ()
    ) -> GlossaryInfo:
        """Change the session's glossary for all later steps."""
        ...

    def step(self, request: StepRequest) -> StepResult:
        """Hear more of the open segment and tell what it says; takes 50 to 500 ms."""
        ...

    def close(self, session: str) -> None:
        """End the session and free its state."""
        ...
