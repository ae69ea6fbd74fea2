"""What crosses the seam between the engine and its callers: small immutable records, no models.

Notation for shapes, used in the whole package:
B batch (sessions), T audio frames, V distinct tokens, N terms, L tokens or phonemes of a term,
H heads, D model width, d head width.

Audio inside the engine is float32 in [-1, 1], mono, 16 kHz. Times are sample indices counted from
the start of the session's audio; only the edges of the system speak of seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ = 16_000

Samples = npt.NDArray[np.float32]
Task = Literal["transcribe", "translate"]
Eagerness = Literal["cautious", "balanced", "eager"]
EAGERNESS: tuple[Eagerness, ...] = get_args(Eagerness)


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """One glossary entry.

    Attributes:
        text: the spelling that belongs in the caption.
        sounds_like: other spellings that are pronounced like the term ("ay pixa ban").
        target: the term's translation, used when the task is ``translate``.
        weight: prior odds factor, 1.0 is neutral, 2.0 doubles the odds that the term was said.
        enabled: whether the term is listened for; a disabled one stays in the glossary, silent.
    """

    text: str
    sounds_like: tuple[str, ...] = ()
    target: str | None = None
    weight: float = 1.0
    enabled: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class TermHit:
    """A glossary term the retriever offered to the speech LLM.

    Attributes:
        term: the term's text.
        probability: calibrated probability in [0, 1] that the term was spoken.
        start_sample: where it is thought to begin, None when no span was found.
        end_sample: where it is thought to end (exclusive), None when no span was found.
        used: whether the caption contains the term.
    """

    term: str
    probability: float
    start_sample: int | None = None
    end_sample: int | None = None
    used: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """A written word with its place in the audio; ``text`` carries its leading space, if any."""

    text: str
    start_sample: int
    end_sample: int
    probability: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What was said, beside its translation.

    Attributes:
        text: the transcript of the segment so far; all of it may change until the final.
        language: ISO 639-1 code.
    """

    text: str
    language: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionOptions:
    """What a session asks of the engine; fixed for its life.

    Attributes:
        language: ISO 639-1 code the speaker uses.
        task: ``transcribe`` or ``translate``.
        target_language: ISO 639-1 code of the language to translate into.
        source_text: whether a translation comes with the transcript of what was said.
        top_k: most terms offered to the speech LLM at once; 0 switches retrieval off.
        threshold: least calibrated probability at which a term is offered, or the name of one that
            the retriever brings with it.
    """

    language: str = "en"
    task: Task = "transcribe"
    target_language: str = "en"
    source_text: bool = False
    top_k: int = 10
    threshold: float | Eagerness = "balanced"


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRequest:
    """New audio of the open segment of one session.

    Attributes:
        session: handle returned by ``Engine.open``.
        segment_id: number of the segment; a new number starts a new segment.
        start_sample: index in the session of the segment's first sample (not of ``samples``).
        samples: float32 [n], the segment's audio since the previous step; may be empty.
        final: the segment ends here; its state is dropped after the step.
        committed: text already shown as unchangeable; the hypothesis continues it.
    """

    session: str
    segment_id: int
    start_sample: int
    samples: Samples
    final: bool = False
    committed: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """What the engine makes of the open segment so far.

    Attributes:
        text: the whole hypothesis of the segment, ``committed`` included, stripped.
        words: the words of ``text`` in order, with times and probabilities.
        end_sample: index in the session up to which audio was heard.
        terms: terms offered to the speech LLM, most probable first.
        language: language of ``text``.
        glossary_version: glossary version in force.
        trimmed_terms: offered terms that did not fit into the prompt.
        timings_ms: wall time by stage: encode, retrieve, decode, guard.
        source: of a translation, what was said, where that was asked for.
    """

    session: str
    segment_id: int
    final: bool
    text: str
    words: tuple[Word, ...]
    end_sample: int
    terms: tuple[TermHit, ...]
    language: str
    glossary_version: int
    trimmed_terms: int = 0
    timings_ms: dict[str, float] = field(default_factory=dict)
    source: Source | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GlossaryInfo:
    """Outcome of loading or editing a session's glossary.

    Attributes:
        version: counts up from 1 with each edit.
        terms: number of terms now in force.
        added: terms that were new.
        removed: terms that were taken out.
        rejected: (entry, reason) of entries that were not taken.
        from_sample: index in the session from which on audio is scored with this version: the
            beginning of the open segment, or the end of what was heard.
    """

    version: int
    terms: int
    added: int = 0
    removed: int = 0
    rejected: tuple[tuple[str, str], ...] = ()
    from_sample: int = 0
