"""The shape of an A2P head as JSON: in our files, and in the configurations published with one.

A published configuration (arXiv 2508.18701) sets up data, training and inference as well. Its keys
are known here, so that a misspelt one is noticed.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

from a2p_engine.errors import ModelError
from a2p_engine.retriever.attention import AttentionConfig

# Far above any speech model, and low enough for sizes of tensors to be computed.
MAX_WIDTH = 1 << 16

# Fields of AttentionConfig and how published configurations call them.
_PUBLISHED = {
    "width": "n_embed",
    "heads": "retriever_n_head",
    "merge": "retriever_merge_type",
    "fc": "retriever_audio_word_fc",
    "dropout": "attn_pdrop",
}
_OWN = {field: field for field in _PUBLISHED}
_OPTIONAL = {"dropout"}  # matters to training alone

# What published configurations say besides, in the spelling of the code that reads them.
OTHER_KEYS = frozenset(
    {
        *("train_files", "valid_files", "test_files", "results_folder", "term_bank_path"),
        *("llm_type", "llm_path", "qwen_path", "retriever_path", "retriever_ans"),
        *("audio_encoder_path", "audio_projector_path", "model_embedding_path"),
        *("pretrained_model", "infer_task", "audio_lang", "tgt_lang", "topk", "sample_rate"),
        *("max_term_banks", "pharse_type", "phrase_type", "batch_size", "split_batches"),
        *("drop_last", "num_workers", "epochs", "learning_rate", "intial_learning_rate"),
        *("num_warmup_steps", "betas", "wd", "seed", "log_steps", "stdout_steps"),
        *("save_model_steps", "num_ckpt_keep", "showpiece_num"),
    }
)


def read_own(text: str, source: str) -> AttentionConfig:
    """Shape of the head from the metadata of one of our files.

    Args:
        text: JSON of the fields of ``AttentionConfig``.
        source: where it was, for errors.

    Raises:
        ModelError: unreadable, or a key is unknown, missing or of a wrong type.
    """
    return _parse(text, source, _OWN)


def read_published(text: str, source: str) -> AttentionConfig:
    """Shape of the head from a published configuration.

    Args:
        text: JSON; what it says about data, training and inference is ignored.
        source: where it was, for errors.

    Raises:
        ModelError: unreadable, or a key is unknown, missing or of a wrong type.
    """
    return _parse(text, source, _PUBLISHED, OTHER_KEYS)


def _is_count(value: object) -> bool:
    return type(value) is int and 1 <= value <= MAX_WIDTH


def _is_share(value: object) -> bool:
    return isinstance(value, (int, float)) and type(value) is not bool and 0 <= value < 1


_COUNT = (_is_count, f"a whole number from 1 to {MAX_WIDTH}")
_RULES: dict[str, tuple[Callable[[object], bool], str]] = {
    "width": _COUNT,
    "heads": _COUNT,
    "merge": (lambda value: value in ("add", "fc"), "'add' or 'fc'"),
    "fc": (lambda value: type(value) is bool, "true or false"),
    "dropout": (_is_share, "a number from 0 to less than 1"),
}


def _parse(
    text: str, source: str, keys: Mapping[str, str], ignored: frozenset[str] = frozenset()
) -> AttentionConfig:
    values = _json_object(text, source)
    _check_keys(values, source, keys, ignored)
    fields = {field: values[key] for field, key in keys.items() if key in values}
    for field, value in fields.items():
        accepts, wanted = _RULES[field]
        if not accepts(value):
            raise ModelError(f"{source}: {keys[field]} is {reprlib.repr(value)}, not {wanted}")
    try:
        return AttentionConfig(**fields)
    except ValueError as error:
        said = ", ".join(f"{keys[field]}: {value!r}" for field, value in fields.items())
        raise ModelError(f"{source}: {error} ({said})") from error


def _json_object(text: str, source: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{source} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{source} is not a JSON object of keys and values")
    return values


def _check_keys(
    values: Mapping[str, object], source: str, keys: Mapping[str, str], ignored: frozenset[str]
) -> None:
    if unknown := sorted(values.keys() - keys.values() - ignored):
        accepted = ", ".join([*keys.values(), *sorted(ignored)])
        named = reprlib.repr(unknown).strip("[]")
        raise ModelError(f"{source}: unknown key {named}; accepted are {accepted}")
    required = [key for field, key in keys.items() if field not in _OPTIONAL]
    if missing := [key for key in required if key not in values]:
        raise ModelError(f"{source}: missing key {', '.join(missing)}")
