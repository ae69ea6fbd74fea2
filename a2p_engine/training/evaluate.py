"""How well the retriever finds spoken terms in a large glossary, and what it would offer."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from a2p_engine import glossary as glossaries
from a2p_engine.audio import read_audio
from a2p_engine.encoders import Device, Encoder
from a2p_engine.engine import WEIGHTS, torch_device
from a2p_engine.errors import InputError
from a2p_engine.manifest import Recording, read_manifest
from a2p_engine.retriever.glossary_index import GlossaryIndex
from a2p_engine.retriever.pronunciation import Pronouncer
from a2p_engine.retriever.retriever import Retriever
from a2p_engine.selection import select
from a2p_engine.speech_llm import build_speech_llm
from a2p_engine.text import mentions, plain
from a2p_engine.training.terms import SPOKEN_WORDS, read_spoken_words
from a2p_engine.training.texts import words_of
from a2p_engine.types import SAMPLE_RATE_HZ, Samples, SessionOptions, Term

DEPTHS = (1, 5, 10, 20, 50)
TOP_K = SessionOptions().top_k
_WINDOW_SAMPLES = 28 * SAMPLE_RATE_HZ  # longer recordings are searched window by window


@dataclass(frozen=True, kw_only=True)
class Found:
    """One spoken term of one utterance.

    Attributes:
        id: of the utterance.
        term: as the glossary writes it.
        rank: 1 is best; terms of equal probability all take the worst of their places.
        trained: whether each of its words was spoken in the retriever's training.
    """

    id: str
    term: str
    rank: int
    trained: bool


@dataclass(frozen=True, kw_only=True)
class Offered:
    """A term that would enter the prompt at some point of an utterance.

    Attributes:
        id: of the utterance.
        term: as the glossary writes it.
        probability: the calibrated one, the largest over the utterance's windows.
        spoken: whether the utterance's terms or its text contain it.
    """

    id: str
    term: str
    probability: float
    spoken: bool


@dataclass(frozen=True, kw_only=True)
class RetrievalReport:
    """Recall of spoken terms, and what was offered.

    Attributes:
        utterances: recordings searched.
        glossary_terms: N, terms searched for in each.
        not_in_glossary: spoken terms that the glossary lacks; they are not counted below.
        seconds_per_query: mean time to score all terms on a whole recording, encoder excluded.
        found: every spoken term with its rank.
        threshold: least probability at which a term is offered.
        offered: terms offered, at most ten at a time.
    """

    utterances: int
    glossary_terms: int
    not_in_glossary: int
    seconds_per_query: float
    found: tuple[Found, ...]
    threshold: float = 0.0
    offered: tuple[Offered, ...] = ()

    def summary(self) -> dict[str, object]:
        """For printing as JSON: recall overall and for terms never spoken in training."""
        unseen = [hit for hit in self.found if not hit.trained]
        return {
            "utterances": self.utterances,
            "glossary_terms": self.glossary_terms,
            "not_in_glossary": self.not_in_glossary,
            "seconds_per_query": round(self.seconds_per_query, 4),
            "all_terms": _recalls(self.found),
            "terms_never_spoken_in_training": _recalls(unseen),
            "offered": self._offers(),
        }

    def _offers(self) -> dict[str, object]:
        """Precision, recall and calibration of what was offered."""
        offered = {(offer.id, offer.term) for offer in self.offered}
        caught = [(hit.id, hit.term) in offered for hit in self.found]
        probability = np.array([offer.probability for offer in self.offered])
        spoken = np.array([offer.spoken for offer in self.offered])
        return {
            "threshold": self.threshold,
            "n": len(self.offered),
            "per_utterance": round(len(self.offered) / max(self.utterances, 1), 2),
            "precision": round(float(spoken.mean()), 4) if len(spoken) else None,
            "recall": round(float(np.mean(caught)), 4) if caught else None,
            "calibration_error": round(calibration_error(probability, spoken), 4)
            if len(spoken)
            else None,
        }


def calibration_error(
    probability: npt.NDArray[np.float64], spoken: npt.NDArray[np.bool_], bins: int = 10
) -> float:
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599, equation 3).

    Args:
        probability: [M] in [0, 1].
        spoken: [M].
        bins: of equal width.

    Returns:
        Mean distance between a bin's mean probability and its share of spoken terms, weighted by
        the bin's size.
    """
    bin_of = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = np.bincount(bin_of, probability - spoken, minlength=bins)
    return float(np.abs(gaps).sum() / len(probability))


def _recalls(hits: Sequence[Found]) -> dict[str, object]:
    """The number of hits, and the share ranked well enough at each depth."""
    if not hits:
        return {"n": 0, "recall": None}
    ranks = np.array([hit.rank for hit in hits])
    recall = {str(depth): round(float((ranks <= depth).mean()), 4) for depth in DEPTHS}
    return {"n": len(hits), "recall": recall}


def evaluate_retrieval(
    *,
    manifest: Path,
    glossary: Path,
    speech_llm: str = "whisper-base",
    retriever: Path | None = None,
    device: Device = "auto",
    limit: int | None = None,
    dump: Path | None = None,
) -> RetrievalReport:
    """Search recordings for every term of a glossary.

    Args:
        manifest: JSON lines of {"id", "audio", "terms"}.
        glossary: a file with the spoken terms and as many others as wanted.
        speech_llm: decides encoder, tokenizer and embeddings.
        retriever: directory of trained weights; None takes the shipped ones.
        device: ``cpu``, ``cuda`` or ``auto``.
        limit: only the first recordings.
        dump: file for one JSON line per spoken term.

    Raises:
        InputError: manifest or glossary cannot be used.
        ModelError: weights are missing or damaged.
    """
    cases = read_manifest(manifest)[:limit]
    terms = glossaries.load(glossary).terms
    encoder, decoder = build_speech_llm(speech_llm, device, 1)
    directory = retriever or WEIGHTS / decoder.retriever_weights
    trained = Retriever.load(
        directory,
        embeddings=torch.from_numpy(decoder.token_embeddings()),
        tokenize=decoder.tokenize,
        pronouncer=Pronouncer(),
        device=torch_device(device),
    )
    spoken = read_spoken_words(directory / SPOKEN_WORDS)
    report = search(cases, terms, encoder=encoder, retriever=trained, spoken=spoken)
    if dump is not None:
        dump.write_text("".join(json.dumps(asdict(hit)) + "\n" for hit in report.found), "utf-8")
    return report


def search(
    cases: Sequence[Recording],
    terms: Sequence[Term],
    *,
    encoder: Encoder,
    retriever: Retriever,
    spoken: frozenset[str],
) -> RetrievalReport:
    """Rank all terms on each recording.

    Args:
        cases: recordings and what was said in them.
        terms: the glossary.
        encoder: samples to frames.
        retriever: frames to probabilities.
        spoken: words that were spoken in the retriever's training.

    Raises:
        InputError: the glossary is empty.
        AudioError: a recording cannot be read.
    """
    if not terms:
        raise InputError("the glossary has no terms")
    index = retriever.index(terms)
    places = {plain(term.text): number for number, term in enumerate(terms)}
    found: list[Found] = []
    offered: list[Offered] = []
    missing, seconds = 0, 0.0
    for case in tqdm(cases, desc="recordings", disable=None):
        probability, chosen, took = _probabilities(
            read_audio(case.audio), index, encoder, retriever
        )
        seconds += took
        said = {plain(name) for name in case.terms}
        offered += [
            Offered(
                id=case.id,
                term=text,
                probability=float(probability[number]),
                spoken=plain(text) in said or mentions(case.text or "", text),
            )
            for number in sorted(chosen)
            for text in (terms[number].text,)
        ]
        for name in dict.fromkeys(case.terms):
            place = places.get(plain(name))
            if place is None:
                missing += 1
                continue
            rank = int((probability >= probability[place]).sum())
            trained = spoken.issuperset(words_of(name))
            found.append(Found(id=case.id, term=terms[place].text, rank=rank, trained=trained))
    return RetrievalReport(
        utterances=len(cases),
        glossary_terms=len(terms),
        not_in_glossary=missing,
        seconds_per_query=seconds / max(len(cases), 1),
        found=tuple(found),
        threshold=retriever.calibration.thresholds["balanced"],
        offered=tuple(offered),
    )


def _probabilities(
    samples: Samples, index: GlossaryIndex, encoder: Encoder, retriever: Retriever
) -> tuple[npt.NDArray[np.float32], set[int], float]:
    """Over the windows of a recording: best probability [N] of each term, offers, seconds taken."""
    chosen: set[int] = set()
    best = np.zeros(index.numbers, np.float32)
    threshold = retriever.calibration.thresholds["balanced"]
    seconds = 0.0
    for start in range(0, len(samples), _WINDOW_SAMPLES):
        frames = encoder.encode(samples[start : start + _WINDOW_SAMPLES]).frames
        began = time.perf_counter()
        evidence = retriever.step(index, retriever.start(), frames)
        seconds += time.perf_counter() - began
        offered = select(evidence, index, top_k=TOP_K, threshold=threshold)
        chosen.update(offer.number for offer in offered)
        best[evidence.term] = np.maximum(best[evidence.term], evidence.probability)
    return best, chosen, seconds
