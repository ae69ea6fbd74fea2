"""Two pieces of work at the same time, where torch may use two threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from a2p_engine import models
from a2p_engine.encoders.whisper import WhisperEncoder
from a2p_engine.threads import beside, own_threads

MEET_S = 10.0


@pytest.fixture
def torch_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """As many threads as the test asks for, and afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("torch_threads", [2], indirect=True)
def test_both_run_at_the_same_time(torch_threads: int) -> None:
    """Each waits for the other; torch is kept to one thread in both, and restored."""
    meeting = threading.Barrier(2)

    def work() -> tuple[int, int]:
        meeting.wait(MEET_S)
        return threading.get_ident(), torch.get_num_threads()

    one, other = beside(work, work)
    assert one[0] != other[0] == threading.get_ident()
    assert one[1] == other[1] == 1
    assert torch.get_num_threads() == torch_threads


@pytest.mark.parametrize("torch_threads", [1], indirect=True)
def test_one_thread_does_one_after_the_other(torch_threads: int) -> None:
    """No further thread, in the order they are given."""
    assert torch_threads == 1
    done: list[tuple[str, int]] = []
    beside(
        lambda: done.append(("one", threading.get_ident())),
        lambda: done.append(("other", threading.get_ident())),
    )
    assert done == [("one", threading.get_ident()), ("other", threading.get_ident())]


@pytest.mark.parametrize("torch_threads", [1, 2], indirect=True)
@pytest.mark.parametrize("first", [True, False])
def test_an_error_of_either_arrives(torch_threads: int, first: bool) -> None:
    """And what it leaves behind does not stop the next."""
    assert torch_threads

    def fail() -> None:
        raise ZeroDivisionError

    def work() -> str:
        return "done"

    with pytest.raises(ZeroDivisionError):
        beside(*((fail, work) if first else (work, fail)))
    assert beside(work, work) == ("done", "done")


@pytest.mark.parametrize("torch_threads", [2], indirect=True)
def test_torch_gets_its_threads_back(torch_threads: int) -> None:
    """Whatever else has set OpenMP to, and after an error too."""
    with pytest.raises(ZeroDivisionError), own_threads():
        torch.set_num_threads(1)
        raise ZeroDivisionError
    assert torch.get_num_threads() == torch_threads


@pytest.mark.parametrize("torch_threads", [2], indirect=True)
def test_loading_whisper_leaves_torch_its_threads(torch_threads: int) -> None:
    """CTranslate2 would have set them to one."""
    WhisperEncoder(models.find("whisper-base"), device="cpu")
    assert torch.get_num_threads() == torch_threads
