"""The two interfaces by which OpenAI-compatible servers write down audio.

What an implementation of them lacks shows in its refusals: an option that a server does not take is
left out from then on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from a2p_engine.errors import ModelError
from a2p_engine.speech_llm.openai_http import Deadline, Refused
from a2p_engine.speech_llm.openai_replies import Reply
from a2p_engine.speech_llm.openai_templates import Question
from a2p_engine.types import Samples, Task

log = logging.getLogger(__name__)

ModelT = TypeVar("ModelT", bound=BaseModel)

UNPROCESSABLE = (400, 422)


class Interface(Protocol):
    """One way to ask.

    Attributes:
        prompt_tokens: most tokens of terms.
        languages: ISO 639-1 codes, None for Whisper's.
        target_languages: codes it may translate into.
        pairs: whether a translation is told of "source: target", else of targets alone.
    """

    prompt_tokens: int
    languages: tuple[str, ...] | None
    target_languages: tuple[str, ...]
    pairs: bool

    def wording(self, task: Task, terms: Sequence[str]) -> str:
        """What the model is told of terms."""
        ...

    def ask(self, question: Question, samples: Samples, committed: str, until: Deadline) -> Reply:
        """Have a window written down; raises as ``OpenAIServer.post`` does."""
        ...


class Options:
    """Options that a server may not know, until it refuses them."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def negotiate(self, ask: Callable[[Sequence[str]], Reply]) -> Reply:
        """Ask with all that are left; after a refusal with fewer, and remember what helped."""
        names = list(self._names)
        while True:
            try:
                reply = ask(names)
            except Refused as refusal:
                if refusal.status not in UNPROCESSABLE or not names:
                    raise
                named = [name for name in names if name in refusal.reason]
                names.remove((named or names)[0])
                continue
            if tuple(names) != self._names:
                missing = ", ".join(name for name in self._names if name not in names)
                log.warning("the speech LLM's server does not take %s; going on without", missing)
                self._names = tuple(names)
            return reply


# What answers consist of


class Logprob(BaseModel):
    """A token and its log-probability; ``bytes`` where it may be half a character."""

    token: str
    logprob: float
    bytes: list[int] | None = None


def pieces(logprobs: Sequence[Logprob]) -> list[tuple[bytes, float]]:
    """Text and log-probability of tokens."""
    return [
        (each.token.encode() if each.bytes is None else bytes(each.bytes), each.logprob)
        for each in logprobs
    ]


class Logprobs(BaseModel):
    """Of a choice's tokens."""

    content: list[Logprob] | None = None


class Message(BaseModel):
    """A message, or a piece of one."""

    content: str | None = None


class Choice(BaseModel):
    """One of the answers to choose from, or a piece of it."""

    message: Message | None = None
    delta: Message | None = None
    logprobs: Logprobs | None = None
    finish_reason: str | None = None

    @property
    def text(self) -> str:
        """What it says."""
        message = self.delta or self.message
        return (message and message.content) or ""


def parsed(model: type[ModelT], data: Any) -> ModelT:
    """Data in a known form.

    Raises:
        ModelError: it has another one.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        where = ".".join(map(str, error.errors(include_input=False, include_url=False)[0]["loc"]))
        raise ModelError(
            f"the speech LLM's server answers in an unknown form: {where or 'the whole'} is "
            "missing or of another type"
        ) from None
