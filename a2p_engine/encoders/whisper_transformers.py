"""Whisper through transformers, from the same file as through CTranslate2, for GPUs and training.

Features, silence behind the audio and unpadded windows are those of ``WhisperEncoder``, so that the
same retriever works on its frames. The decoder is behind the interface of CTranslate2's
(speech_llm/whisper_decoder.py), so that ``WhisperSpeechLLM`` takes either.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from faster_whisper.feature_extractor import FeatureExtractor
from tokenizers import Tokenizer
from torch import Tensor
from transformers import WhisperConfig, WhisperForConditionalGeneration

from a2p_engine.batching import Batcher
from a2p_engine.encoders.base import Device, Encoded
from a2p_engine.encoders.whisper import MAX_SAMPLES, TAIL_SILENCE_SAMPLES
from a2p_engine.encoders.whisper_tables import float_tables
from a2p_engine.encoders.whisper_tower import tower_states
from a2p_engine.errors import AudioError, ModelError
from a2p_engine.speech_llm.pretrained import choose_device, load_tokenizer
from a2p_engine.speech_llm.whisper_decoder import WhisperDecoder
from a2p_engine.trace import Trace
from a2p_engine.types import SAMPLE_RATE_HZ, Samples

BATCH_ROWS = 8
HEAD_WIDTH = 64  # of every Whisper

Table = npt.NDArray[np.float32]


class SharedModel(NamedTuple):
    """What the speech LLM takes from its encoder.

    Attributes:
        hf_tokenizer: of the ``tokenizers`` library.
        model: writes, aligns and detects languages.
    """

    hf_tokenizer: Tokenizer
    model: WhisperDecoder


class WhisperTransformersEncoder:
    """Encoder half of a Whisper model; the decoder half shares ``model``."""

    hop_samples = 320  # two 10 ms mel frames: 50 Hz

    def __init__(
        self,
        directory: Path,
        *,
        name: str = "whisper-transformers",
        device: Device = "auto",
        trace: Trace | None = None,
    ) -> None:
        """Fill the library's model from CTranslate2's weights.

        Args:
            directory: holds model.bin with float weights, config.json and tokenizer.json.
            name: the model's name.
            device: ``cpu``, ``cuda`` or ``auto``.
            trace: counts what is done.

        Raises:
            ModelError: the directory does not hold a loadable model.
        """
        self.name, self.directory = name, directory
        self.trace = trace or Trace()
        where = choose_device(device)
        whisper = load_whisper(directory).to(where)  # type: ignore[arg-type]
        if where.type == "cuda":
            whisper.half()  # as the weights are stored
        tokenizer = load_tokenizer(directory)
        self.model = SharedModel(tokenizer, WhisperDecoder(whisper, tokenizer, self.trace))
        self.batch = BATCH_ROWS
        self.width = whisper.config.d_model
        self._tower: Any = whisper.model.encoder
        self._features = FeatureExtractor(feature_size=whisper.config.num_mel_bins)
        self._encode = Batcher(self._encode_all, limit=BATCH_ROWS)

    def encode(self, samples: Samples) -> Encoded:
        """See ``Encoder.encode``.

        Raises:
            AudioError: the window is longer than ``MAX_SAMPLES``.
        """
        if len(samples) > MAX_SAMPLES:
            raise AudioError(
                f"a window of {len(samples) / SAMPLE_RATE_HZ:.1f} s is too long for Whisper, "
                f"which takes {MAX_SAMPLES / SAMPLE_RATE_HZ:.0f} s at most"
            )
        padded = np.concatenate([samples, np.zeros(TAIL_SILENCE_SAMPLES, np.float32)])
        mel = self._features(padded, padding=0)  # [80, 10 ms frames]
        native = self._encode(mel[:, : mel.shape[1] - mel.shape[1] % 2].astype(np.float32))
        real = -(-len(samples) // self.hop_samples)
        return Encoded(frames=native[0, :real].float().cpu().numpy(), native=native)

    @staticmethod
    def join(natives: Sequence[Tensor]) -> Tensor:
        """Several encoded windows of one length, [1, T, D] each, as one of [B, T, D]."""
        return torch.cat(list(natives))

    @torch.inference_mode()
    def _encode_all(self, mels: Sequence[Table]) -> list[Tensor]:
        """Spectrograms to [1, T, D] each."""
        tower = self._tower
        counts = [mel.shape[1] // 2 for mel in mels]
        longest = 2 * max(counts)
        rows = [np.pad(mel, ((0, 0), (0, longest - mel.shape[1]))) for mel in mels]
        weight = tower.conv1.weight
        stacked = torch.from_numpy(np.stack(rows)).to(weight.device, weight.dtype)
        states = tower.layer_norm(tower_states(tower, stacked, counts))
        self.trace.encodes += len(mels)
        self.trace.encoded_frames += sum(counts)
        return [row[None, :count].clone() for row, count in zip(states, counts, strict=True)]


def load_whisper(directory: Path) -> WhisperForConditionalGeneration:
    """The library's model with the numbers of CTranslate2's, in float32.

    Args:
        directory: holds model.bin with float weights and config.json.

    Raises:
        ModelError: a file is missing, damaged, or holds another kind of model.
    """
    tables = float_tables(directory)
    try:
        state = {name: torch.from_numpy(table.copy()) for name, table in _renamed(tables)}
        said = json.loads((directory / "config.json").read_text("utf-8"))
        with torch.device("meta"):
            model: Any = WhisperForConditionalGeneration(_config(tables, said))
        model.load_state_dict(state, assign=True, strict=False)
        model.tie_weights()
        if lacking := [name for name, weight in model.named_parameters() if weight.is_meta]:
            raise ValueError(f"no numbers for {lacking[0]}")
    except (KeyError, ValueError, OSError, RuntimeError) as error:
        raise ModelError(f"cannot fill Whisper from {directory}: {error}") from error
    filled: WhisperForConditionalGeneration = model.eval().requires_grad_(False)
    return filled


def _config(tables: Mapping[str, Table], said: Mapping[str, Any]) -> WhisperConfig:
    """Shape of the model: sizes of its tables, and CTranslate2's config.json for the rest."""
    vocabulary, width = tables["decoder/embeddings/weight"].shape
    parts = {tuple(name.split("/")[:2]) for name in tables}
    numbered = [half for half, part in parts if re.fullmatch(r"layer_\d+", part)]
    kind: Any = WhisperConfig  # whose types know no generation settings
    config: WhisperConfig = kind(
        vocab_size=vocabulary,
        d_model=width,
        num_mel_bins=tables["encoder/conv1/weight"].shape[1],
        encoder_layers=numbered.count("encoder"),
        decoder_layers=numbered.count("decoder"),
        encoder_attention_heads=width // HEAD_WIDTH,
        decoder_attention_heads=width // HEAD_WIDTH,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        max_source_positions=len(tables["encoder/position_encodings/encodings"]),
        max_target_positions=len(tables["decoder/position_encodings/encodings"]),
        suppress_tokens=said["suppress_ids"],
        begin_suppress_tokens=said["suppress_ids_begin"],
        alignment_heads=said["alignment_heads"],
        attn_implementation="eager",  # words get their times from attention weights
    )
    return config


def _renamed(tables: Mapping[str, Table]) -> Iterator[tuple[str, Table]]:
    """Names and tables of the library; a fused linear is several of its rows."""
    for name, table in tables.items():
        half, *path, kind = name.split("/")
        kind = {"gamma": "weight", "beta": "bias", "encodings": "weight"}.get(kind, kind)
        if path[0].startswith("layer_") and path[0] != "layer_norm":
            layer = f"model.{half}.layers.{path[0].removeprefix('layer_')}"
            for part, rows in _in_layer(path[1:], table):
                if (part, kind) not in (
                    ("self_attn.k_proj", "bias"),
                    ("encoder_attn.k_proj", "bias"),
                ):
                    yield f"{layer}.{part}.{kind}", rows
        else:
            known = {"embeddings": "embed_tokens", "position_encodings": "embed_positions"}
            yield f"model.{half}.{known.get(path[0], path[0])}.{kind}", table


def _in_layer(path: Sequence[str], table: Table) -> Iterator[tuple[str, Table]]:
    """Parts of a layer and their rows."""
    block, part = path
    if block == "ffn":
        names = {"layer_norm": "final_layer_norm", "linear_0": "fc1", "linear_1": "fc2"}
        yield names[part], table
        return
    attention = {"self_attention": "self_attn", "attention": "encoder_attn"}[block]
    if part == "layer_norm":
        yield f"{attention}_layer_norm", table
        return
    fused = {
        ("self_attn", "linear_0"): ("q_proj", "k_proj", "v_proj"),
        ("self_attn", "linear_1"): ("out_proj",),
        ("encoder_attn", "linear_0"): ("q_proj",),
        ("encoder_attn", "linear_1"): ("k_proj", "v_proj"),
        ("encoder_attn", "linear_2"): ("out_proj",),
    }[attention, part]
    for name, rows in zip(fused, np.split(table, len(fused)), strict=True):
        yield f"{attention}.{name}", rows
