"""Published configurations: every key has a meaning here or is said to have none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from a2p_engine.errors import InputError, ModelError
from a2p_engine.published.config import KEYS, PublishedConfig, read_config
from a2p_engine.retriever.attention import AttentionConfig
from a2p_engine.retriever.head_config import OTHER_KEYS

HEAD = {
    "n_embed": 64,
    "retriever_n_head": 4,
    "attn_pdrop": 0.1,
    "retriever_merge_type": "add",
    "retriever_audio_word_fc": False,
}
INFERENCE = HEAD | {
    "test_files": "/data/test.json",
    "term_bank_path": "/data/bank.json",
    "retriever_path": "/models/head",
    "llm_type": "qwen2-audio",
    "infer_task": "st",
    "audio_lang": "zh",
    "tgt_lang": "en",
    "topk": 50,
    "sample_rate": 16000,
    "num_workers": 0,
}
TRAINING = HEAD | {
    "train_files": "/data/train.json",
    "valid_files": "/data/val.json",
    "audio_lang": "en",
    "tgt_lang": "zh",
    "batch_size": 16,
    "epochs": 3,
    "learning_rate": 2e-4,
    "intial_learning_rate": 1e-6,
    "num_warmup_steps": 40,
    "max_term_banks": 70,
    "pharse_type": False,
    "betas": [0.9, 0.98],
    "seed": 5,
    "wd": 0.02,
    "save_model_steps": 500,
    "drop_last": True,
}


def _config(folder: Path, values: dict[str, Any], **changes: Any) -> PublishedConfig:
    kept = {key: value for key, value in (values | changes).items() if value is not None}
    path = folder / "c.json"
    path.write_text(json.dumps(kept))
    return read_config(path)


def test_every_key_that_is_accepted_has_a_rule() -> None:
    """One list of keys decides what is unknown, the other what it may hold."""
    assert set(KEYS) == OTHER_KEYS


def test_inference_is_mapped(tmp_path: Path) -> None:
    """Task, languages, depth, the model's name and all paths."""
    found = _config(tmp_path, INFERENCE).evaluation()
    assert found.head == AttentionConfig(width=64, heads=4, fc=False, dropout=0.1)
    assert (found.task, found.language, found.target, found.top_k) == ("st", "zh", "en", 50)
    assert found.speech_llm == "qwen2-audio"
    assert (found.data, found.bank) == ("/data/test.json", "/data/bank.json")
    assert found.retriever == "/models/head"


def test_recognition_wants_the_language_that_is_spoken(tmp_path: Path) -> None:
    """Whatever tgt_lang says, also nothing."""
    for target in ("en", None):
        found = _config(tmp_path, INFERENCE, infer_task="asr", tgt_lang=target).evaluation()
        assert (found.language, found.target) == ("zh", "zh")


def test_other_models_and_paths_may_be_missing(tmp_path: Path) -> None:
    """They can be given on the command line."""
    gone = dict.fromkeys(("test_files", "term_bank_path", "retriever_path"))
    found = _config(tmp_path, INFERENCE, **gone, llm_type="qwen-audio").evaluation()
    assert (found.data, found.bank, found.retriever, found.speech_llm) == (None,) * 4


def test_training_is_mapped(tmp_path: Path) -> None:
    """The misspelt keys as well; what no key says is the published code's."""
    found = _config(tmp_path, TRAINING).training()
    rates = found.optimisation
    assert found.head == "a2p"
    assert found.attention == AttentionConfig(width=64, heads=4, fc=False, dropout=0.1)
    assert (rates.epochs, rates.learning_rate, rates.initial_learning_rate) == (3, 2e-4, 1e-6)
    assert (rates.warmup_steps, rates.betas, rates.weight_decay) == (40, (0.9, 0.98), 0.02)
    assert (rates.checkpoint_steps, rates.seed) == (500, 5)
    assert rates.utterances_per_batch == 16
    assert rates.frames_per_batch >= 16 * 30 * 50  # no batch of 16 is split
    asked = found.curriculum
    assert (asked.source, asked.level, asked.terms_per_batch) == ("listed", "word", 70)
    assert (asked.positive_weight, asked.label_smoothing) == (1.0, 0.1)


@pytest.mark.parametrize("key", ["pharse_type", "phrase_type"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_phrases_are_the_second_stage(tmp_path: Path, key: str, language: str) -> None:
    """In either spelling, and where nothing is said."""
    changes = {"pharse_type": None, "audio_lang": language}
    assert _config(tmp_path, TRAINING, **changes).training().curriculum.level == "phrase"
    changes[key] = True
    assert _config(tmp_path, TRAINING, **changes).training().curriculum.level == "phrase"


def test_words_of_chinese_are_refused(tmp_path: Path) -> None:
    """Which key to change is said."""
    with pytest.raises(InputError, match=r"c\.json: Chinese .* phrases only; set pharse_type"):
        _config(tmp_path, TRAINING, audio_lang="zh").training()


def test_two_spellings_must_agree(tmp_path: Path) -> None:
    """Neither wins."""
    with pytest.raises(InputError, match="contradict"):
        _config(tmp_path, TRAINING, phrase_type=True).training()


def test_what_changes_nothing_is_listed(tmp_path: Path) -> None:
    """So that nobody waits for its effect."""
    assert _config(tmp_path, TRAINING).unused == ("drop_last",)
    assert _config(tmp_path, INFERENCE).unused == ("num_workers",)


def test_an_unknown_key_is_an_error(tmp_path: Path) -> None:
    """It is named, and so are those accepted, with their published spelling."""
    with pytest.raises(ModelError, match=r"unknown key 'learning_rat'.*intial_learning_rate"):
        _config(tmp_path, TRAINING, learning_rat=1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("audio_lang", "de"),
        ("tgt_lang", ["en"]),
        ("infer_task", "mt"),
        ("topk", 0),
        ("topk", 10.0),
        ("topk", True),
        ("sample_rate", 8000),
        ("epochs", "3"),
        ("learning_rate", 0),
        ("intial_learning_rate", -1e-7),
        ("num_warmup_steps", -1),
        ("betas", [0.9]),
        ("betas", [0.9, 1.0]),
        ("betas", 0.9),
        ("wd", "no"),
        ("max_term_banks", 0),
        ("pharse_type", "yes"),
        ("train_files", ["a.json"]),
    ],
)
def test_a_bad_value_is_refused(tmp_path: Path, key: str, value: object) -> None:
    """The key, its value and what is accepted are named."""
    with pytest.raises(InputError, match=rf"c\.json: {key} is .*, not {KEYS[key].wanted[:9]}"):
        _config(tmp_path, TRAINING, **{key: value})


@pytest.mark.parametrize("key", ["infer_task", "audio_lang", "topk", "tgt_lang"])
def test_what_inference_needs_is_named(tmp_path: Path, key: str) -> None:
    """A training configuration is no inference configuration."""
    with pytest.raises(InputError, match=f"missing key {key}: "):
        _config(tmp_path, INFERENCE, **{key: None}).evaluation()


@pytest.mark.parametrize(
    "key", ["audio_lang", "epochs", "batch_size", "learning_rate", "max_term_banks"]
)
def test_what_training_needs_is_named(tmp_path: Path, key: str) -> None:
    """Nothing that decides the result is guessed."""
    with pytest.raises(InputError, match=f"missing key {key}: "):
        _config(tmp_path, TRAINING, **{key: None}).training()


def test_translation_needs_two_languages(tmp_path: Path) -> None:
    """Into the language that is spoken is no translation."""
    with pytest.raises(InputError, match="tgt_lang is audio_lang, 'zh'"):
        _config(tmp_path, INFERENCE, tgt_lang="zh").evaluation()


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    """Missing, or not JSON."""
    with pytest.raises(InputError, match=r"none\.json"):
        read_config(tmp_path / "none.json")
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(ModelError, match=r"c\.json is not JSON"):
        read_config(tmp_path / "c.json")
