"""The engine: audio of an open segment in, caption and probable terms out.

This is all that ``streaming`` knows of the models. Everything that crosses the seam is a small
record from ``a2p_engine.types``; what belongs to a session stays in here, behind its handle.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from a2p_engine.encoders import Device, Encoder
from a2p_engine.encoders.base import Encoded, going_on
from a2p_engine.engine_session import Segment, Session
from a2p_engine.errors import InputError, ModelError, UnknownSession
from a2p_engine.glossary import UNPRONOUNCED
from a2p_engine.guard import Ear
from a2p_engine.retriever.glossary_index import GlossaryIndex
from a2p_engine.retriever.pronunciation import Pronouncer
from a2p_engine.retriever.retriever import Progress, Retriever
from a2p_engine.retriever.term_rate import TermRate, expected_terms
from a2p_engine.selection import Candidate, Offering, candidates
from a2p_engine.speech_llm import DecodeRequest, Hypothesis, SpeechLLM, build_speech_llm
from a2p_engine.text import mentions, shared_words
from a2p_engine.transcribe import updated
from a2p_engine.types import (
    EAGERNESS,
    SAMPLE_RATE_HZ,
    Eagerness,
    GlossaryInfo,
    SessionOptions,
    Source,
    StepRequest,
    StepResult,
    Task,
    Term,
    TermHit,
    Word,
)

log = logging.getLogger(__name__)

WEIGHTS = Path(__file__).parent / "weights"
NO_RETRIEVER = (
    "no retriever is shipped for its encoder: captions go on without terms; "
    "--retriever takes a directory of trained weights"
)
# Indexed glossaries kept for the next session that brings the same terms.
INDEX_CACHE = 8


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What to load.

    Attributes:
        speech_llm: name of the speech LLM, which also decides the encoder.
        retriever: directory of trained retriever weights; None takes the shipped ones for the
            speech LLM.
        device: ``cpu``, ``cuda`` or ``auto``.
        workers: steps that may run at the same time.
        threads: threads that torch uses in each; None leaves the process's setting alone.
        options: settings of a speech LLM that has some of its own, see ``OpenAISettings``.
    """

    speech_llm: str = "whisper-base"
    retriever: Path | None = None
    device: Device = "auto"
    workers: int = 2
    threads: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class Engine:
    """One encoder, one retriever and one speech LLM, serving any number of sessions."""

    sample_rate_hz = SAMPLE_RATE_HZ

    def __init__(
        self,
        *,
        encoder: Encoder,
        speech_llm: SpeechLLM,
        new_retriever: Callable[[], Retriever] | None,
    ) -> None:
        """Join the parts; ``load`` builds them from settings.

        Args:
            encoder: samples to frames, shared by the other two.
            speech_llm: frames and prompt to text.
            new_retriever: loads the retriever, called when the first glossary arrives; without
                one, captions are written without terms.
        """
        self._encoder = encoder
        self._speech_llm = speech_llm
        self._new_retriever = new_retriever
        self._retriever: Retriever | None = None
        self._sessions: dict[str, Session] = {}
        self._indexes: OrderedDict[tuple[Term, ...], tuple[GlossaryIndex, tuple[str, ...]]] = (
            OrderedDict()
        )
        self._mapped_indexes: dict[Path, GlossaryIndex] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    @classmethod
    def load(cls, settings: EngineSettings | None = None) -> Engine:
        """Load what the settings name.

        Raises:
            ModelError: weights are missing or damaged; the text says how to get them.
        """
        settings = settings or EngineSettings()
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        encoder, speech_llm = build_speech_llm(
            settings.speech_llm, settings.device, settings.workers, settings.options
        )
        return cls.of(encoder, speech_llm, settings)

    @classmethod
    def of(cls, encoder: Encoder, speech_llm: SpeechLLM, settings: EngineSettings) -> Engine:
        """Join loaded parts with the retriever that the settings name."""
        directory = settings.retriever
        if directory is None and speech_llm.retriever_weights:
            directory = WEIGHTS / speech_llm.retriever_weights
        if directory is None:
            log.warning("%s: %s", speech_llm.name, NO_RETRIEVER)
            return cls(encoder=encoder, speech_llm=speech_llm, new_retriever=None)

        def new_retriever() -> Retriever:
            return Retriever.load(
                directory,
                embeddings=torch.from_numpy(speech_llm.token_embeddings()),
                tokenize=speech_llm.tokenize,
                pronouncer=Pronouncer(),
                device=torch_device(settings.device),
            )

        return cls(encoder=encoder, speech_llm=speech_llm, new_retriever=new_retriever)

    @property
    def speech_llm(self) -> str:
        """Name of the speech LLM."""
        return self._speech_llm.name

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639-1 codes a session may ask for, besides ``auto``."""
        return self._speech_llm.languages

    @property
    def target_languages(self) -> tuple[str, ...]:
        """ISO 639-1 codes a session may ask for a translation into."""
        return self._speech_llm.target_languages

    @property
    def max_segment_s(self) -> float:
        """Longest segment in seconds."""
        return self._speech_llm.max_samples / SAMPLE_RATE_HZ

    def save_index(
        self, terms: Sequence[Term], path: Path, progress: Progress | None = None
    ) -> None:
        """Index a glossary into a file that ``open`` and ``load_index`` map; see the retriever.

        Raises:
            GlossaryError: the file cannot be written.
        """
        self._loaded_retriever().save_index(terms, path, self.speech_llm, progress)

    def load_index(self, path: Path) -> int:
        """Map an index file, once; returns the number of its terms.

        Raises:
            GlossaryError: the file is missing, damaged or made for another speech LLM.
        """
        return self._mapped(path).size

    def open(
        self,
        options: SessionOptions,
        glossary: Sequence[Term] = (),
        *,
        index: Path | None = None,
    ) -> tuple[str, GlossaryInfo]:
        """Begin a session.

        Args:
            options: what is asked for.
            glossary: terms to listen for.
            index: file of further terms.

        Returns:
            The session's handle and its glossary's first version.

        Raises:
            InputError: a language is not one of the model's, or the threshold no probability.
            GlossaryError: the index cannot be used.
        """
        if options.language not in (*self.languages, "auto"):
            raise InputError(
                f"language {options.language!r} is unknown to {self.speech_llm}; "
                f"accepted are auto, {', '.join(self.languages)}"
            )
        targets = self.target_languages
        if options.task == "translate" and options.target_language not in targets:
            raise InputError(
                f"{self.speech_llm} does not translate into {options.target_language!r}; "
                f"accepted: {', '.join(targets) or 'none'}"
            )
        _check_threshold(options.threshold)
        handle = f"s{next(self._numbers)}"
        heard = options.language in (*self._speech_llm.retriever_languages, "auto")
        base = self._mapped(index) if index is not None and heard else None
        session = Session(options, base)
        info = self._edit(session, glossary, ())
        self._sessions[handle] = session
        return handle, info

    def edit_glossary(
        self, session: str, *, add: Sequence[Term] = (), remove: Sequence[str] = ()
    ) -> GlossaryInfo:
        """Change a session's glossary; the next step scores all of the open segment with it.

        A term added under the text of an old one replaces it. Steps of the session may go on while
        the edit is made ready.

        Raises:
            UnknownSession: the handle is not open.
        """
        return self._edit(self._session(session), add, remove)

    def step(self, request: StepRequest) -> StepResult:
        """Hear the segment's new audio and write down the whole of it; blocks for the models' time.

        Steps of different sessions may run side by side.

        Raises:
            UnknownSession: the handle is not open.
            AudioError: the segment is longer than ``max_segment_s``.
        """
        session = self._session(request.session)
        with session.lock:
            return self._step(session, request)

    def close(self, session: str) -> None:
        """End a session and drop its state; closing twice is harmless."""
        self._sessions.pop(session, None)

    def _edit(self, session: Session, add: Sequence[Term], remove: Sequence[str]) -> GlossaryInfo:
        add, rejected = self._accepted(session.options, add)
        with session.editing:
            before = session.index
            missing = tuple(text for text in remove if before is None or before.find(text) is None)
            # Made beside the steps of the session; only the exchange waits for one under way.
            after, silent = self._edited(before, add, remove)
            kept = before.size - (len(set(remove)) - len(set(missing))) if before else 0
            with session.lock:
                session.index = after
                session.glossary_version += 1
                from_sample, version = session.open_sample, session.glossary_version
        return GlossaryInfo(
            version=version,
            terms=after.size if after else 0,
            added=max((after.size if after else 0) - kept, 0),
            removed=len(set(remove)) - len(set(missing)),
            rejected=(
                *rejected,
                *((text, UNPRONOUNCED) for text in silent),
                *((text, "not in the glossary") for text in missing),
            ),
            from_sample=from_sample,
        )

    def _step(self, session: Session, request: StepRequest) -> StepResult:
        timings_ms: dict[str, float] = {}
        segment = self._open_segment(session, request)
        with _timed(timings_ms, "encode"):
            heard = self._encoder.encode(segment.samples())
            segment.encoded = encoded = going_on(heard, segment.encoded, final=request.final)
        untold = self._write_untold(session, segment, request, encoded, timings_ms)
        with _timed(timings_ms, "retrieve"):
            offered = self._retrieve(session, segment, request, encoded.frames)
        said = None
        if self._transcribes(session):
            said = self._write(
                session, segment, request, encoded, offered, timings_ms, "transcribe", untold
            )
        hypothesis = said
        if hypothesis is None or session.options.task == "translate":
            told = [offer for offer in offered if segment.guard.admits(offer)]
            hypothesis = self._write(
                session, segment, request, encoded, told, timings_ms, "translate"
            )
        if hypothesis.prompt.trimmed:
            log.warning("%d terms found no room in the prompt", hypothesis.prompt.trimmed)
        result = self._result(session, segment, request, offered, hypothesis, timings_ms)
        if said is not None and said is not hypothesis:
            result = replace(result, source=Source(text=said.text, language=said.language))
        segment.words = hypothesis.words
        if said is not None:
            self._keep_transcript(session, segment, said)
        session.said = tuple(hit.term for hit in result.terms if hit.used)
        session.heard_samples = result.end_sample
        if request.final:
            session.segment = None
        return result

    def _write_untold(
        self,
        session: Session,
        segment: Segment,
        request: StepRequest,
        encoded: Encoded,
        timings_ms: dict[str, float],
    ) -> Hypothesis | None:
        """A segment that comes to its end unread is written down once without any terms.

        Live segments are read tick by tick: the text of one tick is evidence at the next.
        """
        unread = segment.transcript is None and self._reads(session)
        if not request.final or not unread:
            return None
        untold = self._write(session, segment, request, encoded, (), timings_ms, "transcribe")
        self._keep_transcript(session, segment, untold)
        return untold

    def _keep_transcript(self, session: Session, segment: Segment, hypothesis: Hypothesis) -> None:
        if self._reads(session):
            segment.transcript = updated(
                segment.transcript,
                hypothesis.words,
                told=hypothesis.prompt.terms,
                samples=len(segment.samples()),
            )

    def _transcribes(self, session: Session) -> bool:
        """Whether what was said is written down as it was said."""
        return session.options.task == "transcribe" or session.options.source_text

    def _reads(self, session: Session) -> bool:
        """Whether what is written tells about terms: a translation does not."""
        searches = session.index is not None and session.options.top_k > 0
        return searches and self._retriever is not None and self._transcribes(session)

    def _write(
        self,
        session: Session,
        segment: Segment,
        request: StepRequest,
        encoded: Encoded,
        offered: Sequence[Candidate],
        timings_ms: dict[str, float],
        task: Task,
        untold: Hypothesis | None = None,
    ) -> Hypothesis:
        """What the speech LLM writes, under guard; committed is only what the session shows.

        What it writes ``untold``, if that is known, is not asked for again.
        """
        options = session.options
        committed = request.committed if task == options.task else ""
        decoded_ms = timings_ms.get("decode", 0.0)

        def decode(terms: Sequence[Candidate], *, beginning: str = "") -> Hypothesis:
            if untold is not None and not terms and not beginning:
                return untold
            with _timed(timings_ms, "decode"):
                return self._speech_llm.decode(
                    DecodeRequest(
                        samples=segment.samples(),
                        encoded=encoded,
                        terms=[_spelling(each.term, task) for each in terms],
                        sources=[each.term.text for each in terms],
                        committed=beginning or committed,
                        language=options.language,
                        task=task,
                        target_language=options.target_language,
                        final=request.final,
                        asked_at=segment.asked_at,
                    )
                )

        with _timed(timings_ms, "guard"):
            hypothesis = segment.guard.write(
                offered, decode, ear=self._ear(session, segment, task), committed=committed
            )
        timings_ms["guard"] -= timings_ms["decode"] - decoded_ms
        return hypothesis

    def _ear(self, session: Session, segment: Segment, task: Task) -> Ear | None:
        """Nobody can tell where a translation was said."""
        retriever, state, index = self._retriever, segment.retrieval, session.index
        if task == "translate" or not (retriever and state and index):
            return None
        hop = self._encoder.hop_samples
        languages = self._speech_llm.retriever_languages
        return Ear(
            retriever=retriever, state=state, index=index, hop_samples=hop, languages=languages
        )

    def _result(
        self,
        session: Session,
        segment: Segment,
        request: StepRequest,
        offered: Sequence[Candidate],
        hypothesis: Hypothesis,
        timings_ms: dict[str, float],
    ) -> StepResult:
        begin, task = segment.start_sample, session.options.task
        text = hypothesis.text
        words = tuple(
            Word(
                text=word.text,
                start_sample=begin + word.start_sample,
                end_sample=begin + word.end_sample,
                probability=word.probability,
            )
            for word in hypothesis.words
        )
        return StepResult(
            session=request.session,
            segment_id=request.segment_id,
            final=request.final,
            text=text,
            words=words,
            end_sample=begin + len(segment.samples()),
            terms=tuple(
                replace(self._hit(offer, begin), used=mentions(text, _spelling(offer.term, task)))
                for offer in offered
            ),
            language=hypothesis.language,
            glossary_version=session.glossary_version,
            trimmed_terms=hypothesis.prompt.trimmed,
            timings_ms=timings_ms,
        )

    def _accepted(
        self, options: SessionOptions, terms: Sequence[Term]
    ) -> tuple[Sequence[Term], tuple[tuple[str, str], ...]]:
        """The terms that can be listened for in the session's language, and the others."""
        if self._new_retriever is None:
            return (), tuple((term.text, NO_RETRIEVER) for term in terms)
        known = self._speech_llm.retriever_languages
        if options.language in (*known, "auto"):
            return terms, ()
        reason = f"terms are heard in {', '.join(known)} only; captions go on without them"
        return (), tuple((term.text, reason) for term in terms)

    def _edited(
        self, index: GlossaryIndex | None, add: Sequence[Term], remove: Sequence[str]
    ) -> tuple[GlossaryIndex | None, tuple[str, ...]]:
        add = tuple({term.text: term for term in add}.values())
        if index is None:
            return self._index(add) if add else (None, ())
        if not add and not remove:
            return index, ()
        return self._loaded_retriever().edit(index, add=add, remove=remove).audible()

    def _open_segment(self, session: Session, request: StepRequest) -> Segment:
        segment = session.segment
        if segment is None or segment.number != request.segment_id:
            segment = Segment(
                request.segment_id, request.start_sample, Offering(carried=session.said)
            )
            session.segment = segment
        segment.chunks.append(request.samples)
        segment.asked_at = time.monotonic()
        return segment

    def _retrieve(
        self,
        session: Session,
        segment: Segment,
        request: StepRequest,
        frames: npt.NDArray[np.float32],
    ) -> list[Candidate]:
        index, retriever = session.index, self._retriever
        if index is None or retriever is None or not session.options.top_k:
            return []
        if segment.retrieval is None:
            segment.retrieval = retriever.start()
        rate = session.rate or TermRate(retriever.calibration.terms_per_s)
        evidence = retriever.step(
            index, segment.retrieval, frames, segment.transcript, rate=rate.share
        )
        if request.final:
            rate.hear(expected_terms(evidence), len(segment.samples()) / SAMPLE_RATE_HZ)
            session.rate = rate
        fixed = shared_words([word.text for word in segment.words], request.committed)
        end_sample = segment.words[fixed - 1].end_sample if fixed else 0
        return segment.offering.choose(
            [each for each in candidates(evidence, index) if segment.guard.admits(each)],
            top_k=session.options.top_k,
            threshold=retriever.calibration.threshold(session.options.threshold),
            committed=end_sample // self._encoder.hop_samples,
            final=request.final,
        )

    def _hit(self, offer: Candidate, begin: int) -> TermHit:
        found = np.isfinite(offer.cost)
        hop = self._encoder.hop_samples
        return TermHit(
            term=offer.term.text,
            probability=offer.probability,
            start_sample=begin + offer.start * hop if found else None,
            end_sample=begin + offer.end * hop if found else None,
        )

    def _loaded_retriever(self) -> Retriever:
        with self._lock:
            if self._new_retriever is None:
                raise ModelError(f"{self.speech_llm}: {NO_RETRIEVER}")
            if self._retriever is None:
                self._retriever = self._new_retriever()
            return self._retriever

    def _index(self, terms: tuple[Term, ...]) -> tuple[GlossaryIndex, tuple[str, ...]]:
        retriever = self._loaded_retriever()
        with self._lock:
            if terms in self._indexes:
                self._indexes.move_to_end(terms)
                return self._indexes[terms]
        indexed = retriever.index(terms).audible()
        with self._lock:
            self._indexes[terms] = indexed
            if len(self._indexes) > INDEX_CACHE:
                self._indexes.popitem(last=False)
        return indexed

    def _mapped(self, path: Path) -> GlossaryIndex:
        if path not in self._mapped_indexes:
            index, silent = self._loaded_retriever().load_index(path, self.speech_llm).audible()
            if silent:
                log.warning(
                    "%s: %d terms are left out: they cannot be pronounced", path, len(silent)
                )
            self._mapped_indexes[path] = index
        return self._mapped_indexes[path]

    def _session(self, handle: str) -> Session:
        try:
            return self._sessions[handle]
        except KeyError:
            raise UnknownSession(f"session {handle!r} is not open") from None


def torch_device(device: Device) -> torch.device:
    """Where torch computes; not every installation of it can use a GPU that CTranslate2 can."""
    if device != "cpu" and torch.cuda.is_available():
        return torch.device("cuda")
    if device == "cuda":
        log.warning("this build of torch has no CUDA: terms are scored on the CPU")
    return torch.device("cpu")


def _check_threshold(threshold: float | Eagerness) -> None:
    if not (threshold in EAGERNESS if isinstance(threshold, str) else 0 <= threshold <= 1):
        raise InputError(
            f"threshold {threshold!r} is neither a number from 0 to 1 nor {', '.join(EAGERNESS)}"
        )


def _spelling(term: Term, task: Task) -> str:
    """How a term is to be written: a translation writes its target form."""
    return term.target if task == "translate" and term.target else term.text


@contextmanager
def _timed(timings_ms: dict[str, float], name: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    spent_ms = 1000.0 * (time.perf_counter() - begin)
    timings_ms[name] = timings_ms.get(name, 0.0) + spent_ms
