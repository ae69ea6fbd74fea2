"""Logs of a server: one line a record, as text for people or as JSON for machines.

A record made while a session is served carries the session's id and dialect, also in the engine's
threads: they are context variables. What is said in the room and what opens doors is never logged;
libraries may do so below the level WARNING (a WebSocket library writes out frames, an HTTP server
addresses with keys in their queries), so they are held at that level whatever is asked for.
"""

from __future__ import annotations

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

OUR_LOGGERS = ("streaming", "a2p_engine")

_session: ContextVar[str | None] = ContextVar("session", default=None)
_dialect: ContextVar[str | None] = ContextVar("dialect", default=None)

# What ``logging`` itself puts into a record; whatever else is there was given as ``extra``.
_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


def configure(log_format: LogFormat = "text", level: LogLevel = "info") -> None:
    """Log to standard error from now on; replaces what was configured before.

    Args:
        log_format: ``text`` or ``json``.
        level: least severe records of our own that are written; libraries write warnings.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in OUR_LOGGERS:
        logging.getLogger(name).setLevel(level.upper())


def mark(session: str | None = None, dialect: str | None = None) -> None:
    """Mark the records of this task, and of tasks and threads begun in it from now on.

    Args:
        session: id of the session that is served; None keeps what was marked before.
        dialect: name of its wire protocol, likewise.
    """
    for variable, value in ((_session, session), (_dialect, dialect)):
        if value is not None:
            variable.set(value)


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """What a record says beside its message: session, dialect, and what was given as ``extra``."""
    marks = {"session": _session.get(), "dialect": _dialect.get()}
    given = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    return {key: value for key, value in {**marks, **given}.items() if value is not None}


class JsonFormatter(logging.Formatter):
    """A JSON object a line; docs/operations.md lists the keys."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """Time, level, logger, message, and ``key=value`` behind it; a traceback follows in lines."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text; what a client sent cannot begin a line of its own."""
        said = " ".join(f"{key}={value}" for key, value in fields(record).items())
        message = f"{record.getMessage()}  {said}".rstrip()
        line = f"{_time(record)} {record.levelname:<7} {record.name}: {_printable(message)}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _time(record: logging.LogRecord) -> str:
    """UTC, ISO 8601, to the millisecond."""
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _printable(text: str) -> str:
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
