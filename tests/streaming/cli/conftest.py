"""What a command does to the process's log does not outlast its test."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from streaming.operations.logs import OUR_LOGGERS


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """Handlers write to a standard error that is closed when the test is over."""
    loggers = [logging.getLogger(name) for name in ("", *OUR_LOGGERS)]
    before = [(item, item.level, item.handlers[:]) for item in loggers]
    yield
    logging.captureWarnings(False)
    for item, level, handlers in before:
        item.setLevel(level)
        item.handlers[:] = handlers
