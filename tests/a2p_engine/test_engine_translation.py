"""Translation on real weights and Spanish speech: the target's words, what was said beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from a2p_engine.audio import read_audio
from a2p_engine.encoders.base import Encoded
from a2p_engine.engine import Engine, EngineSettings
from a2p_engine.errors import InputError
from a2p_engine.speech_llm import DecodeRequest, Hypothesis
from a2p_engine.types import Samples, SessionOptions, StepRequest, StepResult, Term

DATA = Path(__file__).parents[1] / "data" / "translation"
TRANSLATE = SessionOptions(language="es", task="translate", source_text=True)
COURT = Term(text="Tribunal Supremo", target="Supreme Court")


@pytest.fixture(scope="module")
def engine() -> Engine:
    """Whisper base and the shipped retriever."""
    return Engine.load(EngineSettings(device="cpu", workers=1))


@pytest.fixture(scope="module")
def spanish() -> Samples:
    """Mi hermano trabaja en el Tribunal Supremo desde hace diez años..."""
    return read_audio(DATA / "es-court.flac")


@pytest.fixture
def requests(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[DecodeRequest]:
    """What the speech LLM was asked."""
    seen: list[DecodeRequest] = []
    decode = engine._speech_llm.decode

    def listen(request: DecodeRequest) -> Hypothesis:
        seen.append(request)
        return decode(request)

    monkeypatch.setattr(engine._speech_llm, "decode", listen)
    return seen


@pytest.fixture
def hears_spanish(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the retriever had been trained on Spanish; it offers everything at threshold 0."""
    monkeypatch.setattr(engine._speech_llm, "retriever_languages", ("en", "es"))


def _hear(
    engine: Engine,
    options: SessionOptions,
    audio: Samples,
    terms: tuple[Term, ...] = (),
    committed: str = "",
) -> StepResult:
    session, _ = engine.open(options, terms)
    return engine.step(
        StepRequest(
            session=session,
            segment_id=0,
            start_sample=0,
            samples=audio,
            final=True,
            committed=committed,
        )
    )


def test_a_translation_comes_with_what_was_said(
    engine: Engine,
    spanish: Samples,
    requests: list[DecodeRequest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two decodings of one pass of the encoder; each text has its language."""
    passes: list[Encoded] = []
    encode = engine._encoder.encode

    def count(samples: Samples) -> Encoded:
        passes.append(encode(samples))
        return passes[-1]

    monkeypatch.setattr(engine._encoder, "encode", count)
    result = _hear(engine, TRANSLATE, spanish)
    assert result.text.startswith("My brother works in the Supreme Court")
    assert result.language == "en"
    assert "".join(word.text for word in result.words).strip() == result.text
    assert result.source is not None
    assert result.source.text.startswith("Mi hermano trabaja en el Tribunal Supremo")
    assert result.source.language == "es"
    assert [request.task for request in requests] == ["transcribe", "translate"]
    assert len(passes) == 1 and all(request.encoded is passes[0] for request in requests)


def test_the_spoken_language_may_be_detected(engine: Engine, spanish: Samples) -> None:
    """``auto`` tells which it was."""
    result = _hear(engine, replace(TRANSLATE, language="auto"), spanish)
    assert result.source is not None and result.source.language == "es"
    assert result.language == "en"


def test_what_was_said_is_written_only_where_it_is_asked_for(
    engine: Engine, spanish: Samples, requests: list[DecodeRequest]
) -> None:
    """A translation alone is one decoding; a transcript is no source of itself."""
    assert _hear(engine, replace(TRANSLATE, source_text=False), spanish).source is None
    assert [request.task for request in requests] == ["translate"]
    assert _hear(engine, replace(TRANSLATE, task="transcribe"), spanish).source is None


def test_committed_words_are_the_translations(
    engine: Engine, spanish: Samples, requests: list[DecodeRequest]
) -> None:
    """What was said is written afresh, the translation goes on from what is shown."""
    result = _hear(engine, TRANSLATE, spanish, committed="My brother is employed")
    assert result.text.startswith("My brother is employed")
    assert result.source is not None and result.source.text.startswith("Mi hermano")
    assert [request.committed for request in requests] == ["", "My brother is employed"]


@pytest.mark.usefixtures("hears_spanish")
def test_a_translation_is_told_targets_and_a_transcript_sources(
    engine: Engine, spanish: Samples, requests: list[DecodeRequest]
) -> None:
    """Each is told what it has to write; found by its source, a term is used as its target."""
    result = _hear(engine, replace(TRANSLATE, threshold=0.0), spanish, (COURT,))
    told = [(request.task, list(request.terms), list(request.sources)) for request in requests]
    said = ["Tribunal Supremo"]
    # A segment that ends unread is first read untold; it says the term, so it is told.
    assert told[0] == ("transcribe", [], [])
    assert told[1:] == [("transcribe", said, said), ("translate", ["Supreme Court"], said)]
    assert result.text.startswith("My brother works in the Supreme Court")
    assert [(hit.term, hit.used) for hit in result.terms] == [("Tribunal Supremo", True)]
    assert result.source is not None and "Tribunal Supremo" in result.source.text


def test_a_language_that_is_not_heard_has_no_terms(engine: Engine, spanish: Samples) -> None:
    """The shipped retriever was trained on English: each term is rejected, and told why."""
    _, info = engine.open(TRANSLATE, [COURT])
    assert info.terms == 0
    assert info.rejected == (
        ("Tribunal Supremo", "terms are heard in en only; captions go on without them"),
    )


def test_a_language_that_cannot_be_written_is_refused(engine: Engine) -> None:
    """Whisper translates into English alone; it need not to transcribe."""
    german = replace(TRANSLATE, target_language="de")
    with pytest.raises(InputError, match="whisper-base does not translate into 'de'; accepted: en"):
        engine.open(german)
    engine.open(replace(german, task="transcribe"))
