"""Coverage-guided fuzzing of the dialects' sans-I/O cores: nothing but ``ProtocolError`` comes out.

    python -m tests.fuzz.dialects /ws -runs=1000000 -seed=1

Further arguments are libFuzzer's. Each input is a whole connection: a handshake, then messages of
the client and events of the session in any order, then a goodbye.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import atheris

with atheris.instrument_imports(include=["streaming.dialects", "streaming.validation"]):
    from streaming.dialects import DIALECTS
    from streaming.dialects.base import Dialect, Goodbye, Handshake, Reaction

from a2p_engine.types import TermHit, Word
from streaming import errors, events
from streaming.commands import Command, Offer
from streaming.settings import ServerSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    Build = Callable[[Handshake], Dialect]

OFFER = Offer(languages=("auto", "en", "de"), glossaries=("ward",))
SETTINGS = ServerSettings()
MAX_ACTS = 24
# What messages of the known protocols are made of; libFuzzer recombines the rest by itself.
WORDS = (
    "type start resume stop flush glossary.edit add remove audio language task options vad partials"
    " sample_rate sample_rate_hz channels encoding pcm_s16le words eof reset config phrase_list"
    " max_alternatives session session.update transcription_session.update transcription model"
    " input format rate audio/pcm audio/pcmu audio/pcma keywords prompt glossary_id turn_detection"
    " server_vad semantic_vad silence_duration_ms threshold event_id input_audio_buffer.append"
    " input_audio_buffer.commit input_audio_buffer.clear include KeepAlive Finalize CloseStream"
    " Configure keyterms keyterm features endpointing interim_results utterance_end_ms linear16"
    " opus mulaw true false null en de ward token realtime intent AAAA"
).split()


# Whole messages, of which an input changes some values; random ones seldom get past the first key.
MESSAGES: tuple[dict[str, Any], ...] = (
    {"type": "start", "audio": {"sample_rate_hz": 16000}, "options": {"vad": "energy"}},
    {"type": "resume", "session_id": "s", "token": "t", "last_seq": 1, "first_frame": 0},
    {"type": "glossary.edit", "add": ["ward", {"term": "en", "weight": 2.0}], "remove": ["de"]},
    {"config": {"sample_rate": 16000.0, "words": True, "phrase_list": ["ward"]}},
    {"config": {"max_alternatives": 2}},
    {"reset": 1},
    {"eof": 1},
    {
        "type": "session.update",
        "session": {
            "type": "transcription",
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24000},
                    "transcription": {
                        "model": "m", "language": "en", "prompt": "a, b", "keywords": ["ward"],
                        "glossary_id": "ward", "delay": "low",
                    },
                    "turn_detection": {"type": "server_vad", "silence_duration_ms": 500},
                }
            },
            "include": ["item.input_audio_transcription.logprobs"],
        },
    },
    {"type": "session.update", "session": {"audio": {"input": {"turn_detection": None}}}},
    {
        "type": "transcription_session.update",
        "session": {
            "input_audio_format": "g711_ulaw",
            "input_audio_transcription": {"model": "m", "prompt": "a"},
            "turn_detection": {"type": "semantic_vad", "eagerness": "high"},
        },
    },
    {"type": "session.update", "model": "m"},
    {"type": "input_audio_buffer.append", "audio": "AAAAAAAA", "event_id": "e"},
    {"type": "input_audio_buffer.commit", "event_id": "e", "final": True},
    {"type": "input_audio_buffer.clear"},
    {"type": "KeepAlive"},
    {"type": "Finalize", "channel": 0},
    {"type": "CloseStream"},
    {"type": "Configure", "keyterms": ["ward"], "features": {}},
)  # fmt: skip


class Script:
    """Takes an input apart into decisions."""

    def __init__(self, data: bytes) -> None:
        self._data = atheris.FuzzedDataProvider(data)

    def below(self, bound: int) -> int:
        """A number from 0 to ``bound`` - 1."""
        return int(self._data.ConsumeIntInRange(0, bound - 1))

    def text(self) -> str:
        """A word of the protocols, or any text."""
        if self.below(4):
            return WORDS[self.below(len(WORDS))]
        return str(self._data.ConsumeUnicodeNoSurrogates(self.below(32)))

    def blob(self) -> bytes:
        """Any bytes."""
        return bytes(self._data.ConsumeBytes(self.below(4096)))

    def number(self) -> int | float:
        """Any number, special ones included."""
        if self.below(2):
            return int(self._data.ConsumeInt(9))
        return float(self._data.ConsumeFloat())

    def value(self, depth: int = 3) -> Any:
        """Any JSON value, and a few that Python takes for JSON."""
        kind = self.below(8 if depth else 5)
        if kind < 2:
            return self.text()
        if kind < 5:
            return (self.number(), self.below(2) == 1, None)[kind - 2]
        if kind == 5:
            return [self.value(depth - 1) for _ in range(self.below(4))]
        return {self.text(): self.value(depth - 1) for _ in range(self.below(5))}

    def changed(self, value: Any) -> Any:
        """A value with some of what is in it replaced."""
        if self.below(8) == 0:
            return self.value(2)
        if isinstance(value, dict):
            return {key: self.changed(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.changed(item) for item in value]
        return value

    def message(self) -> str:
        """A text message: mostly one that is known, changed or not, at times anything."""
        kind = self.below(16)
        if kind > 5:
            return json.dumps(self.changed(MESSAGES[self.below(len(MESSAGES))]))
        if kind == 0:
            return str(self._data.ConsumeUnicodeNoSurrogates(self.below(256)))
        if kind == 1:
            return json.dumps(self.value())
        known = {"type": self.text()} if kind > 2 else {}
        return json.dumps({**known, **{self.text(): self.value() for _ in range(self.below(5))}})


class Session:
    """Makes events that a session could tell, in an order in which it could tell them."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._now = 0
        self._segment = 0
        self._open = False
        self._revision = 0
        self._committed = ""

    def event(self) -> events.Event:
        """The next one."""
        self._now += self._script.below(40_000)
        kind = self._script.below(8)
        if kind == 0:
            return events.Stats(audio_samples=self._now, lag_samples=self._script.below(9_000))
        if kind == 1:
            return events.Flushed()
        if kind == 2:
            return events.GlossaryUpdated(
                version=2, terms=1, added=1, removed=0, audio_time_sample=self._now
            )
        if kind == 3:
            return errors.error_event(errors.TruncatedAudio("odd"), fatal=False)
        return self._speech()

    def started(self) -> events.Event:
        """The first one."""
        return events.SessionStarted(
            session_id="s", audio={}, language="en", task="transcribe", options={}
        )

    def _speech(self) -> events.Event:
        if not self._open:
            self._open, self._segment, self._revision = True, self._segment + 1, 0
            self._committed = ""
            return events.SpeechStarted(segment_id=self._segment, time_sample=self._now)
        self._revision += 1
        what = self._script.below(4)
        if what == 0:
            return events.SpeechStopped(segment_id=self._segment, time_sample=self._now)
        if what == 1:
            return self._final()
        self._committed += self._script.text()
        return events.Partial(
            segment_id=self._segment,
            revision=self._revision,
            start_sample=max(0, self._now - 30_000),
            end_sample=self._now,
            committed=self._committed,
            volatile=self._script.text(),
            terms=(TermHit(term=self._script.text(), probability=0.5),),
            words=self._words(),
            language="en",
        )

    def _final(self) -> events.Event:
        self._open = False
        reasons: tuple[events.EndReason, ...] = ("endpoint", "max_length", "flush", "stop")
        empty = self._script.below(4) == 0
        return events.Final(
            segment_id=self._segment,
            revision=self._revision,
            start_sample=max(0, self._now - 30_000),
            end_sample=self._now,
            text="" if empty else self._committed + self._script.text(),
            language="en",
            reason=reasons[self._script.below(4)],
            words=() if empty else self._words(),
        )

    def _words(self) -> tuple[Word, ...]:
        return tuple(
            Word(
                text=" " + self._script.text(),
                start_sample=index * 4000,
                end_sample=index * 4000 + 3000,
                probability=self._script.below(101) / 100,
            )
            for index in range(self._script.below(4))
        )


class Connection:
    """Plays one connection and checks what comes out of the dialect."""

    def __init__(self, dialect: Dialect, script: Script) -> None:
        self._dialect = dialect
        self._script = script
        self._session = Session(script)
        self._begun = False

    def play(self) -> None:
        """From the greeting to the goodbye."""
        going = self._try(self._dialect.greet)
        for _ in range(self._script.below(MAX_ACTS)):
            if not (going and (self._act() if self._script.below(3) else self._event())):
                break
        error = None if self._script.below(2) else errors.ModelError("broken")
        end = self._dialect.goodbye(error, None if self._script.below(2) else 5.0)
        assert isinstance(end, Goodbye) and 1000 <= end.code < 5000
        assert len(end.reason.encode()) <= 123
        self._tell(end.messages)

    def _act(self) -> bool:
        """A message of the client; whether the connection goes on."""
        if self._script.below(4):
            text = self._script.message()
            return self._try(lambda: self._dialect.receive_text(text))
        data = self._script.blob()
        return self._try(lambda: self._dialect.receive_bytes(data))

    def _try(self, react: Callable[[], Reaction]) -> bool:
        """Take a reaction, or see that it is refused; whether the connection goes on."""
        try:
            self._take(react())
        except errors.ProtocolError as error:
            assert str(error)
            answer = self._dialect.refuse(error)
            self._tell(answer or ())
            return answer is not None
        return True

    def _event(self) -> bool:
        if self._begun:
            self._tell((self._session.event(),))
        return True

    def _take(self, reaction: Reaction) -> None:
        for command in reaction.commands:
            assert isinstance(command, Command)
        if reaction.commands and not self._begun:
            self._begun = True
            self._tell((self._session.started(),))
        self._tell(reaction.replies)

    def _tell(self, messages: tuple[str | events.Event, ...]) -> None:
        for message in messages:
            texts = (message,) if isinstance(message, str) else self._dialect.send(message)
            for text in texts:
                text.encode()  # no lone surrogates: a websocket could not carry them
                json.loads(text, parse_constant=_no_json)


def _no_json(constant: str) -> None:
    raise AssertionError(f"{constant} is not a JSON value")


def exercise(build: Build, data: bytes) -> None:
    """Play the connection that an input stands for."""
    script = Script(data)
    handshake = Handshake(
        path="/" + script.text(),
        query=tuple((script.text(), script.text()) for _ in range(script.below(5))),
        headers={script.text(): script.text() for _ in range(script.below(3))},
        subprotocols=tuple(script.text() for _ in range(script.below(3))),
    )
    try:
        dialect = build(handshake)
    except errors.ProtocolError as error:
        assert str(error)
        return
    Connection(dialect, script).play()


def builder(path: str) -> Build:
    """How the dialect at a path is built."""
    build = DIALECTS[path]
    return lambda handshake: build(handshake, OFFER, SETTINGS)


def main(arguments: list[str], build: Build | None = None) -> None:
    """Fuzz until libFuzzer has had enough; it ends the process."""
    if len(arguments) < 2 or (build is None and arguments[1] not in DIALECTS):
        sys.exit(f"usage: {arguments[0]} PATH [-runs=N ...]; PATH is one of {', '.join(DIALECTS)}")
    chosen = build or builder(arguments[1])
    atheris.Setup([arguments[0], *arguments[2:]], lambda data: exercise(chosen, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
