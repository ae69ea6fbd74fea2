"""A client of the Realtime dialect's core, and the events it is told, checked for their shapes."""

from __future__ import annotations

import base64
import json
from typing import Any

from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

from a2p_engine.errors import ModelError
from a2p_engine.types import Word
from streaming.commands import Command, Offer
from streaming.dialects.base import Goodbye, Handshake
from streaming.dialects.realtime import Realtime
from streaming.errors import ProtocolError, error_event
from streaming.events import Error, Event, Final, Partial, SpeechStarted, SpeechStopped

OFFER = Offer(languages=("auto", "en", "de"), glossaries=("ward", "all"))
HZ = 16_000
LOGPROBS = "item.input_audio_transcription.logprobs"
COMMIT_EMPTY = "input_audio_buffer_commit_empty"
SHAPES: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)

Message = dict[str, Any]


def base64_of(data: bytes) -> str:
    """Audio as it is sent."""
    return base64.b64encode(data).decode()


def transcription(**values: Any) -> Message:
    """A ``session.update`` of what is about the transcription."""
    return audio_input(transcription=values)


def audio_input(**values: Any) -> Message:
    """A ``session.update`` of the audio's settings."""
    session = {"type": "transcription", "audio": {"input": values}}
    return {"type": "session.update", "session": session}


class Client:
    """Talks to a core; keeps what it was told and the commands that came of it.

    Args:
        strict: check each message by the openai package's own types.
    """

    def __init__(
        self,
        *,
        strict: bool = True,
        named_glossary: bool = False,
        headers: dict[str, str] | None = None,
        subprotocols: tuple[str, ...] = (),
        query: tuple[tuple[str, str], ...] = (),
    ) -> None:
        handshake = Handshake(
            path="/v1/realtime", query=query, headers=headers or {}, subprotocols=subprotocols
        )
        self.dialect = Realtime(handshake, OFFER, token="t", named_glossary=named_glossary)
        self.strict = strict
        self.commands: list[Command] = []
        self.greeting = self.heard(self.dialect.greet().replies)

    def heard(self, texts: Any) -> list[Message]:
        """The messages, after a look at their shapes."""
        messages = [json.loads(text) for text in texts]
        for message in messages if self.strict else ():
            SHAPES.validate_python(message)
        return messages

    def send(self, message: Message | str) -> list[Message]:
        """Say something; returns the immediate answers."""
        text = message if isinstance(message, str) else json.dumps(message)
        self.commands = []
        try:
            reaction = self.dialect.receive_text(text)
        except ProtocolError as error:
            return self.heard(self.dialect.refuse(error))
        self.commands = list(reaction.commands)
        return self.heard(reaction.replies)

    def trouble(self, message: Message | str) -> Message:
        """The error that is the answer."""
        (answer,) = self.send(message)
        assert answer["type"] == "error"
        assert not self.commands
        error: Message = answer["error"]
        return error

    def append(
        self, duration_s: float = 1.0, *, rate_hz: int = 24_000, frame_bytes: int = 2
    ) -> Any:
        """Send silence."""
        data = bytes(round(duration_s * rate_hz) * frame_bytes)
        assert self.send({"type": "input_audio_buffer.append", "audio": base64_of(data)}) == []
        return self.commands

    def commit(self, **keys: Any) -> list[Message]:
        """End a turn."""
        return self.send({"type": "input_audio_buffer.commit", **keys})

    def clear(self) -> list[Message]:
        """Take back what was not committed."""
        return self.send({"type": "input_audio_buffer.clear"})

    def told(self, *events: Event) -> list[Message]:
        """The messages that tell the events."""
        return self.heard(text for event in events for text in self.dialect.send(event))


def kinds(messages: list[Message]) -> list[str]:
    """Types, without what the names of an item's events have in common."""
    prefix = "conversation.item.input_audio_transcription."
    return [message["type"].removeprefix(prefix) for message in messages]


def started(segment_id: int, at_s: float = 0.5) -> SpeechStarted:
    """Someone speaks."""
    return SpeechStarted(segment_id=segment_id, time_sample=round(at_s * HZ))


def stopped(segment_id: int, at_s: float = 1.5) -> SpeechStopped:
    """Nobody speaks any more."""
    return SpeechStopped(segment_id=segment_id, time_sample=round(at_s * HZ))


def words_of(text: str) -> tuple[Word, ...]:
    """The words of a text, a quarter second each, less and less certain."""
    return tuple(
        Word(
            text=f" {word}",
            start_sample=index * 4000,
            end_sample=(index + 1) * 4000,
            probability=0.9 ** (index + 1),
        )
        for index, word in enumerate(text.split())
    )


def partial(segment_id: int, committed: str, volatile: str = "") -> Partial:
    """A hypothesis."""
    return Partial(
        segment_id=segment_id,
        revision=1,
        start_sample=0,
        end_sample=HZ,
        committed=committed,
        volatile=volatile,
        words=words_of(committed + volatile),
        language="en",
    )


def final(segment_id: int, text: str, *, duration_s: float = 2.0) -> Final:
    """A segment's text."""
    return Final(
        segment_id=segment_id,
        revision=2,
        start_sample=0,
        end_sample=round(duration_s * HZ),
        text=text,
        language="en",
        reason="endpoint",
        words=words_of(text),
    )


def by_server(**handshake: Any) -> Client:
    """A client that leaves the turns to the server, with its first second of audio."""
    client = Client(**handshake)
    client.append()
    return client


def by_client() -> Client:
    """A client that commits its turns, with its first second of audio."""
    client = Client()
    client.send(audio_input(turn_detection=None))
    client.append()
    return client


def by_vllm() -> Client:
    """A client of vLLM's protocol, with its first second of audio."""
    client = Client(strict=False)
    assert client.send({"type": "session.update", "model": "voxtral"}) == []
    assert client.commit(final=False) == []
    client.append(rate_hz=16_000)
    return client


def failure(segment_id: int | None) -> Error:
    """The engine could not work on a segment."""
    told = error_event(ModelError("the model failed"), fatal=False)
    return Error(code=told.code, message=told.message, fatal=False, segment_id=segment_id)


def end(client: Client, error: Exception | None, retry_after_s: float | None = None) -> Goodbye:
    """How the connection ends."""
    return client.dialect.goodbye(error, retry_after_s)
