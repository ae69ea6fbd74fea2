"""The two published JSON configurations, of training and of inference, in our terms.

One table says of every key what it may hold and what becomes of it. Keys that are misspelt there
(``pharse_type``, ``intial_learning_rate``) are accepted as they are. An unknown key is an error.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from a2p_engine.errors import InputError
from a2p_engine.published.data import LANGUAGES, Language
from a2p_engine.retriever.attention import AttentionConfig
from a2p_engine.retriever.head_config import read_published
from a2p_engine.training.config import CurriculumConfig, OptimisationConfig, TrainingConfig

InferTask = Literal["asr", "st"]
# 30 s at 50 a second, the most there are: a batch is bounded by its utterances alone.
FRAMES_PER_UTTERANCE = 1500
SPEECH_LLMS = {"qwen2-audio": "qwen2-audio"}
# The published loss smooths labels by so much; no key says it.
LABEL_SMOOTHING = 0.1


class Key(NamedTuple):
    """What a key may hold, and what becomes of it."""

    accepts: Callable[[Any], bool]
    wanted: str
    use: str


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and type(value) is not bool


def _whole(least: int, use: str) -> Key:
    wanted = f"a whole number from {least} on"
    return Key(lambda value: type(value) is int and value >= least, wanted, use)


def _positive(use: str) -> Key:
    return Key(lambda value: _is_number(value) and value > 0, "a number greater than 0", use)


def _one_of(*choices: str | int, use: str) -> Key:
    return Key(lambda value: value in choices, " or ".join(map(repr, choices)), use)


def _path(use: str) -> Key:
    return Key(lambda value: isinstance(value, str), "a path", use)


def _switch(use: str) -> Key:
    return Key(lambda value: type(value) is bool, "true or false", use)


_UNUSED = Key(lambda _: True, "anything", "not used")

# The shape of the head is read by head_config; these are all other keys.
KEYS: dict[str, Key] = {
    "audio_lang": _one_of(*LANGUAGES, use="language of audio, hints and text"),
    "tgt_lang": _one_of(*LANGUAGES, use="language of the translation"),
    "infer_task": _one_of("asr", "st", use="task: transcribe or translate"),
    "topk": _whole(1, "terms retrieved and told to the speech LLM"),
    "test_files": _path("the set that is evaluated"),
    "term_bank_path": _path("the term bank that is searched"),
    "retriever_path": _path("the trained head, as torch.save wrote it"),
    "llm_type": Key(lambda value: isinstance(value, str), "a name", "speech_llm"),
    "train_files": _path("data of `a2p frames`"),
    "valid_files": _path("data of `a2p frames`"),
    "epochs": _whole(1, "optimisation.epochs"),
    "batch_size": _whole(1, "optimisation.utterances_per_batch"),
    "learning_rate": _positive("optimisation.learning_rate"),
    "intial_learning_rate": Key(
        lambda value: _is_number(value) and value >= 0,
        "a number from 0 on",
        "optimisation.initial_learning_rate",
    ),
    "num_warmup_steps": _whole(0, "optimisation.warmup_steps"),
    "betas": Key(
        lambda value: (
            isinstance(value, list)
            and len(value) == 2
            and all(_is_number(beta) and 0 <= beta < 1 for beta in value)
        ),
        "two numbers from 0 to less than 1",
        "optimisation.betas",
    ),
    "wd": Key(
        lambda value: _is_number(value) and value >= 0,
        "a number from 0 on",
        "optimisation.weight_decay",
    ),
    "seed": _whole(0, "optimisation.seed"),
    "save_model_steps": _whole(1, "optimisation.checkpoint_steps"),
    "max_term_banks": _whole(1, "curriculum.terms_per_batch"),
    "pharse_type": _switch("curriculum.level: phrases if true, words if false"),
    "phrase_type": _switch("the same, spelt right"),
    "sample_rate": _one_of(16_000, use="checked: audio is resampled to it"),
    **dict.fromkeys(
        (
            *("results_folder", "qwen_path", "llm_path", "audio_encoder_path", "retriever_ans"),
            *("audio_projector_path", "model_embedding_path", "pretrained_model"),
            *("split_batches", "drop_last", "num_workers", "log_steps", "stdout_steps"),
            *("num_ckpt_keep", "showpiece_num"),
        ),
        _UNUSED,
    ),
}


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What a published inference configuration asks for.

    Attributes:
        head: shape of the A2P head.
        task: transcribe or translate, in the published words.
        language: what is spoken.
        target: language of the text that is wanted; ``language`` for ``asr``.
        top_k: terms retrieved.
        speech_llm: name of ours for ``llm_type``, None where there is none.
        data: published path of the set, None if it is not named; so are the next two.
        bank: of the term bank.
        retriever: of the trained head.
    """

    head: AttentionConfig
    task: InferTask
    language: Language
    target: Language
    top_k: int
    speech_llm: str | None
    data: str | None
    bank: str | None
    retriever: str | None


@dataclass(frozen=True, kw_only=True)
class PublishedConfig:
    """A configuration that was read and checked.

    Attributes:
        source: the file.
        head: shape of the A2P head.
        values: all other keys.
    """

    source: Path
    head: AttentionConfig
    values: Mapping[str, Any]

    @property
    def unused(self) -> tuple[str, ...]:
        """Keys that change nothing here."""
        return tuple(sorted(key for key in self.values if KEYS[key] is _UNUSED))

    def evaluation(self) -> EvaluationConfig:
        """What it says about inference.

        Raises:
            InputError: a key that is needed is missing, or two do not go together.
        """
        said = self.values
        task, language = self._needed("infer_task"), self._needed("audio_lang")
        target = self._needed("tgt_lang") if task == "st" else language
        if task == "st" and target == language:
            raise InputError(f"{self.source}: tgt_lang is audio_lang, {language!r}; 'st' needs two")
        return EvaluationConfig(
            head=self.head,
            task=task,
            language=language,
            target=target,
            top_k=self._needed("topk"),
            speech_llm=SPEECH_LLMS.get(said.get("llm_type", "")),
            data=said.get("test_files") or None,
            bank=said.get("term_bank_path") or None,
            retriever=said.get("retriever_path") or None,
        )

    def training(self) -> TrainingConfig:
        """What it says about training, as our training takes it.

        Raises:
            InputError: a key that is needed is missing, or words are asked of Chinese.
        """
        said, needed = self.values, self._needed
        level: Literal["word", "phrase"] = "phrase" if self._phrases() else "word"
        check_level(needed("audio_lang"), level, str(self.source))
        usual = OptimisationConfig(epochs=needed("epochs"))
        return TrainingConfig(
            head="a2p",
            attention=self.head,
            optimisation=replace(
                usual,
                frames_per_batch=needed("batch_size") * FRAMES_PER_UTTERANCE,
                utterances_per_batch=needed("batch_size"),
                learning_rate=float(needed("learning_rate")),
                initial_learning_rate=float(said.get("intial_learning_rate", 0.0)),
                warmup_steps=said.get("num_warmup_steps", 0),
                betas=tuple(said.get("betas", usual.betas)),
                weight_decay=float(said.get("wd", usual.weight_decay)),
                checkpoint_steps=said.get("save_model_steps", usual.checkpoint_steps),
                seed=said.get("seed", usual.seed),
            ),
            curriculum=CurriculumConfig(
                source="listed",
                level=level,
                terms_per_batch=needed("max_term_banks"),
                positive_weight=1.0,
                label_smoothing=LABEL_SMOOTHING,
            ),
        )

    def _needed(self, key: str) -> Any:
        if key not in self.values:
            raise InputError(f"{self.source}: missing key {key}: {KEYS[key].wanted}")
        return self.values[key]

    def _phrases(self) -> bool:
        said = {self.values[key] for key in ("pharse_type", "phrase_type") if key in self.values}
        if len(said) > 1:
            raise InputError(f"{self.source}: pharse_type and phrase_type contradict each other")
        # The published code makes phrases whatever the key says, also without it.
        return said.pop() if said else True


def check_level(language: str, level: Literal["word", "phrase"], where: str) -> None:
    """Refuse what means nothing.

    Raises:
        InputError: words of Chinese, which are single characters in the published data.
    """
    if language == "zh" and level == "word":
        raise InputError(f"{where}: Chinese is trained with phrases only; set pharse_type to true")


def read_config(path: Path) -> PublishedConfig:
    """Read a published configuration.

    Raises:
        InputError: it cannot be read, or a value is not accepted.
        ModelError: a key is unknown, or the shape of the head is missing or wrong; keys and what
            is accepted are named.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    head = read_published(text, str(path))
    values = {key: value for key, value in json.loads(text).items() if key in KEYS}
    for key, value in values.items():
        if not KEYS[key].accepts(value):
            said = reprlib.repr(value)
            raise InputError(f"{path}: {key} is {said}, not {KEYS[key].wanted}")
    return PublishedConfig(source=path, head=head, values=values)
