"""What a speech LLM will need: memory and arithmetic, before anything is loaded.

The model is built on torch's device ``meta``, where tensors have shapes and no numbers. Parameters
are counted there, and the arithmetic of a tick by running its steps under torch's counter of
floating-point operations: matrix products and convolutions, as they will run on a real device.

Notation: B sessions, T audio frames, V distinct tokens of a glossary, N terms, H heads, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache, PreTrainedModel

from a2p_engine.bench.cost import step_cost
from a2p_engine.bench.presets import Preset
from a2p_engine.encoders.base import LOOK_AHEAD_S
from a2p_engine.errors import InputError
from a2p_engine.speech_llm.shapes import Shape

# Text of a tick around the audio, and what an answer adds to what is committed; see docs/models.md.
BEFORE_TOKENS = 24
QUESTION_TOKENS = 90
NEW_TOKENS = 16
TICK_FRAMES = 13  # half a second of new audio of Qwen2-Audio
TOKENS_PER_TERM = 3
# Four bits and one float32 scale for 64 numbers.
BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "4bit": 0.5 + 4 / 64}
ACTIVE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "4bit": 2}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one process will need.

    Attributes:
        name: of the model.
        dtype: of its weights.
        sessions: B, each with an open segment.
        terms: N of the glossary that all share.
        window_s: audio of each open segment.
        parameters: numbers of each part: encoder, embeddings, layers, head.
        memory_bytes: weights, cache of keys and values, glossary, scorer.
        flop: of one session's tick: encode, score, prefill, decode; what is settled of the audio
            was read before.
        final_flop: of a tick that reads all of the audio, as a final does.
    """

    name: str
    dtype: str
    sessions: int
    terms: int
    window_s: float
    parameters: dict[str, int]
    memory_bytes: dict[str, int]
    flop: dict[str, int]
    final_flop: int

    @property
    def total_parameters(self) -> int:
        """Numbers of the whole model."""
        return sum(self.parameters.values())

    @property
    def total_bytes(self) -> int:
        """Memory of all that is counted."""
        return sum(self.memory_bytes.values())

    @property
    def tick_flop(self) -> int:
        """Arithmetic of one tick of all sessions."""
        return self.sessions * sum(self.flop.values())

    def json(self) -> dict[str, Any]:
        """All of it, sums included."""
        sums = {
            "total_parameters": self.total_parameters,
            "total_bytes": self.total_bytes,
            "tick_flop": self.tick_flop,
        }
        return asdict(self) | sums


def plan(
    shape: Shape,
    *,
    sessions: int = 1,
    terms: int = 10_000,
    dtype: str = "bfloat16",
    window_s: float = 10.0,
) -> Plan:
    """Count what a model needs.

    Args:
        shape: the model.
        sessions: open at the same time.
        terms: of the glossary.
        dtype: one of ``BYTES``.
        window_s: length of an open segment.

    Raises:
        InputError: an argument cannot be planned for.
    """
    if dtype not in BYTES:
        raise InputError(f"dtype {dtype!r}: accepted are {', '.join(BYTES)}")
    if sessions < 1 or terms < 0 or not 0 < window_s <= 30:
        raise InputError("sessions from 1, terms from 0, windows up to 30 s can be planned for")
    model = shape.build()
    frames = round(window_s * shape.frames_per_s)
    parameters = count_parameters(model, shape)
    settled = settled_rows(frames, shape.frames_per_s)
    preset = head_of(shape, model)
    tokens = min(preset.vocabulary, TOKENS_PER_TERM * terms)
    flop = {
        "encode": encode_flop(model, shape, frames),
        "score": step_cost(
            preset,
            tokens=tokens,
            query_bytes=2,
            entries=TOKENS_PER_TERM * terms,
            terms=terms,
            sessions=1,
            frames=-(-shape.frames_per_s // 2),
        ).flop,
        "prefill": shape.readings * read_flop(model, BEFORE_TOKENS + settled, frames - settled),
        "decode": read_flop(model, BEFORE_TOKENS + frames, QUESTION_TOKENS, heads=1)
        + NEW_TOKENS * read_flop(model, BEFORE_TOKENS + frames + QUESTION_TOKENS, 1, heads=1),
    }
    whole = shape.readings * read_flop(model, BEFORE_TOKENS, frames)
    return Plan(
        name=shape.name,
        dtype=dtype,
        sessions=sessions,
        terms=terms,
        window_s=window_s,
        parameters=parameters,
        memory_bytes=_memory(
            model, parameters, preset, dtype, sessions, terms, tokens, shape.readings, frames
        ),
        flop=flop,
        final_flop=sum(flop.values()) - flop["prefill"] + whole,
    )


def settled_rows(frames: int, frames_per_s: int) -> int:
    """Rows of a window that its tick half a second ago has settled."""
    return max(0, frames - -(-frames_per_s // 2) - LOOK_AHEAD_S * frames_per_s)


def count_parameters(model: Any, shape: Shape) -> dict[str, int]:
    """Numbers of each part; tied ones are counted once, as embeddings."""
    counts = {
        "encoder": sum(_count(model.get_submodule(part)) for part in shape.encoder_parts),
        "embeddings": _count(model.get_input_embeddings()),
    }
    whole = _count(model)
    head = model.get_output_embeddings().weight
    tied = head is model.get_input_embeddings().weight
    counts["head"] = 0 if tied else head.numel()
    return counts | {"layers": whole - sum(counts.values())}


def _count(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def head_of(shape: Shape, model: Any) -> Preset:
    """Shape of an A2P head on this model's frames and token table."""
    vocabulary, width = model.get_input_embeddings().weight.shape
    return Preset(name=shape.name, width=width, heads=shape.heads, vocabulary=vocabulary)


def cache_token_bytes(model: Any, element_bytes: int) -> int:
    """Keys and values of one position, in all layers."""
    text = model.config.get_text_config(decoder=True)
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(2 * text.num_hidden_layers * text.num_key_value_heads * width * element_bytes)


def _memory(
    model: Any,
    parameters: dict[str, int],
    preset: Preset,
    dtype: str,
    sessions: int,
    terms: int,
    tokens: int,
    readings: int,
    frames: int,
) -> dict[str, int]:
    active = ACTIVE_BYTES[dtype]
    whole = sum(parameters.values()) - parameters["layers"]
    read = BEFORE_TOKENS + frames
    # Of the tick before, kept for a second decoding, and in the batch.
    rows = (1 + 2 * readings) * read + QUESTION_TOKENS + NEW_TOKENS
    return {
        "weights": int(parameters["layers"] * BYTES[dtype]) + whole * active,
        "cache": sessions * rows * cache_token_bytes(model, active),
        # The table of queries in half precision; token ids, offsets and biases of the terms.
        "glossary": tokens * preset.width * 2 + terms * (TOKENS_PER_TERM * 4 + 80),
        # Two float32 per token and head, gains and scores of each session.
        "scorer": sessions * (tokens * preset.heads * 8 + 4 * (tokens + terms)),
    }


def encode_flop(model: Any, shape: Shape, frames: int) -> int:
    """Of one window through the encoder."""
    return _flop(lambda: shape.encode(model, frames))


def read_flop(model: Any, past: int, new: int, heads: int = 0) -> int:
    """Of some positions through the language model.

    Args:
        model: on the device ``meta``.
        past: positions read before.
        new: positions read now.
        heads: of them, those whose next token is looked for.
    """
    decoder: Any = model.get_decoder()
    width = model.get_input_embeddings().weight.shape[1]
    empty = torch.empty(1, past + new, width, device="meta", dtype=_dtype(model))
    cache = DynamicCache()
    if past:
        decoder(inputs_embeds=empty[:, :past], past_key_values=cache, use_cache=True)

    def read() -> None:
        found = decoder(inputs_embeds=empty[:, past:], past_key_values=cache, use_cache=True)
        model.get_output_embeddings()(found.last_hidden_state[:, :heads])

    return _flop(read)


def _dtype(model: PreTrainedModel) -> torch.dtype:
    return next(model.parameters()).dtype


@torch.inference_mode()
def _flop(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())
