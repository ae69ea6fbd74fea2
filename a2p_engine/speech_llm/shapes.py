"""Shapes of the published speech LLMs, so that they can be planned for before they are loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    Blip2QFormerConfig,
    GraniteConfig,
    GraniteSpeechConfig,
    GraniteSpeechEncoderConfig,
    GraniteSpeechForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2Config,
    Qwen3ASRConfig,
    Qwen3ASREncoderConfig,
    Qwen3ASRForConditionalGeneration,
    Qwen3Config,
)

from a2p_engine.encoders.whisper_tower import tower_states
from a2p_engine.errors import InputError


def encode_qwen2_audio(model: Any, frames: int) -> None:
    """So many frames through audio tower and projector, on the device ``meta``."""
    tower = model.model.audio_tower
    mel = torch.empty(1, tower.config.num_mel_bins, 4 * frames, device="meta", dtype=model.dtype)
    heard = tower_states(tower, mel, [2 * frames])
    model.model.multi_modal_projector(heard[:, ::2])


def encode_qwen3_asr(model: Any, frames: int) -> None:
    """So many frames through audio tower and projector, on the device ``meta``.

    The library's own pass looks at numbers, which are not there.
    """
    tower, width = model.model.audio_tower, model.model.audio_tower.config.d_model
    mels, seconds = tower.config.num_mel_bins, -(-frames // 13)
    sound = torch.empty(seconds, 1, mels, 2 * tower.n_window, device="meta", dtype=model.dtype)
    heard = tower.conv2d3(tower.conv2d2(tower.conv2d1(sound)))
    states = tower.conv_out(heard.permute(0, 3, 1, 2).flatten(2)).reshape(-1, width)[:frames]
    window = 13 * tower.n_window_infer // (2 * tower.n_window)
    edges = torch.tensor([*range(0, frames, window), frames], device="cpu")
    for layer in tower.layers:
        states = layer(states, edges)[0]
    model.model.multi_modal_projector(states)


def encode_granite_speech(model: Any, frames: int) -> None:
    """So many frames through conformer and projector, on the device ``meta``."""
    inputs = model.config.encoder_config.input_dim
    spectra = torch.empty(1, 5 * frames, inputs, device="meta", dtype=model.dtype)
    model.model.get_audio_features(spectra)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model without its numbers.

    Attributes:
        name: as for ``--speech-llm``.
        kind: its class.
        config: its sizes.
        encoder_parts: names of the modules that make up its encoder.
        heads: attention heads of an A2P head on its frames.
        frames_per_s: positions of a second of audio in the language model.
        encode: runs a number of frames through the encoder of a model on the device ``meta``.
        readings: how often a tick reads the audio: twice where terms stand before it.
    """

    name: str
    kind: type[PreTrainedModel]
    config: PreTrainedConfig
    encoder_parts: tuple[str, ...]
    heads: int = 32
    frames_per_s: int = 25
    encode: Callable[[Any, int], None] = encode_qwen2_audio
    readings: int = 1

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


def qwen3_asr_17b() -> Shape:
    """Qwen/Qwen3-ASR-1.7B-hf: the library's defaults, with frames as wide as the tokens."""
    return _qwen3_asr("qwen3-asr-1.7b", Qwen3ASREncoderConfig(output_dim=2_048), 2_048, 6_144)


def qwen3_asr_06b() -> Shape:
    """Qwen/Qwen3-ASR-0.6B-hf: 18 layers of width 896 before Qwen3-0.6B."""
    encoder = Qwen3ASREncoderConfig(
        encoder_layers=18,
        encoder_attention_heads=14,
        encoder_ffn_dim=3_584,
        d_model=896,
        output_dim=1_024,
    )
    return _qwen3_asr("qwen3-asr-0.6b", encoder, 1_024, 3_072)


def _qwen3_asr(name: str, encoder: Qwen3ASREncoderConfig, width: int, inner: int) -> Shape:
    return Shape(
        name=name,
        kind=Qwen3ASRForConditionalGeneration,
        config=Qwen3ASRConfig(
            audio_config=encoder,
            text_config=Qwen3Config(
                vocab_size=151_936,
                hidden_size=width,
                intermediate_size=inner,
                num_hidden_layers=28,
                num_attention_heads=16,
                num_key_value_heads=8,
                head_dim=128,
                max_position_embeddings=65_536,
                tie_word_embeddings=True,
            ),
        ),
        encoder_parts=("model.audio_tower", "model.multi_modal_projector"),
        heads=16,
        frames_per_s=13,
        encode=encode_qwen3_asr,
        readings=2,
    )


def granite_speech() -> Shape:
    """ibm-granite/granite-speech-4.1-2b: conformer, projector and Granite 4.0 1B."""
    return Shape(
        name="granite-speech-4.1-2b",
        kind=GraniteSpeechForConditionalGeneration,
        config=GraniteSpeechConfig(
            encoder_config=GraniteSpeechEncoderConfig(num_layers=16, output_dim=348),
            projector_config=Blip2QFormerConfig(
                hidden_size=1_024,
                num_hidden_layers=2,
                num_attention_heads=16,
                intermediate_size=4_096,
                encoder_hidden_size=1_024,
                cross_attention_frequency=1,
            ),
            text_config=GraniteConfig(
                vocab_size=100_353,
                hidden_size=2_048,
                intermediate_size=4_096,
                num_hidden_layers=40,
                num_attention_heads=16,
                num_key_value_heads=4,
                max_position_embeddings=4_096,
                tie_word_embeddings=False,
            ),
            has_lora_adapter=False,
            tie_word_embeddings=False,
        ),
        encoder_parts=("model.encoder", "model.projector"),
        heads=16,
        frames_per_s=10,
        encode=encode_granite_speech,
    )


SHAPES: dict[str, Callable[[], Shape]] = {
    "qwen2-audio": qwen2_audio,
    "qwen3-asr-1.7b": qwen3_asr_17b,
    "qwen3-asr-0.6b": qwen3_asr_06b,
    "granite-speech-4.1-2b": granite_speech,
}


def find(name: str) -> Shape:
    """The shape of this name.

    Raises:
        InputError: there is none.
    """
    if name not in SHAPES:
        raise InputError(f"no shape of {name!r} is known; there are {', '.join(SHAPES)}")
    return SHAPES[name]()
