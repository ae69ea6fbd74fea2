"""Shapes of the published speech LLMs, so that they can be planned for before they are loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2Config,
)

from a2p_engine.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model without its numbers.

    Attributes:
        name: as for ``--speech-llm``.
        kind: its class.
        config: its sizes.
        encoder_parts: names of the modules that make up its encoder.
        heads: attention heads of an A2P head on its frames.
    """

    name: str
    kind: type[PreTrainedModel]
    config: PreTrainedConfig
    encoder_parts: tuple[str, ...]
    heads: int = 32

    def build(
        self, device: torch.device | str = "meta", dtype: torch.dtype | None = None
    ) -> PreTrainedModel:
        """The model with random numbers; on the device ``meta`` with none and without memory."""
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype or before)
        try:
            with torch.device(device):
                model: Any = self.kind(self.config)
        finally:
            torch.set_default_dtype(before)
        built: PreTrainedModel = model.eval().requires_grad_(False)
        return built


def qwen2_audio() -> Shape:
    """Qwen/Qwen2-Audio-7B-Instruct: its config.json names these and leaves the rest to defaults."""
    return Shape(
        name="qwen2-audio",
        kind=Qwen2AudioForConditionalGeneration,
        config=Qwen2AudioConfig(
            text_config=Qwen2Config(
                vocab_size=156_032,
                hidden_size=4_096,
                intermediate_size=11_008,
                num_hidden_layers=32,
                num_attention_heads=32,
                num_key_value_heads=32,
                max_position_embeddings=8_192,
                rms_norm_eps=1e-5,
                tie_word_embeddings=False,
            )
        ),
        encoder_parts=("model.audio_tower", "model.multi_modal_projector"),
    )


SHAPES: dict[str, Callable[[], Shape]] = {"qwen2-audio": qwen2_audio}


def find(name: str) -> Shape:
    """The shape of this name.

    Raises:
        InputError: there is none.
    """
    if name not in SHAPES:
        raise InputError(f"no shape of {name!r} is known; there are {', '.join(SHAPES)}")
    return SHAPES[name]()
