"""A glossary written to an index file and mapped back."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from a2p_engine.bench.stage import Stage
from a2p_engine.retriever import index_file
from a2p_engine.retriever.index_file import Vocabulary

LOADS = 5


@dataclass(frozen=True, kw_only=True)
class IndexFile:
    """Times of one glossary's file; its terms have no pronunciations.

    Attributes:
        bytes: of the file.
        save_ms: to write it.
        load_ms: to map it, median of ``LOADS``; the token table has all tokens already.
        fill_ms: what it took to compute the token table's queries, once for all glossaries.
    """

    bytes: int
    save_ms: float
    load_ms: float
    fill_ms: float

    @classmethod
    def measure(cls, stage: Stage) -> IndexFile:
        """Write and map a stage's glossary in the system's directory for temporary files."""
        vocabulary = Vocabulary(
            speech_llm=stage.model.preset.name, tokens=stage.table.vocabulary, phonemes=()
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "glossary.safetensors"
            begin = time.perf_counter()
            index_file.save(stage.index.sections[0][1], path, vocabulary)
            save_ms = 1e3 * (time.perf_counter() - begin)
            times_ms = []
            for _ in range(LOADS):
                begin = time.perf_counter()
                index_file.load(path, stage.table, vocabulary)
                times_ms.append(1e3 * (time.perf_counter() - begin))
            return cls(
                bytes=path.stat().st_size,
                save_ms=save_ms,
                load_ms=statistics.median(times_ms),
                fill_ms=stage.fill_ms,
            )
