"""Sans-I/O core of Vosk's websocket protocol, as telephony and meeting software speaks it.

Its clients send a frame of audio, then wait for one message, in lock step: every binary frame gets
exactly one reply, and nothing is sent unasked. So finals wait for the next frame, and what is left
at the end is one last message. docs/compatibility.md lists the clients.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from streaming.commands import Audio, Command, EditGlossary, Flush, Offer, Stop
from streaming.dialects.base import (
    MAX_REASON_BYTES,
    Goodbye,
    Handshake,
    Message,
    Reaction,
    close_for,
)
from streaming.dialects.vosk_options import VoskOptions
from streaming.errors import BadCommand, BadOption, ProtocolError
from streaming.events import Event, Final, Flushed, Partial, seconds
from streaming.validation import parse_object

SUBPROTOCOL = "ws"  # Asterisk offers it


class Vosk:
    """One connection's side of the protocol; a ``Dialect``.

    Args:
        handshake: its query is a first ``config``.
        offer: what the server has.
        sample_rate_hz: of clients that do not tell theirs.
        opened_s: seconds of the epoch at which the connection was made, for ``times``.
    """

    name = "vosk"
    idle_timeout_s: float | None = None

    def __init__(
        self, handshake: Handshake, offer: Offer, *, sample_rate_hz: int, opened_s: float = 0.0
    ) -> None:
        self.subprotocol = SUBPROTOCOL if SUBPROTOCOL in handshake.subprotocols else None
        self._handshake = handshake
        self._offer = offer
        self._opened_s = opened_s
        self._options = VoskOptions(sample_rate=sample_rate_hz)
        self._started = False
        self._stopped = False
        self._resets = 0  # each waits for the finals of what came before it
        self._finals: deque[Final] = deque()  # not yet told
        self._partial: Partial | None = None

    def greet(self) -> Reaction:
        """Read the URL's query.

        Raises:
            BadOption: it asks for what is not offered.
        """
        self._configure(dict(reversed(self._handshake.query)))
        return Reaction()

    def receive_text(self, text: str) -> Reaction:
        """Take a ``config``, a ``reset`` or the end.

        Raises:
            BadJson: it is not a JSON object.
            BadOption: a value of the ``config`` is not offered, or comes too late.
            BadCommand: it is none of the three.
        """
        if self._stopped:
            return Reaction()
        message = parse_object(text)
        if isinstance(message.get("config"), dict):
            return Reaction(self._configure(message["config"]))
        if message.get("reset"):
            self._resets += 1
            return Reaction((*self._starting(), Flush()))
        if message.get("eof"):
            self._stopped = True
            return Reaction((*self._starting(), Stop()))
        raise BadCommand('unknown message; accepted: {"config": {...}}, {"eof": 1}, {"reset": 1}')

    def receive_bytes(self, data: bytes) -> Reaction:
        """Take audio; the reply tells what was recognised before it."""
        if self._stopped:
            return Reaction()
        return Reaction((*self._starting(), Audio(data)), (self._reply(),))

    def refuse(self, error: ProtocolError) -> tuple[Message, ...] | None:
        """The protocol has no word for errors, so the connection ends and its close code tells."""
        return None

    def send(self, event: Event) -> tuple[str, ...]:
        """Keep what replies are made of; only a ``reset`` is answered by an event."""
        match event:
            case Partial():
                self._partial = event
            case Final():
                self._partial = None
                self._finals.append(event)
            case Flushed() if self._resets:
                self._resets -= 1
                return (self._rest(),)
        return ()

    def goodbye(self, error: Exception | None, retry_after_s: float | None) -> Goodbye:
        """What is left, in one message: always after ``eof``, else if there is anything."""
        code, reason = close_for(error, retry_after_s)
        if isinstance(error, ProtocolError):
            told = f"{reason}: {error}".encode(errors="ignore")
            reason = told[:MAX_REASON_BYTES].decode(errors="ignore")
        due = error is None or any(final.text for final in self._finals)
        return Goodbye((self._rest(),) if due else (), code, reason)

    # What comes in

    def _starting(self) -> tuple[Command, ...]:
        """The ``Start``, once: as late as can be, because a ``config`` may come before it."""
        if self._started:
            return ()
        self._started = True
        return (self._options.start(),)

    def _configure(self, given: Mapping[str, Any]) -> tuple[Command, ...]:
        before, after = self._options, self._options.updated(given, self._offer)
        added = after.phrase_list if after.phrase_list != before.phrase_list else ()
        fixed = replace(after, phrase_list=before.phrase_list).start() == before.start()
        if self._started and not fixed:
            raise BadOption(
                "sample_rate, language, glossary and vad cannot change once audio has come; "
                "open another connection"
            )
        self._options = after
        return (EditGlossary(add=added),) if self._started and added else ()

    # What goes out

    def _reply(self) -> str:
        if self._finals and not self._resets:
            return self._result([self._finals.popleft()])
        partial = self._partial
        text = f"{partial.committed}{partial.volatile}".strip() if partial else ""
        return dump({"partial": text, **self._times([partial] if partial and text else [])})

    def _rest(self) -> str:
        finals = list(self._finals)
        self._finals.clear()
        return self._result(finals)

    def _result(self, finals: Sequence[Final]) -> str:
        """Finals as one result."""
        finals = [final for final in finals if final.text]
        text = " ".join(final.text for final in finals)
        words = [word for final in finals for word in _words(final)] if self._options.words else []
        times = self._times(finals)
        if not self._options.max_alternatives:
            return dump({"text": text, **({"result": words} if words else {}), **times})
        confidence = math.fsum(word["conf"] for word in words) / len(words) if words else 1.0
        unsure = [{key: word[key] for key in ("end", "start", "word")} for word in words]
        only = {"confidence": confidence, "text": text, **({"result": unsure} if words else {})}
        return dump({"alternatives": [only], **times})

    def _times(self, told: Sequence[Partial | Final]) -> dict[str, Any]:
        """Fields by which BigBlueButton tells utterances apart; by default there are none."""
        if not self._options.times or not told:
            return {}
        times: dict[str, Any] = {
            "time_begin": math.floor(self._opened_s + seconds(told[0].start_sample)),
            "time_end": math.floor(self._opened_s + seconds(told[-1].end_sample)),
        }
        if self._options.language == "auto" and told[0].language:
            times["locale"] = told[0].language
        return times


def _words(final: Final) -> list[dict[str, Any]]:
    return [
        {
            "conf": word.probability,
            "end": seconds(word.end_sample),
            "start": seconds(word.start_sample),
            "word": word.text.strip(),
        }
        for word in final.words
        if word.text.strip()
    ]


def dump(value: Any, depth: int = 1) -> str:
    """JSON in the layout of Vosk: keys in order, six decimals, two spaces of indentation.

    Quotation marks of a text are written as an escape of their own, because FreeSWITCH's mod_vosk
    drops every message in which two of them follow each other.
    """
    pad = "  " * depth
    match value:
        case dict():
            fields = (f'{pad}"{key}" : {dump(value[key], depth + 1)}' for key in sorted(value))
            return "{\n" + ",\n".join(fields) + f"\n{pad[2:]}}}"
        case list():
            return "[" + ", ".join(dump(item, depth + 1) for item in value) + "]"
        case str():
            parts = (json.dumps(part, ensure_ascii=False)[1:-1] for part in value.split('"'))
            return '"' + "\\u0022".join(parts) + '"'
        case float():
            return f"{value:.6f}"
    return json.dumps(value)
