"""Speech models of a few thousand random numbers, with the real models' special tokens."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Blip2QFormerConfig,
    GraniteConfig,
    GraniteSpeechConfig,
    GraniteSpeechEncoderConfig,
    GraniteSpeechForConditionalGeneration,
    Qwen2AudioConfig,
    Qwen2AudioEncoderConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2Config,
    Qwen3ASRConfig,
    Qwen3ASREncoderConfig,
    Qwen3ASRForConditionalGeneration,
    Qwen3Config,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

QWEN_SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|AUDIO|>",
    "<|audio_bos|>",
    "<|audio_eos|>",
)
MERGES = (("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n"), ("e", "r"))


def tokenizer(*special: str) -> Tokenizer:
    """Byte-level BPE as Qwen's, with five merges; special tokens get the last ids."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = [*alphabet, *(left + right for left, right in MERGES)]
    made = Tokenizer(
        models.BPE(vocab={text: at for at, text in enumerate(vocabulary)}, merges=list(MERGES))
    )
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(text, special=True) for text in special or QWEN_SPECIAL])
    return made


def qwen2_audio_config(made: Tokenizer) -> Qwen2AudioConfig:
    """Two layers each, width 32, four seconds of audio."""
    ends = made.token_to_id("<|im_end|>")
    return Qwen2AudioConfig(
        audio_config=Qwen2AudioEncoderConfig(
            num_mel_bins=16,
            encoder_layers=2,
            encoder_attention_heads=2,
            encoder_ffn_dim=48,
            d_model=24,
            max_source_positions=200,
        ),
        text_config=Qwen2Config(
            vocab_size=made.get_vocab_size(),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=768,
            bos_token_id=None,
            eos_token_id=ends,
            pad_token_id=ends,
        ),
        audio_token_index=made.token_to_id("<|AUDIO|>"),
    )


def qwen2_audio(made: Tokenizer, seed: int = 10) -> Qwen2AudioForConditionalGeneration:
    """Random weights, large enough for the text to depend on what is heard.

    Nothing but letters, spaces and the end of a turn is likelier than even.
    """
    torch.manual_seed(seed)
    model = Qwen2AudioForConditionalGeneration(qwen2_audio_config(made)).eval()
    _speak(model, made, "<|im_end|>")
    return model


def _speak(model: Any, made: Tokenizer, end: str) -> None:
    """Let a model of small random numbers write letters and spaces, and end in time."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "embed_positions" not in name:
                weight.mul_(6.0)
    speaking(model, made, end)


def speaking(model: Any, made: Tokenizer, end: str) -> Any:
    """The model, which writes nothing but letters, spaces and its end."""
    with torch.no_grad():
        written = [*"abcdefghij", "Ġ", "Ġt", "Ġthe", "in", "er"]
        likely = [made.token_to_id(text) for text in (*written, end)]
        kept = torch.zeros(made.get_vocab_size(), 1)
        kept[likely] = 1.0
        kept[likely[-1]] = 0.8  # answers of some words
        model.lm_head.weight.mul_(kept)
    return model


QWEN3_SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|audio_start|>",
    "<|audio_pad|>",
    "<|audio_end|>",
)


def qwen3_tokenizer() -> Tokenizer:
    """As Qwen3-ASR's, whose mark of the text is no special token."""
    made = tokenizer(*QWEN3_SPECIAL)
    made.add_tokens([AddedToken("<asr_text>", special=False, normalized=False)])
    return made


def qwen3_asr_config(made: Tokenizer, *, tied: bool = False) -> Qwen3ASRConfig:
    """Two layers each, width 32; attention of the encoder on two seconds."""
    ends = made.token_to_id("<|im_end|>")
    return Qwen3ASRConfig(
        audio_config=Qwen3ASREncoderConfig(
            num_mel_bins=16,
            encoder_layers=2,
            encoder_attention_heads=2,
            encoder_ffn_dim=48,
            d_model=24,
            n_window_infer=200,
            downsample_hidden_size=8,
            output_dim=32,
        ),
        text_config=Qwen3Config(
            vocab_size=made.get_vocab_size(),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            max_position_embeddings=512,
            tie_word_embeddings=tied,
        ),
        audio_token_id=made.token_to_id("<|audio_pad|>"),
        eos_token_id=ends,
        pad_token_id=ends,
        tie_word_embeddings=tied,
    )


def qwen3_asr(made: Tokenizer, seed: int = 23) -> Qwen3ASRForConditionalGeneration:
    """Random weights, as those of ``qwen2_audio``."""
    torch.manual_seed(seed)
    model = Qwen3ASRForConditionalGeneration(qwen3_asr_config(made)).eval()
    _speak(model, made, "<|im_end|>")
    return model


def granite_tokenizer() -> Tokenizer:
    """With the special tokens of Granite Speech."""
    return tokenizer("<|end_of_text|>", "<|audio|>")


def granite_speech_config(made: Tokenizer) -> GraniteSpeechConfig:
    """Two layers each, width 32; attention of the conformer on two seconds."""
    ends = made.token_to_id("<|end_of_text|>")
    return GraniteSpeechConfig(
        encoder_config=GraniteSpeechEncoderConfig(
            input_dim=32,
            num_layers=2,
            hidden_dim=24,
            feedforward_mult=2,
            num_heads=2,
            output_dim=12,
            context_size=100,
            max_pos_emb=128,
        ),
        projector_config=Blip2QFormerConfig(
            hidden_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=48,
            encoder_hidden_size=24,
            cross_attention_frequency=1,
        ),
        text_config=GraniteConfig(
            vocab_size=made.get_vocab_size(),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            logits_scaling=8.0,
            bos_token_id=ends,
            eos_token_id=ends,
            pad_token_id=ends,
        ),
        audio_token_index=made.token_to_id("<|audio|>"),
        has_lora_adapter=False,
        tie_word_embeddings=False,
    )


def granite_speech(made: Tokenizer, seed: int = 12) -> GraniteSpeechForConditionalGeneration:
    """Random weights, as those of ``qwen2_audio``."""
    torch.manual_seed(seed)
    model = GraniteSpeechForConditionalGeneration(granite_speech_config(made)).eval()
    _speak(model, made, "<|end_of_text|>")
    return model
