"""Configurations of the A2P head: what is read, what is ignored, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from a2p_engine.errors import ModelError
from a2p_engine.retriever.attention import AttentionConfig
from a2p_engine.retriever.head_config import OTHER_KEYS, read_own, read_published

SHAPE: dict[str, Any] = {
    "n_embed": 4096,
    "retriever_n_head": 32,
    "attn_pdrop": 0.1,
    "retriever_merge_type": "add",
    "retriever_audio_word_fc": False,
}


def _error(**changes: object) -> str:
    with pytest.raises(ModelError) as caught:
        read_published(json.dumps(SHAPE | changes), "infer_config.json")
    assert "infer_config.json" in str(caught.value)
    return str(caught.value)


def test_the_shape_is_read_and_the_rest_ignored() -> None:
    """Keys about data, training and inference may have any value."""
    text = json.dumps(SHAPE | {key: [None] for key in OTHER_KEYS})
    expected = AttentionConfig(width=4096, heads=32, merge="add", fc=False, dropout=0.1)
    assert read_published(text, "c.json") == expected


def test_dropout_need_not_be_said() -> None:
    """Serving does without it."""
    text = json.dumps({key: value for key, value in SHAPE.items() if key != "attn_pdrop"})
    assert read_published(text, "c.json").dropout == 0.0


def test_an_unknown_key_is_named_with_those_accepted() -> None:
    """A misspelt key is an error, also when another one of the same meaning is there."""
    message = _error(n_embd=4096)
    assert "unknown key 'n_embd'" in message
    for key in (*SHAPE, "pharse_type", "intial_learning_rate", "topk"):
        assert key in message


@pytest.mark.parametrize("key", [key for key in SHAPE if key != "attn_pdrop"])
def test_a_missing_key_is_named(key: str) -> None:
    """Nothing about the shape is guessed."""
    text = json.dumps({name: value for name, value in SHAPE.items() if name != key})
    with pytest.raises(ModelError, match=rf"c\.json: missing key {key}$"):
        read_published(text, "c.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("n_embed", value) for value in ("4096", 4096.0, True, 0, -8, None, 1 << 40)),
        *(("retriever_n_head", value) for value in ([32], 0, False)),
        *(("retriever_merge_type", value) for value in ("concat", "", None, ["add"])),
        *(("retriever_audio_word_fc", value) for value in (1, "false", None)),
        *(("attn_pdrop", value) for value in ("0.1", True, 1, -0.1, float("nan"))),
    ],
)
def test_a_wrong_value_is_named_with_its_key(key: str, value: object) -> None:
    """Types are not bent, sizes are positive, choices are those there are."""
    assert f"{key} is {value!r}, not " in _error(**{key: value})


def test_heads_must_divide_the_width() -> None:
    """The values and the names that the file gives them are said."""
    message = _error(retriever_n_head=33)
    assert "not a multiple" in message
    assert "n_embed: 4096, retriever_n_head: 33" in message


def test_concatenation_needs_the_layer_behind_it() -> None:
    """Merge type fc without audio_word_fc is no head."""
    message = _error(retriever_merge_type="fc")
    assert "retriever_merge_type: 'fc', retriever_audio_word_fc: False" in message


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 100_000, "n_embed = 4"])
def test_other_texts_are_refused(text: str) -> None:
    """What is not a JSON object names the file."""
    with pytest.raises(ModelError, match=r"^c\.json is not "):
        read_published(text, "c.json")


def test_our_own_files_use_the_names_of_the_fields() -> None:
    """Published names are unknown keys there."""
    text = '{"width": 8, "heads": 2, "merge": "fc", "fc": true, "dropout": 0.0}'
    assert read_own(text, "x") == AttentionConfig(width=8, heads=2, merge="fc", fc=True)
    with pytest.raises(ModelError, match="x: unknown key 'attn_pdrop'"):
        read_own(json.dumps(SHAPE), "x")
