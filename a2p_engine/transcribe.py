"""What a speech LLM writes without being told, as evidence for retrieval."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from a2p_engine.encoders.base import Encoded
from a2p_engine.retriever.transcript import Transcript, WrittenWord
from a2p_engine.speech_llm.base import DecodeRequest, SpeechLLM, TimedWord
from a2p_engine.text import occurrences
from a2p_engine.types import SAMPLE_RATE_HZ, Samples

FRAME_SAMPLES = SAMPLE_RATE_HZ // 25  # of the retriever


def first_transcript(
    decoder: SpeechLLM, samples: Samples, encoded: Encoded, language: str = "en"
) -> Transcript:
    """Decode without terms.

    Args:
        decoder: the speech LLM.
        samples: float32 [n], 16 kHz.
        encoded: the encoder's pass over them.
        language: ISO 639-1 code, or ``auto``.
    """
    hypothesis = decoder.decode(
        DecodeRequest(
            samples=samples,
            encoded=encoded,
            terms=(),
            committed="",
            language=language,
            task="transcribe",
        )
    )
    return transcript_of(hypothesis.words, len(samples))


def updated(
    before: Transcript | None,
    words: Sequence[TimedWord],
    *,
    told: Sequence[str],
    samples: int,
) -> Transcript:
    """The transcript after another hypothesis of the same segment.

    A term that was told and is written proves nothing: where it stands, what was written there
    before it was told stays. What else might have been written is known from before the prompt.

    Args:
        before: the transcript so far.
        words: of the new hypothesis.
        told: terms that were in its prompt.
        samples: length of the segment by now.
    """
    texts = [word.text for word in words]
    prompted = {place for term in told for run in occurrences(texts, term) for place in run}
    fresh = transcript_of(words, samples, prompted)
    earlier = [word for word in before.words if not word.told] if before else []
    kept: list[WrittenWord] = []
    for word in fresh.words:
        stood = [old for old in earlier if _inside(old, word)] if word.told else []
        kept += [old for old in stood if old not in kept] if stood else [_weighed(word, earlier)]
    return Transcript(words=tuple(kept), frames=fresh.frames)


def _weighed(word: WrittenWord, earlier: Sequence[WrittenWord]) -> WrittenWord:
    """With the choices of the same word before, if it has none of its own."""
    if word.choices:
        return word
    same = (old for old in earlier if old.text == word.text and _inside(old, word))
    return replace(word, choices=next((old.choices for old in same), ()))


def _inside(old: WrittenWord, word: WrittenWord) -> bool:
    """Whether most of a word's audio is another one's."""
    shared = min(old.end, word.end) - max(old.start, word.start)
    return 2 * shared > old.end - old.start


def transcript_of(
    words: Sequence[TimedWord], samples: int, told: Collection[int] = ()
) -> Transcript:
    """A hypothesis as the retriever reads it.

    Args:
        words: with times in samples.
        samples: length of the segment they cover.
        told: places of words that belong to prompted terms.
    """
    return Transcript(
        words=tuple(
            WrittenWord(
                text=word.text,
                start=word.start_sample // FRAME_SAMPLES,
                end=-(-word.end_sample // FRAME_SAMPLES),
                probability=word.probability,
                told=place in told,
                choices=word.choices,
            )
            for place, word in enumerate(words)
        ),
        frames=-(-samples // FRAME_SAMPLES),
    )
