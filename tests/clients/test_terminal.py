"""Captions in a terminal and in a pipe."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from clients import Final, Partial, Reconnecting, Source, TermUse
from clients.terminal import TerminalCaptions, highlight, meter

APIXABAN = TermUse(term="apixaban", probability=0.968, used=True)


def final(text: str, *terms: TermUse) -> Final:
    """A finished segment."""
    return Final(seq=1, segment_id=1, revision=2, start_s=0, end_s=1, text=text, terms=terms)


def partial(committed: str, volatile: str) -> Partial:
    """An open segment."""
    return Partial(
        seq=1,
        segment_id=1,
        revision=1,
        start_s=0,
        end_s=1,
        committed=committed,
        volatile=volatile,
    )


def terminal() -> tuple[Console, io.StringIO]:
    """A console that believes it is a terminal, and what is written to it."""
    output = io.StringIO()
    return Console(
        file=output, force_terminal=True, color_system="standard", width=60, legacy_windows=False
    ), output


def styles(text: str, *terms: TermUse, committed: int | None = None) -> list[tuple[str, str]]:
    """(text, style) of each styled run."""
    rich_text = highlight(text, terms, committed=committed)
    return [(rich_text.plain[s.start : s.end], str(s.style)) for s in rich_text.spans]


def test_a_term_is_emphasised_and_followed_by_its_probability() -> None:
    """The probability stands right behind the term."""
    assert highlight("Take Apixaban.", [APIXABAN]).plain == "Take Apixaban 0.97."
    assert ("Apixaban", "bold cyan") in styles("Take Apixaban.", APIXABAN)


def test_only_whole_words_are_terms_and_the_longest_wins() -> None:
    """No emphasis inside a word; New York wins over York."""
    city, york = (TermUse(term=name, probability=0.5) for name in ("New York", "York"))
    assert highlight("Yorkshire, New York, York", [york, city]).plain == (
        "Yorkshire, New York 0.50, York 0.50"
    )


def test_the_volatile_tail_is_dim() -> None:
    """Committed text is plain; a term in the tail is dim too."""
    runs = styles("we take apixaban now", APIXABAN, committed=8)
    assert ("apixaban", "dim bold cyan") in runs
    assert (" now", "dim") in runs
    assert not any("we" in text for text, _ in runs)


def test_text_with_markup_is_shown_as_it_is() -> None:
    """Captions are never read as rich markup or as a pattern."""
    term = TermUse(term="C++ [draft]", probability=0.5)
    assert highlight("[red]C++ [draft] (", [term]).plain == "[red]C++ [draft] 0.50 ("


def test_a_pipe_gets_finals_only_and_plain() -> None:
    """No partials, no control sequences, no probabilities, no line breaks of our own."""
    output = io.StringIO()
    long = "apixaban " * 30 + "end"
    with TerminalCaptions(Console(file=output, width=40)) as captions:
        captions.handle(partial("take", " api"))
        captions.handle(final("take apixaban", APIXABAN))
        captions.handle(Reconnecting(attempt=1, delay_s=1.0, reason="connection refused"))
        captions.handle(final(""))
        captions.handle(final(long, APIXABAN))
    assert output.getvalue() == f"take apixaban\n{long}\n"


def test_a_terminal_shows_the_open_line_then_the_final() -> None:
    """The open line is live, and gone when its final has come."""
    console, output = terminal()
    with TerminalCaptions(console) as captions:
        captions.handle(partial("we", " take"))
        captions._live.refresh()
        shown = output.getvalue()
        assert "we\x1b[2m take\x1b[0m" in shown
        captions.handle(final("we take apixaban", APIXABAN))
        captions._live.refresh()
    assert "apixaban\x1b[0m\x1b[2;36m 0.97" in output.getvalue().removeprefix(shown)
    assert not captions._open.plain


def test_a_lost_connection_is_told() -> None:
    """The reason and the wait are on the screen."""
    console, output = terminal()
    with TerminalCaptions(console) as captions:
        captions.handle(Reconnecting(attempt=1, delay_s=2.5, reason="connection refused"))
    assert "connection refused; next try in 2.5 s" in output.getvalue()


def test_the_meter_grows_with_the_level() -> None:
    """Empty in silence, full and red when it clips."""
    assert meter(-96.0).spans[0].style == "dim"
    lengths = [meter(level, width=10).spans[0].end for level in (-45.0, -20.0, -6.0)]
    assert lengths == sorted(set(lengths))
    assert lengths[-1] == 10
    assert meter(0.0).spans[0].style == "red"


def test_what_was_said_stands_beneath_its_translation() -> None:
    """In a terminal and in a pipe, for the open line as for finished ones."""
    said = Source(text="Mi hermano", language="es")
    console, output = terminal()
    with TerminalCaptions(console) as captions:
        captions.handle(replace(partial("My", " bro"), source=Source(text="Mi", language="es")))
        assert captions._open.plain == "My bro\nMi"
        captions.handle(replace(final("My brother"), source=said))
        assert captions._open.plain == ""
    assert "My brother" in output.getvalue() and "Mi hermano" in output.getvalue()
    piped = io.StringIO()
    TerminalCaptions(Console(file=piped)).handle(replace(final("My brother"), source=said))
    assert piped.getvalue() == "My brother\nMi hermano\n"
