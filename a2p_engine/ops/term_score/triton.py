"""The term scorer on CUDA: one pass over the queries for all sessions of a tick, in Triton.

A program takes a tile of tokens and all heads; scores never leave the registers. At 152k tokens, 32
heads of width 128 and 25 new frames, queries are 1.24 GB, a session's state is 39 MB.

Few sessions: a tick is the reading of the queries. ``_attend_few`` loops over the heads and fetches
tiles two heads ahead; both kinds of frames go through one product.

Many sessions: at 64, the states move 5 GB, and 1e10 scores take as long in the tensor cores as
their powers of two do in the special function units. ``_pack`` puts keys into tiles of CHUNK frames
of GROUP sessions, and ``_attend_many`` takes a tile with one product. Column c of a tile is frame
c // GROUP of session c % GROUP: with 8 sessions a thread holds all frames of two of them and no sum
over frames needs another thread. A program takes up to 32 sessions. That reads key tiles from the
second-level cache once per 128 tokens (20 GB at 64 sessions) and queries once per 32 sessions
(2.5 GB, where 8 would make it 10); sums for all 64 would not fit the registers. Programs with the
same queries are neighbours, so that memory delivers them once.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from a2p_engine.ops.term_score.reference import State

FEW_SESSIONS = 3
FEW_FRAMES = 64  # more would not fit the registers
TILE = 64  # columns of a packed tile
PROGRAMS = 264  # two for each of the 132 multiprocessors of an H100 or H200

# Sizes that change from tick to tick must not compile kernels anew.
_ANY = ["frames", "settled", "lses", "means", "sessions", "v_session", "v_head"]


@triton.jit
def _finite(top):
    """What to subtract from scores whose maximum is ``top``: 0 where there are none."""
    return tl.where(top == float("-inf"), 0.0, top)


@triton.jit
def _merge(top, total, weighted, other_top, other_total, other_weighted):
    """Join two sums of 2^(score - top), and the same with values; an empty one has top -inf."""
    peak = tl.maximum(top, other_top)
    mine, theirs = tl.exp2(top - _finite(peak)), tl.exp2(other_top - _finite(peak))
    return peak, total * mine + other_total * theirs, weighted * mine + other_weighted * theirs


@triton.jit
def _load_queries(
    at,
    tokens,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    if WIDTH % BLOCK_W == 0 and DEPTH == BLOCK_D:
        queries = tl.load(at)
    else:
        inside = (tokens < WIDTH)[:, None] & (tl.arange(0, BLOCK_D) < DEPTH)[None, :]
        queries = tl.load(at, mask=inside, other=0.0)
    return queries


@triton.jit(do_not_specialize=_ANY)
def _attend_few(
    queries, keys, values, frames, settled, lses, means, gain, sessions, q_block, q_head,
    k_session, k_head, k_frame, k_depth, v_session, v_head, v_frame, g_session,
    q_token: tl.constexpr, q_depth: tl.constexpr, HEADS: tl.constexpr, DEPTH: tl.constexpr,
    WIDTH: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_T: tl.constexpr,
):  # fmt: skip
    """One session with at most BLOCK_T frames a program; grid: tiles of tokens times sessions."""
    session = tl.program_id(0) % sessions
    tile = tl.program_id(0) // sessions
    tiles: tl.constexpr = (WIDTH + BLOCK_W - 1) // BLOCK_W
    block = (tile // tiles).to(tl.int64)
    tokens = (tile % tiles) * BLOCK_W + tl.arange(0, BLOCK_W)
    inside = tokens < WIDTH
    depths = tl.arange(0, BLOCK_D)
    steps = tl.arange(0, BLOCK_T)
    split = tl.load(settled + session)
    count = tl.load(frames + session)
    filled = (steps < count)[:, None] & (depths < DEPTH)[None, :]
    # Adding and multiplying takes half of what selecting takes, and no predicates.
    old_only = tl.where(steps < split, 0.0, float("-inf"))[None, :]
    new_only = tl.where((steps >= split) & (steps < count), 0.0, float("-inf"))[None, :]
    old_unit = tl.where(steps < split, 1.0, 0.0)[None, :]
    new_unit = tl.where(steps >= split, 1.0, 0.0)[None, :]
    lse_at = tl.load(lses + session).to(tl.pointer_type(tl.float32))
    mean_at = tl.load(means + session).to(tl.pointer_type(tl.float32))
    q_at = queries + block * q_block + tokens[:, None] * q_token + depths[None, :] * q_depth
    k_at = keys + session.to(tl.int64) * k_session
    k_at += steps[:, None] * k_frame + depths[None, :] * k_depth
    v_at = values + session.to(tl.int64) * v_session + steps * v_frame
    heard = tl.zeros([BLOCK_W], tl.float32)
    # The stages given here, unlike those of the launch, make the state come ahead of time, too.
    for head in tl.range(HEADS, num_stages=3):
        query = _load_queries(q_at + head * q_head, tokens, WIDTH, DEPTH, BLOCK_W, BLOCK_D)
        key = tl.load(k_at + head * k_head, mask=filled, other=0.0)
        value = tl.load(v_at + head * v_head, mask=steps < count, other=0.0)[None, :]
        place = (block * HEADS + head) * WIDTH + tokens
        lse = tl.load(lse_at + place, mask=inside, other=float("-inf"))
        mean = tl.load(mean_at + place, mask=inside, other=0.0)
        scores = tl.dot(query, tl.trans(key))
        # Each part has its own maximum: a loud provisional frame must not flush settled ones to 0.
        old_scores, new_scores = scores + old_only, scores + new_only
        old_top, new_top = tl.max(old_scores, 1), tl.max(new_scores, 1)
        old_scores -= _finite(old_top)[:, None]
        new_scores -= _finite(new_top)[:, None]
        weights = tl.exp2(tl.maximum(old_scores, new_scores))
        old_total = tl.sum(weights * old_unit, 1)
        new_total = tl.sum(weights * new_unit, 1)
        old_weighted = tl.sum(weights * (value * old_unit), 1)
        new_weighted = tl.sum(weights * (value * new_unit), 1)
        full = tl.where(lse == float("-inf"), 0.0, 1.0)
        top, total, weighted = _merge(lse, full, mean, old_top, old_total, old_weighted)
        if split > 0:
            tl.store(lse_at + place, top + tl.log2(total), mask=inside)
            tl.store(mean_at + place, weighted / total, mask=inside)
        top, total, weighted = _merge(top, total, weighted, new_top, new_total, new_weighted)
        heard += tl.where(total > 0, weighted / total, 0.0)
    out = gain + session.to(tl.int64) * g_session + block * WIDTH + tokens
    tl.store(out, heard, mask=inside)


@triton.jit
def _steps(frames, settled, first, sessions, MEMBERS: tl.constexpr, CHUNK: tl.constexpr):
    """Chunks that a program's sessions need for settled frames, and for all of them."""
    members = first + tl.arange(0, MEMBERS)
    splits = tl.load(settled + members, mask=members < sessions, other=0)
    counts = tl.load(frames + members, mask=members < sessions, other=0)
    settled_steps = tl.cdiv(tl.max(splits, 0), CHUNK)
    return settled_steps, settled_steps + tl.cdiv(tl.max(counts - splits, 0), CHUNK)


@triton.jit(do_not_specialize=[*_ANY[:2], *_ANY[4:], "parts", "max_steps"])
def _pack(
    keys, values, frames, settled, packed_keys, packed_values, spares, sessions, parts, max_steps,
    k_session, k_head, k_frame, k_depth, v_session, v_head, v_frame,
    DEPTH: tl.constexpr, BLOCK_D: tl.constexpr, GROUP: tl.constexpr, GROUPS: tl.constexpr,
    CHUNK: tl.constexpr,
):  # fmt: skip
    """One tile of CHUNK frames of GROUP sessions a program; grid: H * parts * GROUPS * max_steps.

    Columns beyond a session's frames repeat its last one with the value zero, so that a maximum is
    always that of real scores; ``spares`` says how often to take that frame's weight off again.
    """
    slot = tl.program_id(0)
    step = slot % max_steps
    group = slot // max_steps % GROUPS
    part = slot // max_steps // GROUPS % parts
    head = (slot // max_steps // GROUPS // parts).to(tl.int64)
    first = part * (GROUPS * GROUP)
    settled_steps, steps = _steps(frames, settled, first, sessions, GROUPS * GROUP, CHUNK)
    if step < steps:
        columns = tl.arange(0, CHUNK * GROUP)
        depths = tl.arange(0, BLOCK_D)
        session = first + group * GROUP + columns % GROUP
        split = tl.load(settled + session, mask=session < sessions, other=0)
        count = tl.load(frames + session, mask=session < sessions, other=0)
        limit = tl.where(step < settled_steps, split, count)
        begin = tl.where(step < settled_steps, 0, split - settled_steps * CHUNK) + step * CHUNK
        frame = begin + columns // GROUP
        real = frame < limit
        frame = tl.minimum(frame, tl.maximum(limit, 1) - 1)
        session = session.to(tl.int64)
        key_at = keys + (session * k_session + head * k_head + frame * k_frame)[:, None]
        value_at = values + session * v_session + head * v_head + frame * v_frame
        heard = (count > 0)[:, None] & (depths < DEPTH)[None, :]
        key = tl.load(key_at + depths[None, :] * k_depth, mask=heard, other=0.0)
        value = tl.load(value_at, mask=real, other=0.0)
        spare = CHUNK - tl.minimum(tl.maximum(limit - begin, 0), CHUNK)
        at = slot.to(tl.int64) * (CHUNK * GROUP) + columns
        key_at = packed_keys + at[:, None] * BLOCK_D + depths[None, :]
        tl.store(key_at, key.to(packed_keys.dtype.element_ty))
        tl.store(packed_values + at, value)
        spare_at = spares + slot.to(tl.int64) * GROUP + columns
        tl.store(spare_at, spare.to(tl.float32), mask=columns < GROUP)


@triton.jit(do_not_specialize=[*_ANY[:5], "parts", "max_steps"])
def _attend_many(
    queries, packed_keys, packed_values, spares, frames, settled, lses, means, gain,
    sessions, parts, max_steps, q_block, q_head, g_session,
    q_token: tl.constexpr, q_depth: tl.constexpr, HEADS: tl.constexpr, DEPTH: tl.constexpr,
    WIDTH: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_D: tl.constexpr, GROUP: tl.constexpr,
    GROUPS: tl.constexpr, CHUNK: tl.constexpr, ALIGNMENT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """GROUPS groups of GROUP sessions a program; grid: tiles of tokens times parts of sessions."""
    SIZE: tl.constexpr = CHUNK * GROUP
    part = tl.program_id(0) % parts
    tile = tl.program_id(0) // parts
    tiles: tl.constexpr = (WIDTH + BLOCK_W - 1) // BLOCK_W
    block = (tile // tiles).to(tl.int64)
    tokens = (tile % tiles) * BLOCK_W + tl.arange(0, BLOCK_W)
    depths = tl.arange(0, BLOCK_D)
    members = tl.arange(0, GROUP)
    chunk = tl.arange(0, CHUNK)
    first = part * (GROUPS * GROUP)
    groups = tl.cdiv(tl.minimum(sessions - first, GROUPS * GROUP), GROUP)
    settled_steps, steps = _steps(frames, settled, first, sessions, GROUPS * GROUP, CHUNK)
    q_at = tokens.to(tl.int64)[:, None] * q_token + depths[None, :] * q_depth
    key_tile = tl.arange(0, SIZE).to(tl.int64)[:, None] * BLOCK_D + depths[None, :]
    cells = chunk[:, None] * GROUP + members[None, :]
    if WIDTH % BLOCK_W == 0:
        inside = tl.full([BLOCK_W, 1], True, tl.int1)
    else:
        inside = (tokens < WIDTH)[:, None]
    heard = tl.zeros([BLOCK_W, GROUPS, GROUP], tl.float32)
    for head in range(HEADS):
        q_base = queries + block * q_block + head * q_head
        query = _load_queries(q_base + q_at, tokens, WIDTH, DEPTH, BLOCK_W, BLOCK_D)
        place = ((block * HEADS + head) * WIDTH + tokens)[:, None]
        for group in range(groups):
            session = first + group * GROUP + members
            owner = tl.minimum(session, sessions - 1)
            lse_at = tl.load(lses + owner).to(tl.pointer_type(tl.float32))[None, :] + place
            mean_at = tl.load(means + owner).to(tl.pointer_type(tl.float32))[None, :] + place
            lse_at = tl.multiple_of(lse_at, [ALIGNMENT, 1])
            mean_at = tl.multiple_of(mean_at, [ALIGNMENT, 1])
            top = tl.load(lse_at, mask=inside, other=0.0)
            weighted = tl.load(mean_at, mask=inside, other=0.0)
            total = tl.where(top == float("-inf"), 0.0, 1.0)
            # A session without frames is read out through a tile of zero keys and values.
            top = tl.where((tl.load(frames + owner) == 0)[None, :], 0.0, top)
            slot = ((head * parts + part) * GROUPS + group).to(tl.int64) * max_steps
            key_at = packed_keys + slot * (SIZE * BLOCK_D)
            value_at = packed_values + slot * SIZE
            spare_at = spares + slot * GROUP
            for step in range(steps):
                key = tl.load(key_at + step * (SIZE * BLOCK_D) + key_tile)
                scores = tl.dot(query, tl.trans(key), input_precision=PRECISION)
                scores = tl.reshape(scores, [BLOCK_W, CHUNK, GROUP])
                peak = tl.maximum(top, tl.max(scores, 1))
                fade = tl.exp2(top - peak)
                weights = tl.exp2(scores - peak[:, None, :])
                last = tl.sum(tl.where((chunk == CHUNK - 1)[None, :, None], weights, 0.0), 1)
                # Loaded only now: fetched ahead, they would cost the registers that scores need.
                value = tl.load(value_at + step * SIZE + cells)
                spare = tl.load(spare_at + step * GROUP + members)
                total = total * fade + (tl.sum(weights, 1) - last * spare[None, :])
                weighted = weighted * fade + tl.sum(weights * value[None, :, :], 1)
                top = peak
                if step == settled_steps - 1:
                    changed = (session < sessions) & (tl.load(settled + owner) > 0)
                    tl.store(lse_at, top + tl.log2(total), mask=inside & changed[None, :])
                    tl.store(mean_at, weighted / total, mask=inside & changed[None, :])
            read = tl.where(total > 0, weighted / total, 0.0)
            mine = (tl.arange(0, GROUPS) == group)[None, :, None]
            heard += tl.where(mine, read[:, None, :], 0.0)
    session = first + tl.arange(0, GROUPS)[:, None] * GROUP + members[None, :]
    out = gain + session.to(tl.int64)[None, :, :] * g_session
    out += (block * WIDTH + tokens)[:, None, None]
    tl.store(out, heard, mask=(session < sessions)[None, :, :] & inside[:, :, None])


@triton.jit(do_not_specialize=["offsets", "bias", "forms"])
def _pool(gain, rows, offsets, bias, out, forms, g_session, o_session, BLOCK: tl.constexpr):
    """BLOCK forms of one session a program; a form's tokens are added by one thread."""
    session = tl.program_id(1).to(tl.int64)
    form = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = form < forms
    begin = tl.load(offsets + form, mask=inside, other=0)
    length = tl.load(offsets + form + 1, mask=inside, other=0) - begin
    total = tl.zeros([BLOCK], tl.float32)
    for step in range(tl.max(length, 0)):
        row = tl.load(rows + begin + step, mask=step < length, other=0)
        total += tl.load(gain + session * g_session + row, mask=step < length, other=0.0)
    shift = tl.load(bias + form, mask=inside, other=0.0)
    mean = total / tl.maximum(length, 1).to(tl.float32)
    tl.store(out + session * o_session + form, mean + shift, mask=inside)


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    frames: Tensor,
    settled: Tensor,
    states: Sequence[State],
    gain: Tensor,
) -> None:
    """See ``reference.attend``; keys are rounded to the queries' type, all else is float32.

    States are contiguous, and so are the rows of ``gain``. Best are queries in bfloat16 with the
    width d innermost and W a multiple of 128.
    """
    if gain.numel() == 0:
        return
    lses, means, alignment = _addresses(
        queries.device,
        tuple(state.lse.data_ptr() for state in states),
        tuple(state.mean.data_ptr() for state in states),
    )
    frames, settled = frames.contiguous(), settled.contiguous()
    few = len(states) <= FEW_SESSIONS and keys.shape[2] <= FEW_FRAMES
    # Float32 takes three products of its halves, and their registers.
    if few and queries.dtype is not torch.float32:
        _few(queries, keys, values, frames, settled, lses, means, gain)
    else:
        _many(queries, keys, values, frames, settled, lses, means, alignment, gain)


@lru_cache(maxsize=256)
def _addresses(
    device: torch.device, lses: tuple[int, ...], means: tuple[int, ...]
) -> tuple[Tensor, Tensor, int]:
    """Where the states lie, int64 [B] twice, and 16 if all of that is a multiple of 16, else 4."""
    alignment = 4 if any(address % 16 for address in (*lses, *means)) else 16
    first, second = torch.tensor([lses, means], device=device)
    return first, second, alignment


def _few(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    frames: Tensor,
    settled: Tensor,
    lses: Tensor,
    means: Tensor,
    gain: Tensor,
) -> None:
    blocks, heads, depth, width = queries.shape
    q_block, q_head, q_depth, q_token = queries.stride()
    tile, keys = _power_of_2(width, 64), keys.to(queries.dtype)
    _attend_few[(blocks * triton.cdiv(width, tile) * len(gain),)](
        queries, keys, values, frames, settled, lses, means, gain,
        len(gain), q_block, q_head, *keys.stride(), *values.stride(), gain.stride(0),
        q_token, q_depth, heads, depth, width, tile, _power_of_2(depth),
        _power_of_2(keys.shape[2]), num_warps=4, enable_fp_fusion=True,
    )  # fmt: skip


def _many(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    frames: Tensor,
    settled: Tensor,
    lses: Tensor,
    means: Tensor,
    alignment: int,
    gain: Tensor,
) -> None:
    blocks, heads, depth, width = queries.shape
    q_block, q_head, q_depth, q_token = queries.stride()
    sessions, full, block_d = len(gain), queries.dtype is torch.float32, _power_of_2(depth)
    tile = _power_of_2(width, 64 if full else 128)
    tiles = blocks * triton.cdiv(width, tile)
    group = 8 if sessions > FEW_SESSIONS else 1
    groups = 4
    while groups > 1 and (
        sessions <= group * groups // 2
        or tiles * triton.cdiv(sessions, group * groups) < PROGRAMS
    ):  # fmt: skip
        groups //= 2
    chunk, parts = TILE // group, triton.cdiv(sessions, group * groups)
    # One session may need all its chunks for settled frames while another needs none.
    max_steps = 2 * max(1, triton.cdiv(keys.shape[2], chunk))
    slots = heads * parts * groups * max_steps
    packed_keys = queries.new_empty(slots * TILE * block_d)
    packed_values, spares = values.new_empty(slots * TILE), values.new_empty(slots * group)
    _pack[(slots,)](
        keys, values, frames, settled, packed_keys, packed_values, spares,
        sessions, parts, max_steps, *keys.stride(), *values.stride(),
        depth, block_d, group, groups, chunk, num_warps=4, enable_fp_fusion=True,
    )  # fmt: skip
    # 128 registers a thread let two programs share a multiprocessor: one multiplies while the
    # other takes powers. Full precision needs more.
    shared = tile == 128
    _attend_many[(tiles * parts,)](
        queries, packed_keys, packed_values, spares, frames, settled, lses, means,
        gain, sessions, parts, max_steps, q_block, q_head, gain.stride(0),
        q_token, q_depth, heads, depth, width, tile, block_d, group, groups, chunk,
        alignment if width % 4 == 0 else 4, "tf32x3" if full else "ieee",
        num_warps=8 if shared else 4, num_stages=2 if full else 3,
        maxnreg=128 if shared else None, enable_fp_fusion=True,
    )  # fmt: skip


def _power_of_2(size: int, most: int = 1 << 20) -> int:
    """The least that holds ``size``, within ``most``, and 16 at least: products take no less."""
    return max(16, min(most, int(triton.next_power_of_2(size))))


def pool(gain: Tensor, rows: Tensor, offsets: Tensor, bias: Tensor, out: Tensor) -> None:
    """See ``reference.pool``; sums are in float32, rows of ``gain`` and ``out`` are contiguous."""
    sessions, forms = out.shape
    if sessions and forms:
        _pool[(triton.cdiv(forms, 256), sessions)](
            gain, rows, offsets, bias, out, forms, gain.stride(0), out.stride(0), 256,
            num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip
