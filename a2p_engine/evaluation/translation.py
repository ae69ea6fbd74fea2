"""Translations of known speech: BLEU, chrF and how many terms are in the target's words.

Systems: translating untold; told the targets of the terms that are said (what a perfect retriever
would bring); and as live, with a glossary from which the retriever chooses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from a2p_engine.audio import read_audio
from a2p_engine.encoders import Encoder
from a2p_engine.encoders.base import Encoded
from a2p_engine.engine import Engine, EngineSettings
from a2p_engine.errors import InputError
from a2p_engine.evaluation.windows import windows
from a2p_engine.guard import Guard
from a2p_engine.manifest import Recording
from a2p_engine.selection import Candidate
from a2p_engine.speech_llm import DecodeRequest, Hypothesis, SpeechLLM, build_speech_llm
from a2p_engine.text import mentions
from a2p_engine.types import Eagerness, Samples, SessionOptions, StepRequest, Term

NONE, ORACLE, OURS = "none", "oracle", "ours"
# BLEU counts words; where there are no spaces sacrebleu has to find them, or counts characters.
_TOKENIZERS = {"zh": "zh", "yue": "zh", "ja": "char", "th": "char", "lo": "char", "my": "char"}


@dataclass(frozen=True, kw_only=True)
class Translated:
    """What one system made of all recordings.

    Attributes:
        system: ``none``, ``oracle`` or ``ours``.
        bleu: of the corpus, 0 to 100.
        chrf: chrF2 of the corpus, 0 to 100.
        signature: of BLEU, as sacrebleu gives it.
        targets: terms that are said and whose translation is known.
        written: of them, how many the translation has.
        texts: the translations by recording.
    """

    system: str
    bleu: float
    chrf: float
    signature: str
    targets: int
    written: int
    texts: dict[str, str]

    @property
    def term_accuracy(self) -> float | None:
        """Share of the targets that were written; None where there are none."""
        return self.written / self.targets if self.targets else None

    def json(self) -> dict[str, Any]:
        """For a file."""
        return {**asdict(self), "term_accuracy": self.term_accuracy}


def run(
    recordings: Sequence[Recording],
    settings: EngineSettings,
    glossary: Sequence[Term] = (),
    target: str = "en",
    threshold: float | Eagerness = "balanced",
    progress: Callable[[], None] = lambda: None,
) -> list[Translated]:
    """Translate all recordings with each system; ours needs a glossary.

    Raises:
        InputError: a recording's translation is not known, the model does not translate into the
            target, the glossary cannot be heard in the language, or sacrebleu is missing.
        ModelError: weights are missing or damaged.
    """
    unknown = [recording.id for recording in recordings if recording.translation is None]
    if unknown:
        raise InputError(f"the translation of recording {unknown[0]!r} is not known")
    scorer = _sacrebleu()
    encoder, speech_llm = build_speech_llm(
        settings.speech_llm, settings.device, settings.workers, settings.options
    )
    engine = Engine.of(encoder, speech_llm, settings)
    texts: dict[str, dict[str, str]] = {NONE: {}, ORACLE: {}, **({OURS: {}} if glossary else {})}
    for recording in recordings:
        samples = read_audio(recording.audio)
        options = SessionOptions(
            language=recording.language,
            task="translate",
            target_language=target,
            threshold=threshold,
        )
        texts[NONE][recording.id] = _live(engine, options, samples)
        texts[ORACLE][recording.id] = _told(encoder, speech_llm, options, samples, recording)
        if glossary:
            texts[OURS][recording.id] = _live(engine, options, samples, glossary)
        progress()
    return [_scored(system, found, recordings, target, scorer) for system, found in texts.items()]


def _live(
    engine: Engine, options: SessionOptions, samples: Samples, glossary: Sequence[Term] = ()
) -> str:
    """Through the engine; what was said is written as well, since it is evidence for terms."""
    session, info = engine.open(replace(options, source_text=bool(glossary)), glossary)
    if glossary and not info.terms:
        raise InputError(f"no term can be used: {info.rejected[0][1]}")
    texts, begin = [], 0
    for number, piece in enumerate(windows(samples)):
        request = StepRequest(
            session=session, segment_id=number, start_sample=begin, samples=piece, final=True
        )
        result = engine.step(request)
        texts.append(result.text)
        begin = result.end_sample
    engine.close(session)
    return " ".join(texts).strip()


def _told(
    encoder: Encoder,
    speech_llm: SpeechLLM,
    options: SessionOptions,
    samples: Samples,
    recording: Recording,
) -> str:
    """With the targets of what is said, and nothing else, in the prompt."""
    pairs = dict(zip(recording.terms, recording.targets, strict=False))
    offers = [_offer(Term(text=term, target=target)) for term, target in pairs.items()]
    texts = []
    for piece in windows(samples):
        encoded = encoder.encode(piece)

        def decode(
            told: Sequence[Candidate],
            *,
            beginning: str = "",
            piece: Samples = piece,
            encoded: Encoded = encoded,
        ) -> Hypothesis:
            request = DecodeRequest(
                samples=piece,
                encoded=encoded,
                terms=[offer.term.target or offer.term.text for offer in told],
                sources=[offer.term.text for offer in told],
                committed=beginning,
                language=options.language,
                task=options.task,
                target_language=options.target_language,
            )
            return speech_llm.decode(request)

        texts.append(Guard().write(offers, decode).text)
    return " ".join(texts).strip()


def _offer(term: Term) -> Candidate:
    return Candidate(term=term, number=0, probability=1.0, cost=math.inf, start=0, end=0)


def _scored(
    system: str, texts: dict[str, str], recordings: Sequence[Recording], target: str, scorer: Any
) -> Translated:
    written = [texts[recording.id] for recording in recordings]
    references = [[recording.translation for recording in recordings]]
    bleu = scorer.BLEU(tokenize=_TOKENIZERS.get(target, "13a"))
    terms = [(recording.id, term) for recording in recordings for term in recording.targets]
    return Translated(
        system=system,
        bleu=round(bleu.corpus_score(written, references).score, 2),
        chrf=round(scorer.CHRF().corpus_score(written, references).score, 2),
        signature=str(bleu.get_signature()),
        targets=len(terms),
        written=sum(mentions(texts[key], term) for key, term in terms),
        texts=texts,
    )


def _sacrebleu() -> Any:
    try:
        from sacrebleu import metrics
    except ImportError as error:
        raise InputError("sacrebleu is missing: pip install 'a2p-live[train]'") from error
    return metrics
