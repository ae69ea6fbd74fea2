"""What is said to an MQTT broker, free of I/O: topics, payloads, and what to drop when too much."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from streaming.events import (
    Error,
    Event,
    Final,
    Partial,
    SessionEnded,
    SessionStarted,
    SpeechStarted,
    SpeechStopped,
)

PAYLOAD_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """What goes to the broker; ``expendable`` messages are of no use once a newer one exists."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    expendable: bool = False


class Outbox:
    """Messages in order, at most ``limit``: when full, the oldest expendable one goes first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._messages: deque[Message] = deque()
        self._lost = 0

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def undelivered(self) -> int:
        """Messages dropped or still here whose loss is a loss: neither expendable nor a state."""
        return self._lost + sum(_lasting(message) for message in self._messages)

    def put(self, message: Message) -> None:
        """Add a message behind the others."""
        self._messages.append(message)
        self._shrink()

    def put_first(self, messages: Iterable[Message]) -> None:
        """Add messages, in their order, ahead of the others."""
        self._messages.extendleft(reversed(list(messages)))
        self._shrink()

    def take(self) -> Message | None:
        """Remove and return the first message."""
        return self._messages.popleft() if self._messages else None

    def drop_expendable(self) -> None:
        """Forget what is stale by the time a broken connection is back."""
        self._messages = deque(m for m in self._messages if not m.expendable)

    def _shrink(self) -> None:
        while len(self._messages) > self._limit:
            victim = next((m for m in self._messages if m.expendable), self._messages[0])
            self._messages.remove(victim)
            self._lost += _lasting(victim)


def _lasting(message: Message) -> bool:
    return not (message.expendable or message.retain)


class Topics:
    """Turns the events of sessions into messages.

    ``states`` holds the retained state of each open session, so that it can be sent again to a
    broker that was restarted.
    """

    def __init__(self, node: str) -> None:
        self._node = node
        self._terms: dict[str, list[str]] = {}
        self.states: dict[str, Message] = {}

    def status(self, status: str) -> Message:
        """``online`` or ``offline``, retained; the latter is also the Last Will."""
        payload = {"v": PAYLOAD_VERSION, "node": self._node, "status": status}
        return Message(topic=f"a2p/{self._node}/status", payload=_json(payload), qos=1, retain=True)

    def messages(self, session_id: str, event: Event) -> list[Message]:
        """The messages that tell of an event; none for those of interest to the client alone."""
        match event:
            case Partial():
                message = self._message(session_id, "partial", event.to_dict(), expendable=True)
                return [message, *self._changed_terms(session_id, event)]
            case Final():
                message = self._message(session_id, "final", event.to_dict(), qos=1)
                return [message, *self._changed_terms(session_id, event)]
            case SessionStarted():
                return [self._state(session_id, "listening", event)]
            case SpeechStarted():
                return [self._state(session_id, "speaking", event)]
            case SpeechStopped():
                return [self._state(session_id, "listening", event)]
            case SessionEnded() | Error(fatal=True):
                return self.end(session_id, event)
        return []

    def end(self, session_id: str, event: Event | None = None) -> list[Message]:
        """Tell that a session ended, and clear its retained state; nothing if it is not open."""
        if self.states.pop(session_id, None) is None:
            return []
        self._terms.pop(session_id, None)
        fields = event.to_dict() if event is not None else {}
        ended = self._message(session_id, "state", {**fields, "state": "ended"}, qos=1)
        return [ended, Message(topic=ended.topic, payload=b"", qos=1, retain=True)]

    def _state(self, session_id: str, state: str, event: Event) -> Message:
        fields = {**event.to_dict(), "state": state}
        message = self._message(session_id, "state", fields, qos=1, retain=True)
        self.states[session_id] = message
        return message

    def _changed_terms(self, session_id: str, event: Partial | Final) -> list[Message]:
        """The glossary terms in play, when others than those last told, and with every final."""
        final = isinstance(event, Final)
        names = [hit.term for hit in event.terms]
        told = self._terms.get(session_id, [])
        self._terms[session_id] = [] if final else names
        if names == ([] if final else told):
            return []
        fields = {
            "segment_id": event.segment_id,
            "revision": event.revision,
            "final": final,
            "terms": event.to_dict()["terms"],
        }
        kind = {"qos": 1} if final else {"expendable": True}
        return [self._message(session_id, "terms", fields, **kind)]

    def _message(self, session_id: str, kind: str, fields: dict[str, Any], **how: Any) -> Message:
        payload = {
            "v": PAYLOAD_VERSION,
            "node": self._node,
            "session": session_id,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            **_in_milliseconds({key: value for key, value in fields.items() if key != "type"}),
        }
        topic = f"a2p/{self._node}/session/{topic_level(session_id)}/{kind}"
        return Message(topic=topic, payload=_json(payload), **how)


def topic_level(name: str) -> str:
    """A name that is safe between the slashes of a topic."""
    return re.sub(r"[^a-z0-9_.-]", "_", name.lower()) or "_"


def _in_milliseconds(value: Any) -> Any:
    """Replace times in seconds, recognised by their names, by whole milliseconds."""
    if isinstance(value, list):
        return [_in_milliseconds(item) for item in value]
    if not isinstance(value, dict):
        return value
    converted = {}
    for key, item in value.items():
        if key.endswith("_s"):
            converted[key.removesuffix("_s") + "_ms"] = None if item is None else round(item * 1000)
        else:
            converted[key] = _in_milliseconds(item)
    return converted


def _json(payload: dict[str, Any]) -> bytes:
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
