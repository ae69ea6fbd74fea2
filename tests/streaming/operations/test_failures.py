"""Unforeseen errors in the log say what and where, and do not quote."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import pytest

from a2p_engine.errors import GlossaryError, ModelError
from streaming.operations.failures import for_log

CANARY = "what she said"


def text_of(fail: Callable[[], object]) -> str:
    """What a log shows of an error."""
    try:
        fail()
    except Exception as error:
        return "".join(traceback.format_exception(for_log(error)))
    raise AssertionError("nothing failed")


def quoting(kind: type[Exception]) -> Callable[[], object]:
    """Raises an error with a text."""

    def fail() -> None:
        raise kind(CANARY)

    return fail


@pytest.mark.parametrize("kind", [ValueError, KeyError, TypeError, GlossaryError])
def test_errors_of_values_do_not_quote(kind: type[Exception]) -> None:
    """The class and the line are there, the text is not."""
    text = text_of(quoting(kind))
    assert CANARY not in text
    assert f"TextWithheld: {kind.__qualname__}" in text and "in fail" in text


@pytest.mark.parametrize("kind", [OSError, RuntimeError, MemoryError, ModelError])
def test_errors_of_the_machine_are_told(kind: type[Exception]) -> None:
    """Whoever runs the server has to know that the disk or the memory is full."""
    assert f"{kind.__name__}: {CANARY}" in text_of(quoting(kind))


def test_what_led_to_it_does_not_quote_either() -> None:
    """Causes and contexts are withheld in the same way, and still there."""

    def chained() -> None:
        try:
            int(CANARY)
        except ValueError as error:
            raise RuntimeError("out of memory") from error

    def in_passing() -> None:
        try:
            int(CANARY)
        except ValueError:
            quoting(KeyError)()

    for fail in (chained, in_passing):
        text = text_of(fail)
        assert CANARY not in text and "TextWithheld: ValueError" in text
    assert "RuntimeError: out of memory" in text_of(chained)


def test_what_was_suppressed_stays_so() -> None:
    """``from None`` hides in the log as elsewhere."""

    def hidden() -> None:
        try:
            int(CANARY)
        except ValueError:
            raise OSError("disk full") from None

    text = text_of(hidden)
    assert "disk full" in text and "ValueError" not in text
