"""Training configurations: TOML files with one table per part."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from a2p_engine.errors import TrainingError
from a2p_engine.retriever.attention import AttentionConfig
from a2p_engine.retriever.phoneme_ctc import CTCConfig


@dataclass(frozen=True, kw_only=True)
class OptimisationConfig:
    """How long and how fast.

    Attributes:
        epochs: passes over the data.
        frames_per_batch: bound of a batch's frames (50 a second), padding included.
        utterances_per_batch: bound of a batch's utterances; None leaves it to their frames.
        learning_rate: the highest; a linear warm-up leads to it and a cosine away from it.
        initial_learning_rate: where the warm-up begins.
        warmup: share of all steps that rise.
        warmup_steps: how many rise, instead of ``warmup``.
        betas: of AdamW.
        weight_decay: of AdamW.
        clip_norm: largest norm of a gradient.
        checkpoint_steps: steps between checkpoints.
        seed: fixes order, dropout and negatives.
    """

    epochs: int
    frames_per_batch: int = 8_000
    utterances_per_batch: int | None = None
    learning_rate: float = 1e-3
    initial_learning_rate: float = 0.0
    warmup: float = 0.05
    warmup_steps: int | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    checkpoint_steps: int = 200
    seed: int = 7


@dataclass(frozen=True, kw_only=True)
class CurriculumConfig:
    """What the A2P head is asked about.

    Attributes:
        source: ``text`` draws terms from what was said, as the next five say; ``listed`` takes
            those that the data list for each utterance, as the published recipe does.
        phrase_from: share of the training after which terms may have several words.
        phrase_share: share of phrases among the terms from then on.
        terms_per_utterance: terms drawn from each utterance.
        rare_negatives: unspoken words added to each batch.
        positive_weight: weight of a spoken term against an unspoken one in the loss.
        guide_until: share of the training over which guidance of the attention fades out.
        level: of listed terms: single words as they are, or phrases that begin with them.
        terms_per_batch: most listed terms a batch is asked about.
        label_smoothing: share of certainty taken from the labels of listed terms.
    """

    source: Literal["text", "listed"] = "text"
    phrase_from: float = 0.3
    phrase_share: float = 0.35
    terms_per_utterance: int = 6
    rare_negatives: int = 200
    positive_weight: float = 10.0
    guide_until: float = 0.6
    level: Literal["word", "phrase"] = "phrase"
    terms_per_batch: int = 100
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.source not in ("text", "listed"):
            raise ValueError(f"source must be 'text' or 'listed', not {self.source!r}")
        if self.level not in ("word", "phrase"):
            raise ValueError(f"level must be 'word' or 'phrase', not {self.level!r}")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A whole run.

    Attributes:
        head: ``phoneme_ctc`` or ``a2p``.
        optimisation: how long and how fast.
        ctc: shape of the phoneme head.
        attention: shape of the A2P head.
        curriculum: what the A2P head is asked about.
    """

    head: Literal["phoneme_ctc", "a2p"]
    optimisation: OptimisationConfig
    ctc: CTCConfig = field(default_factory=CTCConfig)
    attention: AttentionConfig = field(
        default_factory=lambda: AttentionConfig(width=512, heads=8, dropout=0.0)
    )
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)


_TABLES: dict[str, type] = {
    "optimisation": OptimisationConfig,
    "ctc": CTCConfig,
    "attention": AttentionConfig,
    "curriculum": CurriculumConfig,
}


def load_config(path: Path) -> TrainingConfig:
    """Read a TOML configuration.

    Raises:
        TrainingError: it cannot be read, or a key is unknown, missing or of no use; the text
            names the key.
    """
    try:
        record = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrainingError(f"cannot read configuration {path}: {error}") from error
    head = record.pop("head", None)
    if head not in ("phoneme_ctc", "a2p"):
        raise TrainingError(f"{path}: head must be 'phoneme_ctc' or 'a2p', not {head!r}")
    tables = {name: _table(path, name, value) for name, value in record.items()}
    if "optimisation" not in tables:
        raise TrainingError(f"{path}: the table [optimisation] is missing")
    return TrainingConfig(head=head, **tables)


def _table(path: Path, name: str, values: Any) -> Any:
    if name not in _TABLES or not isinstance(values, dict):
        raise TrainingError(f"{path}: unknown key {name!r}")
    known = {field.name for field in fields(_TABLES[name])}
    if unknown := sorted(set(values) - known):
        raise TrainingError(f"{path}: unknown key {name}.{unknown[0]}")
    try:
        return _TABLES[name](**values)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"{path}: table [{name}]: {error}") from error
