"""What a tick has to move and to compute at least, and how long that takes at measured rates."""

from __future__ import annotations

from dataclasses import dataclass

from a2p_engine.bench.presets import Preset
from a2p_engine.bench.rates import Rates

_FLOAT = _INT = 4


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Least work of one step.

    Attributes:
        bytes: moved between memory and processor.
        flop: multiplications, additions and powers.
        exps: powers, contained in ``flop``.
    """

    bytes: int
    flop: int
    exps: int

    def floor_ms(self, rates: Rates) -> float:
        """The larger of moving all bytes and computing everything."""
        return 1e3 * max(self.bytes / rates.copy_bytes_per_s, self.flop / rates.matmul_flop_per_s)


def step_cost(
    preset: Preset,
    *,
    tokens: int,
    query_bytes: int,
    entries: int,
    terms: int,
    sessions: int,
    frames: int,
) -> Cost:
    """Cost of taking frames of some sessions in and scoring all terms.

    Queries are read once for all sessions; each session's state, two float32 per token and head, is
    read and written; the terms' tokens, offsets and biases are read once; scores are written. What
    is as small as frames, or could stay in a cache, is not counted.

    Args:
        preset: shape of the head.
        tokens: V.
        query_bytes: of one element of a query.
        entries: R, tokens of all terms.
        terms: N, each with one spelling.
        sessions: B.
        frames: T, new ones of each session.
    """
    queries = tokens * preset.width * query_bytes
    states = 2 * sessions * tokens * preset.heads * 2 * _FLOAT
    glossary = entries * _INT + (terms + 1) * _INT + terms * _FLOAT
    scores = sessions * terms * _FLOAT
    exps = tokens * preset.heads * frames * sessions
    return Cost(
        bytes=queries + states + glossary + scores,
        flop=2 * tokens * preset.width * frames * sessions + exps,
        exps=exps,
    )


def dense_flop(preset: Preset, *, rows: int, frames: int) -> int:
    """Arithmetic of the dense form over term tokens, padding included, and one window of frames."""
    width = preset.width
    per_row = 4 * 2 * width**2  # time_words_proj, queries, out_proj, audio_word_fc
    per_frame = 2 * 2 * width**2  # keys, values
    attention = 2 * 2 * width  # scores, weighted sum
    return rows * per_row + frames * per_frame + rows * frames * attention


def dense_bytes(preset: Preset, *, rows: int, frames: int, element_bytes: int) -> int:
    """Memory of the dense form: activations of all tokens, attention weights before and after."""
    activations = 8 * rows * preset.width
    weights = 2 * rows * preset.heads * frames
    return (activations + weights) * element_bytes
