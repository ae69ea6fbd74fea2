"""What an encoder offers to the retriever and the speech LLM."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

from a2p_engine.types import Samples

Device = Literal["cpu", "cuda", "auto"]
# What more audio does to a row this far from its end is left out until a final; docs/models.md.
LOOK_AHEAD_S = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """One encoder pass over an open segment, shared by the retriever and the speech LLM.

    Attributes:
        frames: float32 [T, D], one row per ``Encoder.hop_samples`` of audio, without padding.
        native: the encoder's own output, padding included, for the speech LLM of the same family.
    """

    frames: npt.NDArray[np.float32]
    native: Any


@dataclass(frozen=True, slots=True)
class AudioEmbeddings:
    """``Encoded.native`` of encoders that feed a language model.

    Attributes:
        rows: tensor [T, D], what the language model reads in place of tokens, on its device.
        open_rows: how many at the end are younger than ``LOOK_AHEAD_S``.
        settled: how many at the beginning are those of the segment's earlier pass.
        kept: what the speech LLM keeps for another decoding of the same audio; goes with it.
        earlier: what it kept of the earlier pass.
    """

    rows: Any
    open_rows: int = 0
    settled: int = 0
    kept: dict[Any, Any] = field(default_factory=dict)
    earlier: MutableMapping[Any, Any] = field(default_factory=dict)


def going_on(now: Encoded, before: Encoded | None, *, final: bool) -> Encoded:
    """A pass over a segment that has grown, with the rows that its earlier pass has settled.

    With more audio every row of these encoders is another one, the older ones less and less. Rows
    that stay as they were first heard need not be read again by the language model. A final is
    worth reading anew, and is then what the whole audio gives.

    Args:
        now: the pass over the whole segment.
        before: what this gave at the segment's step before, None at the first.
        final: whether the segment ends here.
    """
    new, old = now.native, before.native if before else None
    if final or not (isinstance(new, AudioEmbeddings) and isinstance(old, AudioEmbeddings)):
        return now
    settled = max(old.settled, len(old.rows) - old.open_rows)
    rows = torch.cat([old.rows[:settled], new.rows[settled:]])
    return replace(now, native=replace(new, rows=rows, settled=settled, earlier=old.kept))


class Encoder(Protocol):
    """Samples to frames.

    Attributes:
        name: the model's name, as in ``a2p models list``.
        width: D, width of a frame.
        hop_samples: samples of 16 kHz audio per frame.
    """

    name: str
    width: int
    hop_samples: int

    def encode(self, samples: Samples) -> Encoded:
        """Encode float32 [n] samples (at most 30 s) into ``ceil(n / hop_samples)`` frames."""
        ...
