"""How Whisper is best told of terms: the same recordings written with prompts of several forms.

Every form tells the same terms. Those that were said show what a form brings; terms that were not
said, alone and among them, show what it costs. Earlier text is what was written of the piece
before under the same form: of the same recording, or of the recording before it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from a2p_engine.audio import read_audio
from a2p_engine.encoders import Device, build_encoder
from a2p_engine.encoders.base import Encoded
from a2p_engine.encoders.whisper import WhisperEncoder
from a2p_engine.errors import InputError
from a2p_engine.evaluation.bootstrap import Bootstrap, Estimate, FloatArray, divided, estimate
from a2p_engine.evaluation.windows import WINDOW_SAMPLES, windows
from a2p_engine.evaluation.words import normalised, split_errors
from a2p_engine.guard import Guard
from a2p_engine.manifest import Recording
from a2p_engine.prompt import BARE_LIST, GLOSSARY, SENTENCE, Wording
from a2p_engine.selection import Candidate
from a2p_engine.speech_llm.base import DecodeRequest, Hypothesis
from a2p_engine.speech_llm.whisper import WhisperSpeechLLM
from a2p_engine.text import mentions
from a2p_engine.types import SAMPLE_RATE_HZ, Samples, Term

WORDINGS: dict[str, Wording] = {"bare": BARE_LIST, "glossary": GLOSSARY, "sentence": SENTENCE}
DEFAULT = "glossary"
TOLD = ("said", "said_and_wrong", "wrong")
NOTHING = "nothing"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to compare.

    Attributes:
        speech_llm: a Whisper model.
        device: where it runs.
        wrong: terms of other recordings that are told as well.
        piece_s: recordings are cut into pieces of at most so many seconds.
        seed: of the drawing of wrong terms.
    """

    speech_llm: str = "whisper-base"
    device: Device = "auto"
    wrong: int = 8
    piece_s: float = WINDOW_SAMPLES / SAMPLE_RATE_HZ
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Form:
    """One way to prompt.

    Attributes:
        wording: one of ``WORDINGS``.
        told: one of ``TOLD``, or nothing.
        context: whether earlier text goes before the terms.
    """

    wording: str
    told: str
    context: bool

    @property
    def name(self) -> str:
        """For a table."""
        wording = "" if self.told == NOTHING else self.wording
        return " + ".join(filter(None, ("earlier text" if self.context else "", wording))) or "-"


@dataclass(frozen=True, kw_only=True)
class FormResult:
    """What came of one form.

    Attributes:
        form: which.
        wer: word error rate; u_wer and b_wer: outside of and in the terms that were said.
        wer_change: less that of the default form with the same terms, resampled in pairs.
        false_insertions: wrong terms that were told and written.
        again: pieces that the guard had decoded again.
        seconds: mean time of a recording, encoder not counted.
    """

    form: Form
    wer: Estimate
    wer_change: Estimate
    u_wer: Estimate
    b_wer: Estimate
    false_insertions: int
    again: int
    seconds: float

    def json(self) -> dict[str, Any]:
        """For a report."""
        values = {k: v.json() if isinstance(v, Estimate) else v for k, v in vars(self).items()}
        return {**asdict(self.form), **{k: v for k, v in values.items() if k != "form"}}


@dataclass(frozen=True, kw_only=True)
class ComparedForms:
    """What came of all.

    Attributes:
        request: what was asked for.
        recordings: ids.
        results: of each form.
    """

    request: Request
    recordings: tuple[str, ...]
    results: tuple[FormResult, ...]

    def json(self) -> dict[str, Any]:
        """For a file."""
        settings = {**asdict(self.request), "recordings": list(self.recordings)}
        return {"settings": settings, "results": [result.json() for result in self.results]}


@dataclass
class _Tally:
    """Of one form: counts per recording, and what it wrote last."""

    errors: list[tuple[int, int, int, int]] = field(default_factory=list)
    false_insertions: int = 0
    again: int = 0
    seconds: float = 0.0
    before: str = ""


def forms() -> list[Form]:
    """All that are compared: each wording with each telling, and earlier text with the default."""
    plain = [Form(name, told, False) for told in TOLD for name in WORDINGS]
    with_context = [Form(DEFAULT, told, True) for told in (NOTHING, *TOLD)]
    return [Form(DEFAULT, NOTHING, False), *plain, *with_context]


def run(
    recordings: Sequence[Recording], request: Request, progress: Callable[[], None] = lambda: None
) -> ComparedForms:
    """Write all recordings with all forms.

    Raises:
        InputError: a recording has no text, there are too few terms, or the model is no Whisper.
        ModelError: weights are missing or damaged.
    """
    wrong = [_wrong_terms(recordings, number, request) for number in range(len(recordings))]
    encoder = build_encoder(request.speech_llm, request.device, 1)
    if not isinstance(encoder, WhisperEncoder):
        raise InputError(f"forms of prompts are compared on Whisper; {request.speech_llm} is none")
    writers = {
        name: WhisperSpeechLLM(request.speech_llm, encoder, wording)
        for name, wording in WORDINGS.items()
    }
    tallies = {form: _Tally() for form in forms()}
    for recording, others in zip(recordings, wrong, strict=True):
        pieces = windows(read_audio(recording.audio), round(request.piece_s * SAMPLE_RATE_HZ))
        heard = [(piece, encoder.encode(piece)) for piece in pieces]
        for form, tally in tallies.items():
            _hear(recording, others, heard, form, writers[form.wording], tally)
        progress()
    return ComparedForms(
        request=request,
        recordings=tuple(recording.id for recording in recordings),
        results=tuple(_results(tallies)),
    )


def _hear(
    recording: Recording,
    wrong: Sequence[str],
    heard: Sequence[tuple[Samples, Encoded]],
    form: Form,
    writer: WhisperSpeechLLM,
    tally: _Tally,
) -> None:
    """Write one recording with one form."""
    terms = list(_told(recording, wrong, form.told))
    texts = []
    for samples, encoded in heard:
        asked = DecodeRequest(
            samples=samples,
            encoded=encoded,
            terms=terms,
            committed="",
            language="en",
            task="transcribe",
            context=tally.before if form.context else "",
        )
        tally.before = _write(writer, asked, tally)
        texts.append(tally.before)
    _count(tally, recording, " ".join(texts), [term for term in terms if term in wrong])


def _write(writer: WhisperSpeechLLM, asked: DecodeRequest, tally: _Tally) -> str:
    """Under guard, as live; of what it asks for again, nothing is told."""
    decodings = 0

    def decode(offered: Sequence[Candidate], *, beginning: str = "") -> Hypothesis:
        nonlocal decodings
        decodings += 1
        untold = decodings > 1 and not offered
        told = replace(asked, terms=(), context="") if untold else asked
        return writer.decode(replace(told, committed=beginning))

    offered = [
        Candidate(term=Term(text=term), number=0, probability=1.0, cost=math.inf, start=0, end=0)
        for term in asked.terms
    ]
    began = time.perf_counter()
    hypothesis = Guard().write(offered, decode)
    tally.seconds += time.perf_counter() - began
    tally.again += decodings > 1
    return hypothesis.text


def _count(tally: _Tally, recording: Recording, text: str, wrong: Sequence[str]) -> None:
    said = recording.text or ""
    split = split_errors(normalised(said), normalised(text), map(normalised, recording.terms))
    tally.errors.append(
        (split.biased_errors, split.biased_words, split.other_errors, split.other_words)
    )
    tally.false_insertions += sum(mentions(text, term) for term in wrong)


def _told(recording: Recording, wrong: Sequence[str], told: str) -> Iterator[str]:
    """Terms in the order of their probability, as a retriever would tell: those said go first."""
    if told in ("said", "said_and_wrong"):
        yield from dict.fromkeys(recording.terms)
    if told in ("wrong", "said_and_wrong"):
        yield from wrong


def _wrong_terms(recordings: Sequence[Recording], number: int, request: Request) -> list[str]:
    """Terms of other recordings that are not said in this one."""
    this = recordings[number]
    if this.text is None:
        raise InputError(f"the text of recording {this.id!r} is not known")
    others = dict.fromkeys(term for recording in recordings for term in recording.terms)
    unsaid = [term for term in others if not mentions(this.text, term)]
    if len(unsaid) < request.wrong:
        raise InputError(
            f"{request.wrong} wrong terms are to be told, the other recordings have {len(unsaid)}"
        )
    drawn = np.random.default_rng([request.seed, number]).permutation(len(unsaid))
    return [unsaid[place] for place in drawn[: request.wrong]]


def _results(tallies: Mapping[Form, _Tally]) -> list[FormResult]:
    rates = {form: _rates(tally) for form, tally in tallies.items()}
    return [_result(form, tally, rates) for form, tally in tallies.items()]


def _rates(tally: _Tally) -> tuple[FloatArray, FloatArray, FloatArray]:
    """WER, U-WER and B-WER: [1 + R] each."""
    sums = Bootstrap(len(tally.errors)).sums(tally.errors)
    biased, biased_words, other, other_words = sums.T
    return (
        divided(biased + other, biased_words + other_words),
        divided(other, other_words),
        divided(biased, biased_words),
    )


def _result(form: Form, tally: _Tally, rates: Mapping[Form, tuple[FloatArray, ...]]) -> FormResult:
    wer, u_wer, b_wer = rates[form]
    return FormResult(
        form=form,
        wer=estimate(wer),
        wer_change=estimate(wer - rates[Form(DEFAULT, form.told, False)][0]),
        u_wer=estimate(u_wer),
        b_wer=estimate(b_wer),
        false_insertions=tally.false_insertions,
        again=tally.again,
        seconds=round(tally.seconds / len(tally.errors), 3),
    )
