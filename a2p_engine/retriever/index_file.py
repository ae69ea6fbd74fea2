"""Glossaries indexed once and mapped into memory ever after.

An index file is a safetensors file with the columns of one section: terms, tokens of their
spellings, pronunciations. Tokens and phonemes mean something only beside the vocabulary they are
of, so the file names both and is refused by another. Queries are not in it: they come from the
token table, which all glossaries share.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from a2p_engine.errors import GlossaryError
from a2p_engine.retriever.glossary_index import GlossaryIndex, Section
from a2p_engine.retriever.spotter import PhoneIndex
from a2p_engine.retriever.term_table import Strings, TermTable
from a2p_engine.retriever.token_table import TokenTable

FORMAT = "a2p-glossary-1"


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What an index is made for.

    Attributes:
        speech_llm: name of the speech LLM whose tokens are used.
        tokens: size of its vocabulary.
        phonemes: symbols of the phoneme head.
    """

    speech_llm: str
    tokens: int
    phonemes: tuple[str, ...]

    def as_json(self) -> str:
        """One line, the same for equal vocabularies."""
        return json.dumps([FORMAT, self.speech_llm, self.tokens, list(self.phonemes)])


def save(section: Section, path: Path, vocabulary: Vocabulary) -> None:
    """Write a section; a file that is there is replaced when the new one is complete.

    Raises:
        GlossaryError: the file cannot be written.
    """
    columns: dict[str, npt.NDArray[Any]] = {
        "terms.weights": section.terms.weights,
        "terms.enabled": section.terms.enabled,
        "terms.hashes": section.terms.hashes.view(np.int32),
        "terms.hashed": section.terms.hashed,
        "tokens": section.token_ids,
        "tokens.offsets": section.offsets.cpu().numpy(),
        "phonemes": section.phones.symbols.astype(np.uint8),
        "phonemes.lengths": section.phones.lengths,
        "phonemes.term_of": section.phones.term_of,
    }
    if section.spellings is not None:
        columns["spellings"] = section.spellings
    for name, strings in _strings(section.terms).items():
        columns[f"terms.{name}"], columns[f"terms.{name}.offsets"] = strings.data, strings.offsets
    tensors = {name: torch.from_numpy(np.array(column)) for name, column in columns.items()}
    part = path.with_name(path.name + ".part")
    try:
        save_file(tensors, part, {"vocabulary": vocabulary.as_json()})
        part.chmod(0o644)
        part.replace(path)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        raise GlossaryError(f"cannot write index {path}: {error}") from error


def load(path: Path, table: TokenTable, vocabulary: Vocabulary) -> GlossaryIndex:
    """Map a file that ``save`` wrote.

    Raises:
        GlossaryError: the file is missing, damaged or made for another vocabulary.
    """
    try:
        with safe_open(path, "pt") as file:
            found = (file.metadata() or {}).get("vocabulary", "")
            if found != vocabulary.as_json():
                raise GlossaryError(f"index {path} {_misfit(found, vocabulary)}; make it again")
            columns = {name: file.get_tensor(name).numpy() for name in file.keys()}
        section = _section(columns, table, len(vocabulary.phonemes))
    except (OSError, KeyError, IndexError, ValueError, SafetensorError) as error:
        raise GlossaryError(f"cannot read index {path}: {error}") from error
    return GlossaryIndex.of(section)


def _section(columns: dict[str, npt.NDArray[Any]], table: TokenTable, phonemes: int) -> Section:
    """A section of columns that fit together; compiled loops would read beyond others."""
    terms = TermTable(
        **{
            name: Strings(columns[f"terms.{name}"], columns[f"terms.{name}.offsets"])
            for name in ("texts", "forms", "targets")
        },
        weights=columns["terms.weights"],
        enabled=columns["terms.enabled"],
        hashes=columns["terms.hashes"].view(np.uint32),
        hashed=columns["terms.hashed"],
    )
    phones = PhoneIndex.packed(
        columns["phonemes"], columns["phonemes.lengths"], columns["phonemes.term_of"]
    )
    offsets, spellings = columns["tokens.offsets"], columns.get("spellings")
    forms = len(terms) if spellings is None else int(spellings[-1])
    whole = {
        **{
            f"terms.{name}.offsets": len(strings) == len(terms) and _ends_at(strings.offsets, data)
            for name, strings in _strings(terms).items()
            for data in (len(strings.data),)
        },
        "terms.weights": len(terms.weights) == len(terms),
        "terms.enabled": len(terms.enabled) == len(terms),
        "terms.hashed": len(terms.hashes) == len(terms.hashed) == len(terms)
        and _below(terms.hashed, len(terms)),
        "tokens": _below(columns["tokens"], table.vocabulary),
        "tokens.offsets": len(offsets) == forms + 1
        and _ends_at(offsets, len(columns["tokens"]))
        and bool((np.diff(offsets) > 0).all()),
        "spellings": spellings is None
        or (len(spellings) == len(terms) + 1 and _ends_at(spellings, forms)),
        "phonemes": _below(phones.symbols, phonemes),
        "phonemes.lengths": bool((phones.lengths > 0).all())
        and phones.lengths.sum() == len(phones.symbols),
        "phonemes.term_of": len(phones.term_of) == len(phones)
        and _below(phones.term_of, len(terms))
        and bool((np.diff(phones.term_of) >= 0).all()),
    }
    wrong = [name for name, fits in whole.items() if not fits]
    if wrong:
        raise ValueError(f"{', '.join(wrong)} do not fit the rest")
    return Section.packed(terms, columns["tokens"], offsets, spellings, phones, table)


def _ends_at(offsets: npt.NDArray[Any], end: int) -> bool:
    """Whether offsets begin at 0, never fall, and end there."""
    return offsets[0] == 0 and offsets[-1] == end and bool((np.diff(offsets) >= 0).all())


def _below(numbers: npt.NDArray[Any], limit: int) -> bool:
    return not len(numbers) or bool(numbers.min() >= 0 and numbers.max() < limit)


def _strings(terms: TermTable) -> dict[str, Strings]:
    return {"texts": terms.texts, "forms": terms.forms, "targets": terms.targets}


def _misfit(found: str, wanted: Vocabulary) -> str:
    try:
        form, speech_llm, tokens, _ = json.loads(found)
    except ValueError:
        return "is not a glossary index"
    if form != FORMAT:
        return f"is of the form {form}, not {FORMAT}"
    if (speech_llm, tokens) != (wanted.speech_llm, wanted.tokens):
        return f"was made for {speech_llm} ({tokens} tokens), not for {wanted.speech_llm}"
    return "was made for another phoneme head"
