"""Log lines: who they are about, what they may not say, and how they look to machines."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterator

import pytest

from streaming.operations import logs

logger = logging.getLogger("streaming.something")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """What a test configures does not stay."""
    watched = [logging.getLogger(name) for name in ("", *logs.OUR_LOGGERS)]
    before = [(item, item.level, item.handlers[:]) for item in watched]
    yield
    logging.captureWarnings(False)
    for item, level, handlers in before:
        item.setLevel(level)
        item.handlers[:] = handlers


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was logged since the last look."""
    return capsys.readouterr().err.splitlines()


def test_a_record_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Time, level, logger, message and what was given besides; one object a line."""
    logs.configure("json")
    logger.warning("slow\nclient %d", 7, extra={"event": "client.slow", "unread": 256})
    (line,) = lines(capsys)
    record = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("time"))
    assert record == {
        "level": "warning",
        "logger": "streaming.something",
        "message": "slow\nclient 7",
        "event": "client.slow",
        "unread": 256,
    }


def test_an_exception_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Its traceback is one value, so that the record stays one line."""
    logs.configure("json")
    try:
        raise ValueError("no such thing")
    except ValueError:
        logger.exception("failed")
    (line,) = lines(capsys)
    assert "ValueError: no such thing" in json.loads(line)["exception"]


def test_a_record_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    """The same for people; what a client sent can neither begin a line nor colour the terminal."""
    logs.configure("text")
    logger.info("hello\n2026 ERROR\x1b[31m", extra={"event": "greeting"})
    (line,) = lines(capsys)
    assert line.endswith(r"INFO    streaming.something: hello\n2026 ERROR\x1b[31m  event=greeting")


async def test_records_carry_the_session(capsys: pytest.CaptureFixture[str]) -> None:
    """Each task marks its own records, and those of threads that work for it."""
    logs.configure("json")

    async def serve(session: str) -> None:
        logs.mark(dialect="vosk")
        logs.mark(session=session)
        await asyncio.sleep(0)
        await asyncio.to_thread(logger.info, "from a thread")

    await asyncio.gather(serve("one"), serve("two"))
    logger.info("from nobody")
    *marked, unmarked = map(json.loads, lines(capsys))
    assert {record["session"] for record in marked} == {"one", "two"}
    assert all(record["dialect"] == "vosk" for record in marked)
    assert "session" not in unmarked and "dialect" not in unmarked


def test_levels_are_for_our_own_loggers(capsys: pytest.CaptureFixture[str]) -> None:
    """Libraries that would write out frames and addresses are kept quiet, even when we debug."""
    logs.configure("text", "debug")
    logger.debug("ours")
    logging.getLogger("a2p_engine.guard").debug("ours")
    logging.getLogger("websockets.server").debug("< TEXT 'what was said'")
    logging.getLogger("uvicorn.error").info('"WebSocket /ws?token=secret" [accepted]')
    logging.getLogger("uvicorn.error").warning("trouble")
    said = lines(capsys)
    assert len(said) == 3 and "trouble" in said[-1]
    logs.configure("text", "error")
    logger.warning("ours")
    assert lines(capsys) == []
