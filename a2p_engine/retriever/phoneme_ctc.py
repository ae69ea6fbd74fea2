"""A small CTC head that reads phonemes off frozen encoder frames (Graves et al. 2006).

The spotter compares its output with the pronunciations of terms. Symbols are the phonemizer's, with
stress and punctuation taken out and sounds that only careful speakers keep apart made one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from a2p_engine.errors import ModelError

BLANK = 0
BOUNDARY = " "  # between words, before the first one and after the last
SYMBOLS: tuple[str, ...] = ("", *"AIOWYbdfhijklmnpstuvwzæðŋɑɔəɛɜɡɪɹʃʊʌʒʤʧθ", BOUNDARY)

# Rare or optional variants, also those of other accents' dictionaries, to the symbol that is heard.
_FOLD = str.maketrans(
    {
        "T": "t", "ɾ": "t", "ᵊ": "ə", "ɐ": "ə", "ᵻ": "ɪ", "ɨ": "ɪ", "Q": "O", "ɒ": "ɑ", "a": "æ",
        "e": "ɛ", "o": "O", "r": "ɹ", "g": "ɡ", "ʣ": "z", "ʦ": "s", "x": "k", "ɚ": "ə",
    }
)  # fmt: skip
_KNOWN = frozenset(SYMBOLS[1:]) - {BOUNDARY}


def to_symbols(phonemes: str) -> list[str]:
    """Phonemizer's string to the head's symbols; stress, punctuation and spaces are dropped."""
    return [symbol for symbol in phonemes.translate(_FOLD) if symbol in _KNOWN]


def with_boundaries(phonemes: str) -> list[str]:
    """Like ``to_symbols``, with a boundary around each word; empty when there is no phoneme."""
    words = [symbols for word in phonemes.split() if (symbols := to_symbols(word))]
    joined = [symbol for word in words for symbol in (BOUNDARY, *word)]
    return [*joined, BOUNDARY] if joined else []


@dataclass(frozen=True, kw_only=True)
class CTCConfig:
    """Shape of the head.

    Attributes:
        frame_width: width of the encoder's frames.
        pool: encoder frames in 40 ms: 2 at 50 Hz, 1 at 25 Hz.
        width: D, width inside.
        kernel: frames (25 Hz) that a convolution sees; odd.
        groups: groups of a convolution.
        blocks: number of convolution blocks.
        dropout: on frames and after each block, while training.
    """

    frame_width: int = 512
    pool: int = 2
    width: int = 512
    kernel: int = 5
    groups: int = 8
    blocks: int = 2
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.pool not in (1, 2):
            raise ValueError(f"pool is {self.pool}; frames come at 25 Hz (1) or 50 Hz (2)")


class _Block(nn.Module):
    """Residual: normalise, look at the neighbours group by group, mix the groups."""

    def __init__(self, config: CTCConfig) -> None:
        super().__init__()
        width = config.width
        self.norm = nn.LayerNorm(width)
        self.near = nn.Conv1d(
            width, width, config.kernel, padding=config.kernel // 2, groups=config.groups
        )
        self.mix = nn.Linear(width, width)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, real: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]; ``real`` [B, T, 1] hides padding from the convolution."""
        near = self.near((self.norm(hidden) * real).transpose(1, 2)).transpose(1, 2)
        mixed: Tensor = self.drop(self.mix(torch.nn.functional.gelu(near)))
        return hidden + mixed


class PhonemeCTC(nn.Module):
    """Encoder frames to log-probabilities of phonemes at 25 Hz.

    Attributes:
        symbols: what each output column stands for; column 0 is the blank.
        lookahead_frames: how many output frames (40 ms each) to the right an output depends on;
            outputs nearer than that to the end of the audio will still change.
    """

    def __init__(self, config: CTCConfig | None = None, symbols: tuple[str, ...] = SYMBOLS) -> None:
        super().__init__()
        self.config = config = config or CTCConfig()
        self.symbols = symbols
        self.lookahead_frames = config.blocks * (config.kernel // 2)
        self.frame_norm = nn.LayerNorm(config.frame_width)
        self.frame_drop = nn.Dropout(config.dropout)
        self.join = nn.Linear(config.pool * config.frame_width, config.width)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)
        self.classify = nn.Linear(config.width, len(symbols))

    def forward(self, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Log-probabilities of symbols.

        Args:
            frames: [B, T, frame_width], ``pool`` of them in 40 ms.
            lengths: [B] real frames of each row; None means all.

        Returns:
            [B, ceil(T/pool), S]; rows beyond ``outputs(lengths)`` mean nothing.
        """
        batch, _, width = frames.shape
        hidden = self.frame_drop(self.frame_norm(frames))
        if self.config.pool == 2:
            hidden = _even(hidden, lengths)
        joined = hidden.reshape(batch, -1, self.config.pool * width)  # [B, T/pool, ...]
        hidden = torch.nn.functional.gelu(self.join(joined))
        real = _mask(hidden, None if lengths is None else self.outputs(lengths))
        for block in self.blocks:
            hidden = block(hidden, real)
        return torch.log_softmax(self.classify(self.norm(hidden)), dim=-1)

    def outputs(self, lengths: Tensor) -> Tensor:
        """Real rows of the output for so many real frames."""
        return (lengths + self.config.pool - 1) // self.config.pool

    def save(self, path: Path, *, dtype: torch.dtype = torch.float16) -> None:
        """Write weights, symbols and shape to a safetensors file."""
        metadata = {
            "symbols": json.dumps(self.symbols, ensure_ascii=False),
            "config": json.dumps(asdict(self.config)),
        }
        state = {name: value.to(dtype).contiguous() for name, value in self.state_dict().items()}
        save_file(state, path, metadata)

    @classmethod
    def load(cls, path: Path) -> PhonemeCTC:
        """Read what ``save`` wrote, in float32 and ready for inference.

        Raises:
            ModelError: the file is missing, damaged or of another shape.
        """
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                state = {name: file.get_tensor(name).float() for name in file.keys()}
            config = CTCConfig(**json.loads(metadata["config"]))
            module = cls(config, tuple(json.loads(metadata["symbols"])))
            module.load_state_dict(state)
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"cannot load the phoneme head {path}: {error}") from error
        return module.eval()


def _even(hidden: Tensor, lengths: Tensor | None) -> Tensor:
    """[B, T, D] with T even: an odd row ends in its last frame twice, alone and in a batch."""
    if hidden.shape[1] % 2:
        hidden = torch.cat([hidden, hidden[:, -1:]], dim=1)
    if lengths is None:
        return hidden
    rows = torch.arange(len(hidden), device=hidden.device)
    odd = lengths % 2 == 1
    last = hidden[rows[odd], lengths[odd] - 1]
    return hidden.index_put((rows[odd], lengths[odd]), last)


def _mask(hidden: Tensor, outputs: Tensor | None) -> Tensor:
    """[B, T, 1], 1 where an output frame holds real audio."""
    if outputs is None:
        return hidden.new_ones(hidden.shape[0], hidden.shape[1], 1)
    steps = torch.arange(hidden.shape[1], device=hidden.device)
    return (steps[None, :] < outputs[:, None]).unsqueeze(-1).to(hidden.dtype)
