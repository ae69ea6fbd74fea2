"""The term scorer's Triton kernels, interpreted on CPU, against plain torch in float64."""

from __future__ import annotations

import importlib.util
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
import torch

from a2p_engine.ops.term_score import State, reference

# NumPy, under the interpreter, remarks on what kernels compute for masked lanes.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32


class Form(NamedTuple):
    """The module under test, where it runs, and how far from float64 its results may be."""

    module: ModuleType
    device: str
    tolerance: float


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def form(request: pytest.FixtureRequest) -> Iterator[Form]:
    """Kernels interpreted on CPU, or compiled for a GPU."""
    if request.param == "cpu":
        with _interpreted() as module:
            yield Form(module, "cpu", 2e-5)
    else:
        assert torch.cuda.is_available(), "tests marked gpu need a CUDA device"
        from a2p_engine.ops.term_score import triton

        yield Form(triton, "cuda", 2e-4)


@contextmanager
def _interpreted() -> Iterator[ModuleType]:
    """The module with interpreted kernels.

    Triton decides on that as it is imported, and others may have imported it before: it gets a
    second set of modules for the time being. Only its compiled part cannot be loaded twice.
    """
    with _triton_set_aside(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        path = Path(reference.__file__).with_name("triton.py")
        spec = importlib.util.spec_from_file_location("interpreted_term_score", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        builder = sys.modules["triton.runtime.interpreter"].InterpreterBuilder
        dot = builder.create_dot
        patch.setattr(
            builder, "create_dot", lambda self, a, b, *rest: dot(self, _wide(a), _wide(b), *rest)
        )
        yield module


@contextmanager
def _triton_set_aside() -> Iterator[None]:
    def take() -> dict[str, ModuleType]:
        names = [name for name in sys.modules if name.split(".")[0] == "triton"]
        return {name: sys.modules.pop(name) for name in names if "._C" not in name}

    before = take()
    try:
        yield
    finally:
        # Modules that nobody holds any more would be reported as leaks when Python ends.
        sys.modules.update({f"interpreted_{name}": module for name, module in take().items()})
        sys.modules.update(before)


def _wide(operand: object) -> object:
    """What the interpreter should multiply: it takes bfloat16 for the integers that spell it."""
    if str(operand.dtype) == "bf16":
        data = (operand.data.astype(np.uint32) << 16).view(np.float32)
        return type(operand)(data, sys.modules["triton.language"].float32)
    return operand


def _states(count: int, shape: tuple[int, ...], device: str, offset: int = 0) -> list[State]:
    """Empty states; ``offset`` floats away from where torch would put them."""
    size = int(np.prod(shape))

    def filled(value: float) -> torch.Tensor:
        return torch.full((size + offset,), value, device=device)[offset:].view(shape)

    return [State(filled(-torch.inf), filled(0.0)) for _ in range(count)]


def _exact(states: Sequence[State]) -> list[State]:
    return [State(state.lse.double().cpu(), state.mean.double().cpu()) for state in states]


class Case(NamedTuple):
    """Random queries [K, H, d, W] laid out as the kernels like them, and sizes of the rest."""

    blocks: int
    heads: int
    depth: int
    width: int
    frames: int
    sessions: int
    dtype: torch.dtype

    def queries(self) -> torch.Tensor:
        """Scores of a few bits, so that no frame decides alone."""
        queries = torch.randn(self.blocks, self.heads, self.width, self.depth)
        return (queries * 3 / self.depth**0.5).to(self.dtype).transpose(2, 3)

    def chunk(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Keys, values, frames and settled; padding is poisoned."""
        sessions, frames = self.sessions, self.frames
        keys = torch.randn(sessions, self.heads, frames, self.depth).to(self.dtype)
        values = torch.randn(sessions, self.heads, frames)
        counts = torch.randint(0, frames + 1, (sessions,), dtype=torch.int32)
        settled = (counts * torch.rand(sessions)).int()
        counts[:5] = torch.tensor([frames, 0, frames, frames, frames // 2])[:sessions]
        settled[:5] = torch.tensor([frames // 2, 0, frames, 0, frames // 3])[:sessions]
        for session, count in enumerate(counts.tolist()):
            keys[session, :, count:] = torch.nan
            values[session, :, count:] = torch.nan
        return keys, values, counts, settled


CASES = [
    Case(2, 2, 12, 40, 7, 3, BF16),
    Case(1, 2, 64, 33, 25, 1, F16),
    Case(1, 1, 128, 65, 40, 2, BF16),
    Case(1, 2, 8, 16, 1, 1, BF16),
    Case(2, 2, 16, 20, 13, 4, F32),
    Case(1, 2, 12, 17, 9, 17, F32),
    Case(1, 1, 128, 16, 25, 9, BF16),
    Case(1, 1, 64, 16, 110, 5, F32),
    Case(1, 1, 64, 16, 100, 1, BF16),
    Case(1, 2, 8, 9, 130, 3, F32),
]


def _check(form: Form, found: torch.Tensor, right: torch.Tensor) -> None:
    torch.testing.assert_close(
        found.double().cpu(), right, atol=form.tolerance, rtol=form.tolerance / 2
    )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_ticks_of_several_sessions_equal_float64(form: Form, case: Case) -> None:
    """Two ticks of few or many sessions, short or long; padding and outputs are poisoned."""
    torch.manual_seed(case.frames)
    queries = case.queries()
    states = _states(case.sessions, (case.blocks, case.heads, case.width), form.device)
    exact = _exact(states)
    for _ in range(2):
        keys, values, counts, settled = case.chunk()
        gain = torch.full((case.sessions, case.blocks * case.width), torch.nan)
        expected = gain.double()
        gain = gain.to(form.device)
        inputs = [x.to(form.device) for x in (queries, keys, values, counts, settled)]
        form.module.attend(*inputs, states, gain)
        reference.attend(
            queries.double(), keys.double(), values.double(), counts, settled, exact, expected
        )
        _check(form, gain, expected)
        for found, right in zip(states, exact, strict=True):
            _check(form, found.lse, right.lse)
            _check(form, found.mean, right.mean)


def test_a_whole_block_of_128_tokens(form: Form) -> None:
    """The shape the kernels are made for, where nothing is masked."""
    test_ticks_of_several_sessions_equal_float64(form, Case(2, 1, 64, 128, 20, 5, BF16))
    test_ticks_of_several_sessions_equal_float64(form, Case(2, 1, 64, 128, 20, 1, BF16))


@pytest.mark.parametrize("sessions", [9, 35])
def test_programs_of_several_groups(
    form: Form, sessions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With enough tokens a program takes two or four groups of 8 sessions, the last not full."""
    monkeypatch.setattr(form.module, "PROGRAMS", 1)
    test_ticks_of_several_sessions_equal_float64(form, Case(1, 2, 16, 16, 11, sessions, BF16))


@pytest.mark.parametrize("sessions", [1, 4])
def test_frames_in_chunks_equal_frames_at_once(form: Form, sessions: int) -> None:
    """A tail that is provisional first and settled later counts once, however it is cut."""
    torch.manual_seed(sessions)
    case = Case(1, 2, 16, 16, 70, sessions, BF16)
    queries, keys = case.queries().to(form.device), torch.randn(sessions, 2, 70, 16)
    keys, values = keys.bfloat16().to(form.device), torch.randn(sessions, 2, 70, device=form.device)
    gains, ends = [], []
    for edges in ([0, 70], [0, 3, 3, 20, 61, 70]):
        states = _states(sessions, (1, 2, 16), form.device)
        for low, high in itertools.pairwise(edges):
            ahead = min(high + 9, 70)
            counts = torch.tensor([[ahead - low, high - low]] * sessions, dtype=torch.int32)
            gain = torch.full((sessions, 16), torch.nan, device=form.device)
            parts = keys[:, :, low:ahead], values[:, :, low:ahead], *counts.T.to(form.device)
            form.module.attend(queries, *parts, states, gain)
        gains.append(gain)
        ends.append(torch.stack([torch.stack(state) for state in states]))
    for one, other in (gains, ends):
        _check(form, one, other.double().cpu())


@pytest.mark.parametrize("sessions", [1, 4])
def test_scores_far_apart_neither_overflow_nor_lose_what_is_settled(
    form: Form, sessions: int
) -> None:
    """A provisional frame that outweighs the settled ones by 2^600 leaves their state intact."""
    queries = torch.ones(1, 1, 1, 2, dtype=BF16, device=form.device)
    keys = torch.tensor([-300.0, -298.0, 300.0], device=form.device).view(1, 1, 3, 1)
    values = torch.tensor([[[1.0, 3.0, 5.0]]], device=form.device)
    states = _states(sessions, (1, 1, 2), form.device)
    gain = torch.full((sessions, 2), torch.nan, device=form.device)
    counts = torch.tensor([[3] * sessions, [2] * sessions], dtype=torch.int32, device=form.device)
    each = sessions, -1, -1
    form.module.attend(queries, keys.expand(*each, 1), values.expand(each), *counts, states, gain)
    assert gain.tolist() == [[5.0, 5.0]] * sessions
    for lse, mean in states:
        _check(form, mean, torch.full((1, 1, 2), 2.6, dtype=torch.float64))
        _check(form, lse, torch.full((1, 1, 2), -298 + np.log2(1.25), dtype=torch.float64))


@pytest.mark.parametrize("sessions", [2, 6])
def test_what_is_not_settled_leaves_states_as_they_are(form: Form, sessions: int) -> None:
    """Sessions without settled frames, among one with many: not a bit of their states changes.

    The last one hears nothing at all and is read out, however low its scores were.
    """
    torch.manual_seed(sessions)
    case = Case(1, 1, 16, 8, 30, sessions, BF16)
    states = _states(sessions, (1, 1, 8), form.device)
    for state in states:
        state.lse.copy_(torch.randn(1, 1, 8) * 100 - 300)
        state.mean.copy_(torch.randn(1, 1, 8))
    before = [State(state.lse.clone(), state.mean.clone()) for state in states]
    keys, values, counts, settled = case.chunk()
    counts[:], settled[:] = 30, 0
    settled[0], counts[-1] = 25, 0
    keys, values = keys.nan_to_num(1.0), values.nan_to_num(1.0)
    gain = torch.full((sessions, 8), torch.nan, device=form.device)
    inputs = [x.to(form.device) for x in (case.queries(), keys, values, counts, settled)]
    form.module.attend(*inputs, states, gain)
    assert not torch.equal(states[0].lse, before[0].lse)
    for state, old in zip(states[1:], before[1:], strict=True):
        assert torch.equal(state.lse, old.lse) and torch.equal(state.mean, old.mean)
    _check(form, gain[-1], before[-1].mean.double().cpu().view(8))


@pytest.mark.parametrize("sessions", [1, 5])
def test_nothing_heard_is_no_gain(form: Form, sessions: int) -> None:
    """Fresh states, no frames, and keys without room for any."""
    states = _states(sessions, (2, 2, 8), form.device)
    gain = torch.full((sessions, 16), torch.nan, device=form.device)
    queries = torch.randn(2, 2, 16, 8, device=form.device).bfloat16()
    none = torch.zeros(sessions, dtype=torch.int32, device=form.device)
    keys, values = gain.new_empty(sessions, 2, 0, 16), gain.new_empty(sessions, 2, 0)
    form.module.attend(queries, keys, values, none, none, states, gain)
    assert not gain.any()
    assert all(state.lse.isneginf().all() and not state.mean.any() for state in states)


@pytest.mark.parametrize("sessions", [1, 4])
def test_inputs_may_have_any_strides_and_states_any_place(form: Form, sessions: int) -> None:
    """Queries with tokens innermost, keys with heads inside frames, states at odd addresses."""
    torch.manual_seed(sessions)
    case = Case(2, 2, 16, 16, 9, sessions, BF16)
    queries = case.queries().contiguous().to(form.device)
    keys = torch.randn(sessions, 40, 2, 16).bfloat16()[:, 5:14].transpose(1, 2)
    values = torch.randn(sessions, 9, 2).transpose(1, 2)
    states = _states(sessions, (2, 2, 16), form.device, offset=1)
    exact = _exact(states)
    counts = torch.tensor([[9] * sessions, [4] * sessions], dtype=torch.int32)
    gain = torch.full((sessions, 40), torch.nan, device=form.device)[:, :32]
    expected = torch.empty(sessions, 32, dtype=torch.float64)
    inputs = keys.to(form.device), values.to(form.device), *counts.to(form.device)
    form.module.attend(queries, *inputs, states, gain)
    reference.attend(
        queries.double().cpu(), keys.double(), values.double(), *counts, exact, expected
    )
    _check(form, gain, expected)
    _check(form, states[-1].lse, exact[-1].lse)


def test_a_steady_tick_copies_no_addresses(form: Form) -> None:
    """The table of states is made once for the same sessions in the same order."""
    states = _states(3, (1, 1, 4), form.device)
    counts = torch.ones(2, 3, dtype=torch.int32, device=form.device)
    queries = torch.ones(1, 1, 4, 4, dtype=BF16, device=form.device)
    ones = torch.ones(3, 1, 1, 4, device=form.device)
    gain = torch.empty(3, 4, device=form.device)
    form.module._addresses.cache_clear()
    for order in (states, states, states[::-1]):
        form.module.attend(queries, ones, ones[..., 0], *counts, order, gain)
    assert form.module._addresses.cache_info()[:2] == (1, 2)  # hits, misses


@pytest.mark.parametrize(("forms", "longest"), [(1, 1), (300, 30), (7, 400)])
def test_pooling_equals_the_reference(form: Form, forms: int, longest: int) -> None:
    """Any lengths; a form that is switched off stays at -inf; outputs are poisoned."""
    rng = np.random.default_rng(forms)
    lengths = rng.integers(1, longest + 1, forms)
    offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    rows = torch.from_numpy(rng.integers(0, 50, lengths.sum()).astype(np.int32))
    gain = torch.randn(3, 50)
    bias = torch.from_numpy(rng.choice([0.0, -np.inf, 0.7], forms).astype(np.float32))
    expected = torch.empty(3, forms, dtype=torch.float64)
    reference.pool(gain.double(), rows, offsets, bias.double(), expected)
    out = torch.full((3, forms), torch.nan, device=form.device)
    form.module.pool(*(x.to(form.device) for x in (gain, rows, offsets, bias)), out)
    _check(form, out, expected)


def test_triton_is_left_as_it_was_found() -> None:
    """Interpreting the kernels changes nothing for those who use Triton otherwise."""
    found, setting = importlib.import_module("triton"), os.environ.get("TRITON_INTERPRET")
    with _interpreted() as module:
        assert sys.modules["triton"] is not found
        assert type(module._pool).__name__ == "InterpretedFunction"
    assert sys.modules["triton"] is found
    assert os.environ.get("TRITON_INTERPRET") == setting
