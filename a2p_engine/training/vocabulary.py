"""The tokens that an A2P head is asked about: a speech LLM's token table and how it cuts terms."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor

from a2p_engine.encoders.whisper_tables import token_embeddings
from a2p_engine.errors import ModelError


class Vocabulary(NamedTuple):
    """Of one speech LLM.

    Attributes:
        table: token embeddings, float32 [V, D].
        token_ids: tokens of a term.
    """

    table: Tensor
    token_ids: Callable[[str], tuple[int, ...]]


def load_vocabulary(model: Path) -> Vocabulary:
    """Read a model's token embeddings and tokenizer.

    Whisper's terms begin with a blank. Qwen2-Audio's do not, in the published training as here.

    Args:
        model: directory of Whisper in CTranslate2's form, or of a split Qwen2-Audio; with
            tokenizer.json.

    Raises:
        ModelError: the files cannot be read.
    """
    split = (model / "embedding.safetensors").exists()
    if split:
        from a2p_engine.training.split_qwen2_audio import load_embedding

        table = load_embedding(model)
    else:
        table = torch.from_numpy(token_embeddings(model))
    try:
        tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    except Exception as error:  # the library raises nothing more special
        raise ModelError(f"cannot read {model / 'tokenizer.json'}: {error}") from error
    blank = "" if split else " "

    @lru_cache(maxsize=500_000)
    def token_ids(term: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(f"{blank}{term}", add_special_tokens=False).ids)

    return Vocabulary(table, token_ids)
