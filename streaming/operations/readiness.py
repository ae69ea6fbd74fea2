"""Whether a server should be sent new clients, and if not, why."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from a2p_engine.types import SAMPLE_RATE_HZ, SessionOptions, StepRequest, Term
from streaming.operations.failures import for_log
from streaming.scheduling.engine_room import EngineRoom

logger = logging.getLogger(__name__)

Glossary = tuple[tuple[Term, ...], Path | None]  # terms, and an index file of further ones
ANY_TERM = Term(text="glossary")


class WarmUp:
    """Has the engine load what it loads at first use, so that no speaker has to wait for it.

    One step is made with a term, since most clients bring terms of their own: it loads the
    retriever and what scores terms. One with each glossary indexes it.

    Attributes:
        unmet: the conditions that are not met yet, or cannot be met, and why.
    """

    def __init__(
        self, room: EngineRoom, glossaries: Mapping[str, Callable[[], Glossary]], *, wanted: bool
    ) -> None:
        self._room = room
        self._wanted = wanted
        self._glossaries = dict(glossaries) if wanted else {}
        self.unmet: dict[str, str] = {}
        if wanted:
            self.unmet["models"] = "the models are being loaded"
            self._tell_glossaries(list(self._glossaries), [])

    async def run(self) -> None:
        """Do it, beside everything else."""
        if not self._wanted:
            return
        if await self._done(self._step):
            del self.unmet["models"]
        else:
            self.unmet["models"] = "the engine failed; the log says why"
        left, failed = list(self._glossaries), []
        while left:
            if not await self._done(partial(self._open, left[0])):
                failed.append(left[0])
            del left[0]
            self._tell_glossaries(left, failed)

    async def _done(self, work: Callable[[], None]) -> bool:
        try:
            await self._room.prepare(work)
        except Exception as error:
            told = {"event": "server.not_ready"}
            logger.error("the server is not ready", exc_info=for_log(error), extra=told)
            return False
        return True

    def _tell_glossaries(self, left: list[str], failed: list[str]) -> None:
        states = {"not indexed yet": left, "cannot be used": failed}
        said = [f"{what}: {', '.join(names)}" for what, names in states.items() if names]
        self.unmet.pop("glossaries", None)
        if said:
            self.unmet["glossaries"] = "; ".join(said)

    def _step(self) -> None:
        handle, _ = self._room.engine.open(SessionOptions(language="auto"), (ANY_TERM,))
        self._hear(handle)

    def _hear(self, handle: str) -> None:
        """A second of silence; ends the session."""
        try:
            second = np.zeros(SAMPLE_RATE_HZ, np.float32)
            self._room.engine.step(
                StepRequest(
                    session=handle,
                    segment_id=1,
                    start_sample=0,
                    samples=second,
                    final=True,
                    committed="",
                )
            )
        finally:
            self._room.engine.close(handle)

    def _open(self, name: str) -> None:
        terms, index = self._glossaries[name]()
        handle, info = self._room.engine.open(SessionOptions(language="auto"), terms, index=index)
        self._hear(handle)
        logger.info(
            "glossary %s is indexed: %d terms",
            name,
            info.terms,
            extra={"event": "glossary.indexed"},
        )


class Observed(Protocol):
    """What of a server decides whether it is ready."""

    warm_up: WarmUp
    leaving: bool

    @property
    def no_room(self) -> str | None: ...  # noqa: D102


def readiness(server: Observed) -> dict[str, Any]:
    """The answer of ``/readyz``: each condition with ``true`` or the reason why it fails."""
    conditions: dict[str, str | bool] = {
        "models": server.warm_up.unmet.get("models", True),
        "glossaries": server.warm_up.unmet.get("glossaries", True),
        "accepting": True,
        "capacity": server.no_room or True,
    }
    if server.leaving:
        conditions["accepting"] = "the server takes no new clients any more"
    ready = all(state is True for state in conditions.values())
    return {"ready": ready, "conditions": conditions}
