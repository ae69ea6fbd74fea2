"""The A2P head over a live stream: frames in, every token's gain out, exact at every tick.

Frames that will not change any more are settled: they enter a state and are never scored again. The
newest ones are provisional: they count towards one read-out and are scored anew in the next tick.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from a2p_engine.ops import term_score
from a2p_engine.ops.term_score import State
from a2p_engine.retriever.folded import FoldedHead
from a2p_engine.retriever.token_table import TokenTable
from a2p_engine.threads import alone

Attend = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Sequence[State], Tensor], None]


@dataclass
class Hearing:
    """What the scorer keeps of one session since it was started.

    Attributes:
        rows: rows of the token table that have heard everything.
        state: over the settled frames.
        window: the same over the last ones only, instead of ``state``, if the session has one.
        keys: [H, T, d] per settled chunk: rows added later hear them too.
        values: [H, T] per settled chunk.
    """

    rows: int
    state: State
    window: Window | None = None
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    @property
    def settled_frames(self) -> int:
        """Frames in the state."""
        return sum(keys.shape[1] for keys in self.keys)


class Chunk(NamedTuple):
    """New frames of one session.

    Attributes:
        hearing: of the session.
        frames: [T, D], those that were not settled before; may be empty.
        settled: how many of them, from the first, are settled now.
    """

    hearing: Hearing
    frames: Tensor
    settled: int


class TermScorer:
    """Scores all rows of a token table for any number of sessions in one pass."""

    def __init__(
        self, head: FoldedHead, table: TokenTable, attend: Attend = term_score.attend
    ) -> None:
        """Join a folded head and a table made from it, both on one device.

        Args:
            head: frames to keys and values.
            table: the queries.
            attend: form of the operation; the default fits the device.
        """
        self._head = head
        self._attend = attend
        self.table = table

    def start(self, window_frames: int | None = None) -> Hearing:
        """A session, or a segment of it, that has heard nothing.

        Args:
            window_frames: let frames count until so many newer ones are settled; None keeps all.
        """
        window = Window(window_frames) if window_frames else None
        return Hearing(self.table.size, self.table.new_state(self.table.blocks), window)

    def hear(self, chunks: Sequence[Chunk], gain: Tensor | None = None) -> Tensor:
        """Take new frames in and read out what the audio adds to each token's logit.

        Args:
            chunks: of different sessions.
            gain: what an earlier call returned, to be written to again if it still fits.

        Returns:
            [B, K * W] gain, K the table's blocks; zero for a session that has heard nothing.

        Raises:
            ValueError: a settled chunk is longer than its session's window.
        """
        size = self.table.size
        for chunk in chunks:
            self._catch_up(chunk.hearing, size)
        queries = self.table.queries[: self._blocks(size)]
        shape = (len(chunks), len(queries) * self.table.width)
        if gain is None or gain.shape != shape:
            gain = torch.empty(shape, device=queries.device)
        with alone():  # a second thread costs the next step more than it saves here
            keys, values = self._project([chunk.frames for chunk in chunks])
        counts = [[len(chunk.frames) for chunk in chunks], [chunk.settled for chunk in chunks]]
        frames, settled = torch.tensor(counts, dtype=torch.int32, device=queries.device)
        states = [self._target(chunk.hearing, len(queries)) for chunk in chunks]
        self._attend(queries, keys, values, frames, settled, states, gain)
        for number, (hearing, _, split) in enumerate(chunks):
            if split:
                hearing.keys.append(keys[number, :, :split])
                hearing.values.append(values[number, :, :split])
            if hearing.window is not None:
                rest = slice(number, number + 1), slice(None), slice(split, counts[0][number])
                self._slide(hearing, split, states[number], keys[rest], values[rest], gain[rest[0]])
        return gain

    def _blocks(self, rows: int) -> int:
        return -(-rows // self.table.width)

    def _target(self, hearing: Hearing, blocks: int) -> State:
        """Where new frames go: a window takes them chunk by chunk."""
        return hearing.state if hearing.window is None else self.table.new_state(blocks)

    def _slide(
        self,
        hearing: Hearing,
        settled: int,
        chunk: State,
        keys: Tensor,
        values: Tensor,
        gain: Tensor,
    ) -> None:
        """Put a chunk into the window and read out the window and the provisional frames."""
        window = hearing.window
        assert window is not None
        if settled:
            window.push(chunk, settled)
            del hearing.keys[: -window.chunks], hearing.values[: -window.chunks]
        total = window.total() or chunk
        ahead = State(total.lse.clone(), total.mean.clone())
        count = torch.tensor([keys.shape[2]], dtype=torch.int32, device=keys.device)
        queries = self.table.queries[: len(ahead.lse)]
        self._attend(queries, keys, values, count, count * 0, [ahead], gain)

    def _project(self, frames: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Frames of B sessions to padded keys [B, H, T, d] and values [B, H, T]."""
        if len(frames) == 1:
            keys, values = self._head.frames(frames[0])
            return keys[None], values[None]
        padded = torch.nn.utils.rnn.pad_sequence(list(frames), batch_first=True)  # [B, T, D]
        keys, values = self._head.frames(padded.flatten(0, 1))
        heads, depth = keys.shape[0], keys.shape[2]
        return (
            keys.view(heads, *padded.shape[:2], depth).transpose(0, 1).contiguous(),
            values.view(heads, *padded.shape[:2]).transpose(0, 1).contiguous(),
        )

    def _catch_up(self, hearing: Hearing, size: int) -> None:
        """Let token rows that are new to a session hear what it has settled so far."""
        if hearing.rows >= size:
            return
        if hearing.window is not None:
            hearing.window.clear()
            for keys, values in zip(hearing.keys, hearing.values, strict=True):
                hearing.window.push(self._state_of(keys, values, 0, size), keys.shape[1])
        else:
            first = hearing.rows // self.table.width  # the block they begin in is scored again
            if hearing.keys:
                heard = torch.cat(hearing.keys, 1), torch.cat(hearing.values, 1)
                fresh = self._state_of(*heard, first, size)
            else:
                fresh = self.table.new_state(self._blocks(size) - first)
            old = hearing.state
            hearing.state = State(
                torch.cat([old.lse[:first], fresh.lse]), torch.cat([old.mean[:first], fresh.mean])
            )
        hearing.rows = size

    def _state_of(self, keys: Tensor, values: Tensor, first: int, size: int) -> State:
        """State over keys [H, T, d] and values [H, T] of the blocks from ``first`` on."""
        queries = self.table.queries[first : self._blocks(size)]
        state = self.table.new_state(len(queries))
        count = torch.tensor([keys.shape[1]], dtype=torch.int32, device=keys.device)
        unused = state.lse.new_empty(1, len(queries) * self.table.width)
        self._attend(queries, keys[None], values[None], count, count, [state], unused)
        return state


class Window:
    """State over the last frames only: whole chunks leave it, oldest first.

    Two stacks keep it exact without subtraction: the back one holds a running merge of what came
    in since the front one was filled, the front one holds suffix merges of what came before. Each
    chunk is merged twice in its life, whatever the window's length.
    """

    def __init__(self, frames: int) -> None:
        """An empty window of at most so many frames."""
        self._limit = frames
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._frames = 0
        self._front: list[tuple[int, State]] = []  # the last one is the merge of all of them
        self._back: list[tuple[int, State]] = []
        self._back_total: State | None = None

    @property
    def chunks(self) -> int:
        """Chunks in the window."""
        return len(self._front) + len(self._back)

    def push(self, state: State, frames: int) -> None:
        """Add the state over the newest chunk and drop chunks that no longer fit.

        Raises:
            ValueError: the chunk is longer than the window.
        """
        if frames > self._limit:
            raise ValueError(f"a chunk of {frames} frames is longer than {self._limit}")
        self._back.append((frames, state))
        self._back_total = self._back_total.merge(state) if self._back_total else state
        self._frames += frames
        while self._frames > self._limit:
            self._drop()

    def total(self) -> State | None:
        """The state over all frames in the window; None when it is empty."""
        front = self._front[-1][1] if self._front else None
        if front and self._back_total:
            return front.merge(self._back_total)
        return front or self._back_total

    def _drop(self) -> None:
        if not self._front:
            while self._back:
                frames, state = self._back.pop()
                rest = self._front[-1][1] if self._front else None
                self._front.append((frames, state.merge(rest) if rest else state))
            self._back_total = None
        self._frames -= self._front.pop()[0]
