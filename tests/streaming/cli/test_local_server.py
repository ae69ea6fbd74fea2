"""The server that a command starts for itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from streaming.cli.local_server import ServerDied, local_server

END_S = 60.0
BODY = """
import time
from streaming.cli.local_server import local_process
with local_process() as local:
    print(local.pid, flush=True)
    time.sleep(600)
"""


def test_a_server_that_cannot_start_says_why() -> None:
    """The server of an evaluation that dies passes its last words on."""
    with (
        pytest.raises(ServerDied, match="unknown speech LLM 'gpt'"),
        local_server(["--speech-llm", "gpt"]),
    ):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_is_stopped_stops_its_server(number: signal.Signals) -> None:
    """Whichever way it is told to."""
    with subprocess.Popen(
        [sys.executable, "-c", BODY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as command:
        assert command.stdout is not None
        server = int(command.stdout.readline())
        command.send_signal(number)
        assert command.wait(END_S) == (143 if number == signal.SIGTERM else -signal.SIGINT)
    deadline = time.monotonic() + END_S
    while _runs(server):
        assert time.monotonic() < deadline, f"the server {server} goes on"
        time.sleep(0.1)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
