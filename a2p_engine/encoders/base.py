"""What an encoder offers to the retriever and the speech LLM."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from a2p_engine.types import Samples

Device = Literal["cpu", "cuda", "auto"]


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
        kept: what the speech LLM keeps for another decoding of the same audio; goes with it.
    """

    rows: Any
    kept: dict[Any, Any] = field(default_factory=dict)


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
