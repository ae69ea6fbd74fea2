"""Server events in the words of each kind of client: OpenAI's of today, its beta's, vLLM's.

The three tell the same things under different names, and leave out what a kind does not know; so
the rest of the dialect tells everything to all of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

from a2p_engine.types import SAMPLE_RATE_HZ, Word
from streaming.dialects.realtime.configuration import Configuration

LEAST_PROBABILITY = 1e-6  # the logarithm of less says no more

Texts = tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """What an error event says.

    Attributes:
        kind: ``invalid_request_error`` or ``server_error``.
        code: what kind of trouble, for programs.
        param: path of the value that is wrong, if one is.
        event_id: the client's name for the message that it is about.
    """

    kind: str
    code: str
    message: str
    param: str | None = None
    event_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Transcript:
    """What an item has come to.

    Attributes:
        audio_s: how much audio it is made of.
        language: ISO 639-1 code, if it is known.
        words: None when nobody asked for their probabilities.
    """

    item_id: str
    text: str
    audio_s: float
    language: str | None = None
    words: Sequence[Word] | None = None


class Wording(Protocol):
    """The server events, each as the messages that tell it."""

    def created(self, session: Configuration) -> Texts: ...  # noqa: D102
    def updated(self, session: Configuration) -> Texts: ...  # noqa: D102
    def cleared(self) -> Texts: ...  # noqa: D102
    def speech_started(self, item_id: str, sample: int) -> Texts: ...  # noqa: D102
    def speech_stopped(self, item_id: str, sample: int) -> Texts: ...  # noqa: D102
    def committed(self, item_id: str, previous_id: str | None) -> Texts: ...  # noqa: D102
    def delta(self, item_id: str, text: str, words: Sequence[Word] | None) -> Texts: ...  # noqa: D102
    def completed(self, transcript: Transcript, previous_id: str | None) -> Texts: ...  # noqa: D102
    def failed(self, item_id: str, trouble: Trouble) -> Texts: ...  # noqa: D102
    def error(self, trouble: Trouble) -> Texts: ...  # noqa: D102


class OpenAI:
    """Names of the generally available API, or of its beta.

    Args:
        token: makes the names of this connection's events and items unlike those of others.
        beta: speak as before general availability.
    """

    def __init__(self, token: str, *, beta: bool) -> None:
        self._token = token
        self.beta = beta
        self._numbers = count(1)

    def created(self, session: Configuration) -> Texts:
        """The first event; vLLM's clients, who are not known yet, look for the name beside it."""
        if self.beta:
            return self._event("transcription_session.created", session=self._session(session))
        name = f"sess_{self._token}"
        return self._event("session.created", session=self._session(session), id=name)

    def updated(self, session: Configuration) -> Texts:
        """The session as it is in force."""
        kind = "transcription_session.updated" if self.beta else "session.updated"
        return self._event(kind, session=self._session(session))

    def cleared(self) -> Texts:
        """Audio that was not committed is forgotten."""
        return self._event("input_audio_buffer.cleared")

    def speech_started(self, item_id: str, sample: int) -> Texts:
        """Someone speaks since ``sample``."""
        at_ms = _milliseconds(sample)
        return self._buffer_event("speech_started", item_id=item_id, audio_start_ms=at_ms)

    def speech_stopped(self, item_id: str, sample: int) -> Texts:
        """Nobody has spoken since ``sample``."""
        at_ms = _milliseconds(sample)
        return self._buffer_event("speech_stopped", item_id=item_id, audio_end_ms=at_ms)

    def committed(self, item_id: str, previous_id: str | None) -> Texts:
        """The audio of an item is complete."""
        committed = self._buffer_event("committed", item_id=item_id, previous_item_id=previous_id)
        name = "created" if self.beta else "added"
        return committed + self._item_event(name, item_id, previous_id, None)

    def delta(self, item_id: str, text: str, words: Sequence[Word] | None) -> Texts:
        """An item's text grows at its end."""
        extra = {} if words is None else {"logprobs": _logprobs(words)}
        return self._transcription_event("delta", item_id, delta=text, **extra)

    def completed(self, transcript: Transcript, previous_id: str | None) -> Texts:
        """An item's text is complete: its deltas in a row."""
        extra: dict[str, Any] = {}
        if transcript.words is not None:
            extra["logprobs"] = _logprobs(transcript.words)
        if transcript.language:
            extra["languages"] = [{"code": transcript.language}]
        completed = self._transcription_event(
            "completed",
            transcript.item_id,
            transcript=transcript.text,
            usage={"type": "duration", "seconds": round(transcript.audio_s, 3)},
            **extra,
        )
        if self.beta:
            return completed
        item_id = transcript.item_id
        return completed + self._item_event("done", item_id, previous_id, transcript.text)

    def failed(self, item_id: str, trouble: Trouble) -> Texts:
        """Part of an item could not be transcribed."""
        error = _error(trouble)
        del error["event_id"]
        return self._transcription_event("failed", item_id, error=error)

    def error(self, trouble: Trouble) -> Texts:
        """Something else went wrong."""
        return self._event("error", error=_error(trouble))

    def _session(self, session: Configuration) -> dict[str, Any]:
        name = f"sess_{self._token}"
        return session.to_legacy(name) if self.beta else session.to_ga(name)

    def _buffer_event(self, name: str, **values: Any) -> Texts:
        return self._event(f"input_audio_buffer.{name}", **values)

    def _transcription_event(self, name: str, item_id: str, **values: Any) -> Texts:
        kind = f"conversation.item.input_audio_transcription.{name}"
        return self._event(kind, item_id=item_id, content_index=0, **values)

    def _item_event(
        self, name: str, item_id: str, previous_id: str | None, transcript: str | None
    ) -> Texts:
        item = {
            "id": item_id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": transcript}],
        }
        return self._event(f"conversation.item.{name}", previous_item_id=previous_id, item=item)

    def _event(self, kind: str, **values: Any) -> Texts:
        event_id = f"event_{self._token}_{next(self._numbers)}"
        return (_text({"type": kind, "event_id": event_id, **values}),)


class VLLM:
    """Names of vLLM's own protocol: deltas, and the whole text once the client has said its last.

    Clients send 16 kHz and get no answer to what they set.
    """

    def created(self, session: Configuration) -> Texts:
        """Told already, when it was not known who listens."""
        return ()

    def updated(self, session: Configuration) -> Texts:
        """Not told."""
        return ()

    def cleared(self) -> Texts:
        """Not told."""
        return ()

    def speech_started(self, item_id: str, sample: int) -> Texts:
        """Not told."""
        return ()

    def speech_stopped(self, item_id: str, sample: int) -> Texts:
        """Not told."""
        return ()

    def committed(self, item_id: str, previous_id: str | None) -> Texts:
        """Not told."""
        return ()

    def delta(self, item_id: str, text: str, words: Sequence[Word] | None) -> Texts:
        """The text grows at its end."""
        return (_text({"type": "transcription.delta", "delta": text}),)

    def completed(self, transcript: Transcript, previous_id: str | None) -> Texts:
        """The text is complete; tokens are not counted."""
        return (_text({"type": "transcription.done", "text": transcript.text, "usage": None}),)

    def failed(self, item_id: str, trouble: Trouble) -> Texts:
        """Told as any other error."""
        return self.error(trouble)

    def error(self, trouble: Trouble) -> Texts:
        """Something went wrong."""
        return (_text({"type": "error", "error": trouble.message, "code": trouble.code}),)


def _text(event: dict[str, Any]) -> str:
    return json.dumps(event, ensure_ascii=False)


def _error(trouble: Trouble) -> dict[str, Any]:
    return {
        "type": trouble.kind,
        "code": trouble.code,
        "message": trouble.message,
        "param": trouble.param,
        "event_id": trouble.event_id,
    }


def _milliseconds(sample: int) -> int:
    return sample * 1000 // SAMPLE_RATE_HZ


def _logprobs(words: Sequence[Word]) -> list[dict[str, Any]]:
    return [
        {
            "token": word.text,
            "bytes": list(word.text.encode()),
            "logprob": round(math.log(max(word.probability, LEAST_PROBABILITY)), 4),
        }
        for word in words
    ]
