"""Sans-I/O core of Deepgram's live interface, as its client packages and agent frameworks speak it.

The query of the URL says everything before the first message. Results replace each other over the
same ``start`` until one is final. docs/compatibility.md lists the clients and what differs.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import uuid
from collections import deque
from typing import Any

from a2p_engine.errors import AudioError
from a2p_engine.types import Word
from streaming.commands import Audio, EditGlossary, Flush, Offer, Stop
from streaming.dialects.base import (
    MAX_REASON_BYTES,
    NORMAL_CLOSE,
    Goodbye,
    Handshake,
    Message,
    Reaction,
    close_for,
)
from streaming.dialects.deepgram_query import read_query
from streaming.dialects.utterance_end import UtteranceEnds
from streaming.errors import (
    BadCommand,
    BadJson,
    BadOption,
    IdleTimeout,
    ProtocolError,
    error_event,
)
from streaming.events import (
    Error,
    Event,
    Final,
    Flushed,
    GlossaryUpdated,
    Partial,
    SessionEnded,
    SpeechStarted,
    seconds,
)
from streaming.validation import JsonObject, parse_object, shown

SUBPROTOCOLS = ("token", "bearer")  # a key follows, for clients that cannot send headers
IDLE_TIMEOUT_S = 10.0
CHANNEL = (0, 1)  # index and number of channels
COMMANDS = ("KeepAlive", "Finalize", "CloseStream", "Configure")
EDIT_FAILURES = {"bad_glossary", "internal"}
MAX_ECHOED_CHARS = 200


class Deepgram:
    """One connection's side of the protocol; a ``Dialect``.

    Args:
        handshake: its query says what is wanted.
        offer: what the server has.
        request_id: public name of the connection.
        created: when it began, in ISO 8601.
        version: of the server.

    Raises:
        BadOption: the query asks for what is not offered.
    """

    name = "deepgram"

    def __init__(
        self,
        handshake: Handshake,
        offer: Offer,
        *,
        request_id: str,
        created: str,
        version: str = "unknown",
    ) -> None:
        first = next(iter(handshake.subprotocols), "")
        self.subprotocol = first if first in SUBPROTOCOLS else None
        self._options = read_query(handshake, offer)
        self._request_id = request_id
        self._created = created
        self._model = {"name": offer.speech_llm, "version": version, "arch": "whisper"}
        self._model_uuid = str(uuid.uuid5(uuid.NAMESPACE_URL, offer.speech_llm))
        self._sha256 = hashlib.sha256()
        self._now_sample = 0  # of the latest event
        self._stopped = False
        self._refused = ""
        self._keyterms = self._options.keyterms
        self._edits: deque[tuple[str, ...] | None] = deque()  # told to the engine, not yet made
        self._finalizes: deque[bool] = deque()  # whether each has been answered by a final
        self._utterances = UtteranceEnds(self._options.utterance_end_ms)

    @property
    def idle_timeout_s(self) -> float | None:
        """Only while more is expected of the client."""
        return None if self._stopped else IDLE_TIMEOUT_S

    # What comes in

    def greet(self) -> Reaction:
        """Begin at once: the query has said it all."""
        return Reaction((self._options.start(),))

    def receive_text(self, text: str) -> Reaction:
        """Take one of ``COMMANDS``.

        Raises:
            BadJson: it is not a JSON object.
            BadCommand: it is none of them.
        """
        if self._stopped:
            return Reaction()
        self._refused = text[:MAX_ECHOED_CHARS]
        message = parse_object(text)
        match message.get("type"):
            case "KeepAlive":
                return Reaction()
            case "Finalize":
                self._finalizes.append(False)
                return Reaction((Flush(),))
            case "CloseStream":
                return self._stop()
            case "Configure":
                return self._configure(message)
        raise BadCommand(
            f"unknown type {shown(message.get('type'))}; accepted: {', '.join(COMMANDS)}"
        )

    def receive_bytes(self, data: bytes) -> Reaction:
        """Take audio; an empty message is how clients used to close."""
        if self._stopped:
            return Reaction()
        if not data:
            return self._stop()
        self._sha256.update(data)
        return Reaction((Audio(data),))

    def _stop(self) -> Reaction:
        self._stopped = True
        return Reaction((Stop(),))

    def _configure(self, message: dict[str, Any]) -> Reaction:
        if message.get("keyterms") is None:
            return Reaction((), (self._message("ConfigureSuccess", request_id=self._request_id),))
        given = JsonObject(message, BadCommand).items("keyterms", (str,), "a list of strings")
        wanted = dict.fromkeys(given)
        keyterms = tuple(term for term in wanted if term.strip())
        gone = tuple(term for term in self._keyterms if term not in wanted)
        added = tuple(term for term in keyterms if term not in self._keyterms)
        self._keyterms = keyterms
        self._edits.append(keyterms)
        return Reaction((EditGlossary(add=added, remove=gone),))

    def refuse(self, error: ProtocolError) -> tuple[Message, ...] | None:
        """A message that is not understood is told and skipped."""
        if not isinstance(error, BadCommand | BadJson):
            return None
        return (self._error("SchemaError", str(error), message=self._refused),)

    # What goes out

    def send(self, event: Event) -> tuple[str, ...]:
        """The messages that tell an event."""
        ended = self._utterances.follow(event)
        texts = self._tell(event)
        if ended is None:
            return texts
        told = self._message("UtteranceEnd", channel=CHANNEL, last_word_end=seconds(ended))
        return (told, *texts)

    def _tell(self, event: Event) -> tuple[str, ...]:
        match event:
            case SpeechStarted(time_sample=time_sample) if self._options.vad_events:
                return (
                    self._message("SpeechStarted", channel=CHANNEL, timestamp=seconds(time_sample)),
                )
            case Partial():
                return (self._interim(event),)
            case Final():
                return (self._final(event),)
            case Flushed():
                return self._flushed()
            case GlossaryUpdated() if self._edits:
                return (self._configured(event),)
            case Error():
                return (self._complain(event),)
            case SessionEnded(audio_samples=audio_samples):
                self._now_sample = audio_samples
        return ()

    def _interim(self, event: Partial) -> str:
        text = f"{event.committed}{event.volatile}"
        return self._results(event, text, is_final=False, speech_final=False, from_finalize=False)

    def _final(self, event: Final) -> str:
        from_finalize = event.reason == "flush" and False in self._finalizes
        if from_finalize:
            self._finalizes[self._finalizes.index(False)] = True
        speech_final = event.reason != "max_length"
        if event.reason == "endpoint":
            speech_final = self._options.endpointing
        return self._results(
            event,
            event.text,
            is_final=True,
            speech_final=speech_final,
            from_finalize=from_finalize,
        )

    def _flushed(self) -> tuple[str, ...]:
        """Every ``Finalize`` gets its final, an empty one if there was nothing to say."""
        if not self._finalizes or self._finalizes.popleft():
            return ()
        now = self._now_sample
        nothing = Partial(
            segment_id=0, revision=0, start_sample=now, end_sample=now, committed="", volatile=""
        )
        return (self._results(nothing, "", is_final=True, speech_final=True, from_finalize=True),)

    def _results(self, event: Partial | Final, text: str, **flags: bool) -> str:
        self._now_sample = max(self._now_sample, event.end_sample)
        start = seconds(event.start_sample)
        return self._message(
            "Results",
            channel_index=CHANNEL,
            start=start,
            duration=round(seconds(event.end_sample) - start, 3),
            **flags,
            channel={"alternatives": [self._alternative(event, text.strip())]},
            metadata={
                "request_id": self._request_id,
                "model_info": self._model,
                "model_uuid": self._model_uuid,
            },
        )

    def _alternative(self, event: Partial | Final, text: str) -> dict[str, Any]:
        words = [_word(word) for word in event.words if word.text.strip()]
        if self._options.multilingual and event.language:
            words = [{**word, "language": event.language} for word in words]
        # The upper median is what the real server tells of its words.
        sure = statistics.median_high(word["confidence"] for word in words) if words else 0.0
        if not self._options.punctuated:
            text = " ".join(filter(None, map(plain, text.split())))
        told = {"transcript": text, "confidence": sure, "words": words}
        languages = [event.language] if event.language else []
        return {**told, "languages": languages} if self._options.multilingual else told

    def _configured(self, event: GlossaryUpdated) -> str:
        rejected = {entry for entry, _ in event.rejected}
        keyterms = [term for term in self._edits.popleft() or () if term not in rejected]
        return self._message("ConfigureSuccess", request_id=self._request_id, keyterms=keyterms)

    def _complain(self, event: Error) -> str:
        if not (self._edits and event.code in EDIT_FAILURES):
            return self._error(event.code, event.message)
        self._edits.popleft()
        return self._message(
            "ConfigureFailure",
            request_id=self._request_id,
            code="CONFIGURE_INTERNAL_ERROR",
            description=event.message,
        )

    # The end

    def goodbye(self, error: Exception | None, retry_after_s: float | None) -> Goodbye:
        """In good order the metadata; otherwise what went wrong."""
        if error is None:
            return Goodbye((self._metadata(),), NORMAL_CLOSE)
        code, reason = close_for(error, retry_after_s)
        told = error_event(error, fatal=True)
        variant, description = told.code, told.message
        if isinstance(error, IdleTimeout):
            code, variant = 1011, "NET-0001"
            description = "no audio data and no text message came within the timeout window"
            reason = f"{variant}: {description}"
        elif isinstance(error, AudioError):
            code, variant = 1008, "DATA-0000"
            reason = f"{variant}: {description}"
        elif isinstance(error, BadOption):
            reason = f"{reason}: {description}"
        reason = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
        return Goodbye((self._error(variant, description),), code, reason)

    def _metadata(self) -> str:
        given: dict[str, Any] = {"tags": self._options.tags, "extra": dict(self._options.extra)}
        return self._message(
            "Metadata",
            transaction_key="deprecated",
            request_id=self._request_id,
            sha256=self._sha256.hexdigest(),
            created=self._created,
            duration=seconds(self._now_sample),
            channels=1,
            models=[self._model_uuid],
            model_info={self._model_uuid: self._model},
            **{name: value for name, value in given.items() if value},
        )

    def _error(self, variant: str, description: str, **fields: Any) -> str:
        told = {"variant": variant, "code": variant, "description": description, **fields}
        return self._message("Error", **{"message": description, **told})

    def _message(self, kind: str, /, **fields: Any) -> str:
        return json.dumps({"type": kind, **fields}, ensure_ascii=False)


def _word(word: Word) -> dict[str, Any]:
    text = word.text.strip()
    return {
        "word": plain(text) or text.lower(),
        "start": seconds(word.start_sample),
        "end": seconds(word.end_sample),
        "confidence": round(word.probability, 4),
        "punctuated_word": text,
    }


def plain(word: str) -> str:
    """A word in lower case, without the punctuation around it."""
    inner = [at for at, char in enumerate(word) if char.isalnum()]
    return word[inner[0] : inner[-1] + 1].lower() if inner else ""
