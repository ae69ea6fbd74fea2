"""A core of Deepgram's dialect and its messages, for tests without sockets."""

from __future__ import annotations

import json
from typing import Any

from a2p_engine.types import Word
from streaming.commands import Command, Offer
from streaming.dialects.base import Handshake
from streaming.dialects.deepgram import Deepgram
from streaming.events import EndReason, Event, Final, Partial

OFFER = Offer(languages=("auto", "en", "de"), glossaries=("ward",), speech_llm="whisper-base")
HZ = 16_000
WORDS = (
    Word(text=" Give", start_sample=16_000, end_sample=20_000, probability=0.9),
    Word(text=" apixaban,", start_sample=20_000, end_sample=30_000, probability=0.5),
    Word(text=" Tom's.", start_sample=30_000, end_sample=40_000, probability=0.99),
)
TEXT = "Give apixaban, Tom's."

Message = dict[str, Any]


def listening(query: str = "model=nova-3&encoding=linear16", *subprotocols: str) -> Deepgram:
    """A connection at its beginning; the query as it stands in a URL, undecoded."""
    pairs = tuple(tuple(pair.split("=", 1)) for pair in query.split("&") if pair)
    handshake = Handshake(path="/v1/listen", query=pairs, subprotocols=subprotocols)  # type: ignore[arg-type]
    return Deepgram(handshake, OFFER, request_id="r-1", created="2026-01-02T03:04:05.000Z")


def partial(**fields: Any) -> Partial:
    """An interim hypothesis from 0.8 s to 2.6 s."""
    given = {"segment_id": 1, "revision": 1, "start_sample": 12_800, "end_sample": 41_600}
    text = {"committed": "Give apixaban,", "volatile": " Tom's.", "words": WORDS, "language": "en"}
    return Partial(**{**given, **text, **fields})


def final(reason: EndReason = "endpoint", **fields: Any) -> Final:
    """The caption of the same speech."""
    given = {"segment_id": 1, "revision": 2, "start_sample": 12_800, "end_sample": 48_000}
    text = {"text": TEXT, "language": "en", "reason": reason, "words": WORDS}
    return Final(**{**given, **text, **fields})


def told(dialect: Deepgram, *events: Event) -> list[Message]:
    """The messages that tell the events."""
    return [json.loads(text) for event in events for text in dialect.send(event)]


def one(dialect: Deepgram, event: Event) -> Message:
    """The one message that tells an event."""
    (message,) = told(dialect, event)
    return message


def sent(dialect: Deepgram, **message: Any) -> tuple[Command, ...]:
    """The commands that a message makes."""
    return dialect.receive_text(json.dumps(message)).commands
