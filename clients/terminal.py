"""Live captions in a terminal: finished lines scroll up, the open one changes in place."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from clients.events import (
    ErrorReported,
    Event,
    Final,
    GlossaryUpdated,
    Partial,
    Reconnected,
    Reconnecting,
    SpeechStarted,
    SpeechStopped,
    TermUse,
)

TERM_STYLE = "bold cyan"
QUIET_STYLE = "dim"
SOURCE_STYLE = "dim italic"  # what was said, beneath its translation
# Levels at which the meter is empty and full; speech near a microphone is around -25 dBFS.
METER_FLOOR_DBFS, METER_CEILING_DBFS = -60.0, -6.0


class TerminalCaptions:
    """Shows events of a session; anything but a terminal gets the finals only, plain.

    Use it as a context manager around the loop that calls ``handle``.
    """

    def __init__(self, console: Console | None = None) -> None:
        """Write to ``console``, by default to standard output."""
        self._console = console or Console(highlight=False)
        self._live = Live(console=self._console, refresh_per_second=12, transient=True)
        self._open = Text()
        self._status = Text()

    def __enter__(self) -> Self:
        """Take over the lower end of the terminal."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the terminal back, without the open line."""
        if self._console.is_terminal:
            self._live.stop()

    def handle(self, event: Event) -> None:
        """Show what an event changes; those that change nothing on the screen are ignored."""
        match event:
            case Final():
                self._finish(event)
            case Partial():
                self._open = highlight(event.text, event.terms, committed=len(event.committed))
                if event.source:
                    self._open.append(f"\n{event.source.text}", SOURCE_STYLE)
            case SpeechStarted():
                self._open = Text("…", QUIET_STYLE)
            case SpeechStopped() if self._open.plain == "…":
                self._open = Text()
            case Reconnecting():
                self._open = Text(
                    f"{event.reason}; next try in {event.delay_s:.1f} s", "yellow italic"
                )
            case Reconnected():
                self._open = Text()
                if event.dropped_s:
                    self._note(f"{event.dropped_s:.1f} s of audio were lost", "yellow")
            case GlossaryUpdated():
                self._note(f"glossary v{event.version}: {event.terms} terms", QUIET_STYLE)
            case ErrorReported():
                self._note(event.message, "red")
        self._refresh()

    def set_level(self, dbfs: float) -> None:
        """Show how loud the microphone is, beneath the open line."""
        self._status = meter(dbfs)
        self._refresh()

    def _finish(self, event: Final) -> None:
        self._open = Text()
        if not event.text:
            return
        if self._console.is_terminal:
            self._console.print(highlight(event.text, event.terms))
        else:
            self._console.print(Text(event.text), soft_wrap=True)
        if event.source:
            self._console.print(Text(event.source.text, SOURCE_STYLE), soft_wrap=True)

    def _note(self, text: str, style: str) -> None:
        if self._console.is_terminal:
            self._console.print(Text(text, style))

    def _refresh(self) -> None:
        if self._console.is_terminal:
            self._live.update(Group(self._open, self._status) if self._status else self._open)


def highlight(text: str, terms: Iterable[TermUse], *, committed: int | None = None) -> Text:
    """Caption with its glossary terms emphasised, each followed by its probability.

    Args:
        text: the caption.
        terms: terms that were offered; those in the caption are emphasised.
        committed: characters that will not change; the rest is dimmed. None: all of them.
    """
    probability = {term.term.casefold(): term.probability for term in terms}
    committed = len(text) if committed is None else committed
    result, position = Text(), 0
    for match in _occurrences(text, probability):
        _append(result, text, position, match.start(), committed)
        result.append(match[0], TERM_STYLE if match.end() <= committed else f"dim {TERM_STYLE}")
        result.append(f" {probability[match[0].casefold()]:.2f}", "dim cyan")
        position = match.end()
    _append(result, text, position, len(text), committed)
    return result


def meter(dbfs: float, *, width: int = 24) -> Text:
    """A bar for a sound level, with its number."""
    share = (dbfs - METER_FLOOR_DBFS) / (METER_CEILING_DBFS - METER_FLOOR_DBFS)
    filled = round(width * min(1.0, max(0.0, share)))
    style = "red" if dbfs > METER_CEILING_DBFS else "green"
    return Text.assemble(
        ("━" * filled, style), ("━" * (width - filled), QUIET_STYLE), (f" {dbfs:4.0f} dB", "dim")
    )


def _occurrences(text: str, terms: Iterable[str]) -> Iterable[re.Match[str]]:
    """Whole-word places of terms, the longest term first where two begin at the same place."""
    by_length = sorted((re.escape(term) for term in terms if term), key=len, reverse=True)
    if not by_length:
        return []
    return re.finditer(rf"(?<!\w)(?:{'|'.join(by_length)})(?!\w)", text, re.IGNORECASE)


def _append(result: Text, text: str, start: int, end: int, committed: int) -> None:
    split = min(max(start, committed), end)
    result.append(text[start:split])
    result.append(text[split:end], QUIET_STYLE)
