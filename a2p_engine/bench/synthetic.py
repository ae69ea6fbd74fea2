"""Random heads, embeddings and frames, shaped as trained ones are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from a2p_engine.bench.presets import Preset
from a2p_engine.retriever.attention import AttentionRetriever
from a2p_engine.retriever.folded import FoldedHead, fold

# Standard deviation of a token's base-2 logits over frames. At three bits a softmax over 30 s rests
# on about ten frames: neither on all of them nor on one.
SCORE_BITS = 3.0
# Of a frame with the next one, as speech at 25 frames/s changes a few times a second.
CORRELATION = 0.8
RECORDING_FRAMES = 2_000


@dataclass(frozen=True, kw_only=True)
class Model:
    """What stands in for a speech LLM and a trained head.

    Attributes:
        preset: its shape.
        module: the head in its dense form.
        head: the same, folded.
        embeddings: bfloat16 [vocabulary, D].
        recording: [T, D] frames to take audio from.
    """

    preset: Preset
    module: AttentionRetriever
    head: FoldedHead
    embeddings: Tensor
    recording: Tensor

    @classmethod
    def random(cls, preset: Preset, device: torch.device, seed: int) -> Model:
        """Draw all of it; the same for the same seed, device and release of torch."""
        generator = torch.Generator(device).manual_seed(seed)
        module = random_head(preset, seed).to(device)
        head = fold(module)
        recording = random_frames(RECORDING_FRAMES, preset.width, generator)
        embeddings = torch.empty(
            preset.vocabulary, preset.width, dtype=torch.bfloat16, device=device
        ).normal_(generator=generator)
        embeddings *= SCORE_BITS / score_bits(head, embeddings[:500], recording)
        return cls(
            preset=preset,
            module=module,
            head=head,
            embeddings=embeddings,
            recording=recording,
        )


def model_bytes(preset: Preset) -> int:
    """Memory that a model takes while it is made: the head in float64 is the larger part."""
    square = preset.width**2
    return 2 * preset.vocabulary * preset.width + (6 * 4 + 12 * 8 + 2 * 4) * square


def random_head(preset: Preset, seed: int) -> AttentionRetriever:
    """A head as it is before training; the state of torch's own generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AttentionRetriever(preset.head).eval()


def random_frames(count: int, width: int, generator: torch.Generator) -> Tensor:
    """[T, D] normal frames, each correlated with the one before."""
    frames = torch.randn(count, width, generator=generator, device=generator.device)
    frames[1:] *= math.sqrt(1 - CORRELATION**2)
    for number in range(1, count):
        frames[number] += CORRELATION * frames[number - 1]
    return frames


def score_bits(head: FoldedHead, embeddings: Tensor, frames: Tensor) -> float:
    """Standard deviation over frames of the base-2 logits: [V, D] embeddings, [T, D] frames."""
    queries, _ = head.tokens(embeddings.float())  # [V, H, d]
    keys, _ = head.frames(frames)  # [H, T, d]
    scores = torch.einsum("vhd,htd->vht", queries, keys)
    return float(scores.var(dim=2).mean().sqrt())
