"""A server in a process of its own for the length of a command, on a free port of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, Queue
from typing import IO, NamedTuple

from streaming.errors import StreamingError

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0


class ServerDied(StreamingError):
    """The server of a command did not start."""


class Local(NamedTuple):
    """A server on this machine: its websocket address and its process."""

    url: str
    pid: int


@contextmanager
def local_server(options: Sequence[str] = ()) -> Iterator[str]:
    """As ``local_process``; yields the websocket address alone."""
    with local_process(options) as local:
        yield local.url


@contextmanager
def local_process(options: Sequence[str] = ()) -> Iterator[Local]:
    """Run ``a2p serve`` beside the body.

    Args:
        options: further options of ``a2p serve``.

    Yields:
        Where it listens, and its process.

    Raises:
        ServerDied: it does not listen; the text holds what it said.
    """
    command = [sys.executable, "-m", "streaming.cli", "serve", "--port", "0", *options]
    with (
        _exit_on_sigterm(),
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=_environment(),
            # Ctrl-C is for the command, which then stops the server.
            start_new_session=True,
        ) as process,
    ):
        complaints: deque[str] = deque(maxlen=3)
        addresses: Queue[str] = Queue()
        for work, stream in ((addresses.put, process.stdout), (complaints.append, process.stderr)):
            threading.Thread(target=_pass_on, args=(stream, work), daemon=True).start()
        try:
            yield Local(_address(process, addresses, complaints), process.pid)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the body as Ctrl-C does, so that the server is not left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what a signal does
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _environment() -> dict[str, str]:
    """That of this process without settings, which are those of the user's own servers."""
    from streaming.settings import ENVIRONMENT_PREFIX, ServerSettings

    settings = {f"{ENVIRONMENT_PREFIX}{name.upper()}" for name in ServerSettings.model_fields}
    return {key: value for key, value in os.environ.items() if key not in settings}


def _pass_on(stream: IO[str], work: object) -> None:
    for line in stream:
        work(line.strip())  # type: ignore[operator]


def _address(process: subprocess.Popen[str], addresses: Queue[str], complaints: deque[str]) -> str:
    waited_s = 0.0
    while waited_s < START_TIMEOUT_S:
        try:
            line = addresses.get(timeout=0.2)
        except Empty:
            waited_s += 0.2
            if process.poll() is not None:
                break
            continue
        if (found := line.partition("ws://")[1:]) != ("", ""):
            return "".join(found).split()[0]
    said = " ".join(complaints) or "nothing"
    raise ServerDied(f"the server did not start; it said: {said}")
