"""What to evaluate in the published way, and the files that it names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from a2p_engine.encoders import Device
from a2p_engine.engine import WEIGHTS
from a2p_engine.errors import InputError, ModelError
from a2p_engine.published.config import EvaluationConfig, PublishedConfig
from a2p_engine.published.data import Entry, Moved, TermBank, place, read_bank, read_entries
from a2p_engine.retriever.attention import AttentionRetriever
from a2p_engine.retriever.checkpoints import load_head, load_published
from a2p_engine.speech_llm import SpeechLLM

PromptKind = Literal["none", "retrieved", "said"]
PROMPTS: tuple[PromptKind, ...] = get_args(PromptKind)
HEAD_FILE = "a2p_head.safetensors"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to evaluate.

    Attributes:
        config: the published configuration.
        data: the set; None takes the configuration's, as the next three do.
        bank: the term bank.
        retriever: directory with a head of ours, or a file of ours or as published.
        speech_llm: name of the speech LLM.
        device: where the models run.
        prompts: what the speech LLM is told, of each in turn; where empty, it writes nothing.
        moved: where files lie that the set and the configuration name.
        limit: only so many utterances.
        dump: file for one JSON line an utterance.
    """

    config: PublishedConfig
    data: Path | None = None
    bank: Path | None = None
    retriever: Path | None = None
    speech_llm: str | None = None
    device: Device = "auto"
    prompts: tuple[PromptKind, ...] = ("none", "retrieved")
    moved: Sequence[Moved] = ()
    limit: int | None = None
    dump: Path | None = None


def parse_prompts(text: str) -> tuple[PromptKind, ...]:
    """Kinds of prompts, separated by commas; an empty text is none at all.

    Raises:
        InputError: one is unknown.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in PROMPTS]:
        raise InputError(f"unknown prompt {unknown[0]!r}; accepted are {', '.join(PROMPTS)}")
    return tuple(kind for kind in PROMPTS if kind in names)


def read(request: Request, asked: EvaluationConfig) -> tuple[list[Entry], TermBank]:
    """The set and the term bank.

    Raises:
        InputError: one cannot be read, or none is named.
    """
    languages = tuple(dict.fromkeys((asked.language, asked.target)))
    data = _file(request, request.data, asked.data, "test_files", "--data")
    bank = _file(request, request.bank, asked.bank, "term_bank_path", "--terms")
    return read_entries(data, languages, request.moved)[: request.limit], read_bank(bank, languages)


def _file(request: Request, given: Path | None, said: str | None, key: str, option: str) -> Path:
    if given is not None:
        return given
    source = request.config.source
    if said is None:
        raise InputError(f"{source} has no {key}; give {option}")
    return place(said, source.parent, request.moved)


def head_of(
    request: Request, asked: EvaluationConfig, speech_llm: SpeechLLM
) -> tuple[AttentionRetriever, bool]:
    """The head, and whether it is a published checkpoint.

    Raises:
        ModelError: there is none, or it is damaged or of another shape.
    """
    path = request.retriever
    # The configuration's head is for its own speech LLM.
    if path is None and asked.retriever and request.speech_llm in (None, asked.speech_llm):
        path = place(asked.retriever, request.config.source.parent, request.moved)
        if not path.exists():
            raise ModelError(f"{request.config.source}: there is no {path}; give --retriever")
    if path is None:
        if asked.language not in speech_llm.retriever_languages or not speech_llm.retriever_weights:
            raise ModelError(
                f"no retriever is shipped for {speech_llm.name} and {asked.language!r}: --retriever"
            )
        path = WEIGHTS / speech_llm.retriever_weights
    if path.is_dir():
        path = path / HEAD_FILE
    if path.suffix == ".safetensors":
        return load_head(path), False
    config, state = load_published(path, request.config.source)
    with torch.device("meta"):
        module = AttentionRetriever(config)
    module.load_state_dict({name: t.float() for name, t in state.items()}, assign=True)
    return module.eval(), True
