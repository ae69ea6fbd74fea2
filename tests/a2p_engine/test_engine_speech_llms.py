"""The engine with a speech LLM whose encoder is its own: one pass per tick, whoever asks."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from a2p_engine.audio import read_audio
from a2p_engine.encoders.base import AudioEmbeddings, Encoded, going_on
from a2p_engine.encoders.qwen2_audio import OPEN_ROWS, Qwen2AudioEncoder
from a2p_engine.engine import WEIGHTS, Engine, EngineSettings
from a2p_engine.errors import ModelError
from a2p_engine.retriever.attention import AttentionConfig, AttentionRetriever
from a2p_engine.retriever.calibration import Calibration
from a2p_engine.retriever.folded import fold
from a2p_engine.retriever.phoneme_ctc import CTCConfig, PhonemeCTC
from a2p_engine.retriever.pronunciation import Pronouncer
from a2p_engine.retriever.retriever import Retriever
from a2p_engine.retriever.spotter import MatchCosts
from a2p_engine.speech_llm.base import DecodeRequest, Hypothesis
from a2p_engine.speech_llm.qwen2_audio import Qwen2AudioSpeechLLM
from a2p_engine.types import Samples, SessionOptions, StepRequest, StepResult, Term
from tests.a2p_engine.speech_llm import tiny

RECORDING = Path(__file__).parents[2] / "examples" / "data" / "ward_round.flac"
TOKENIZER = tiny.tokenizer()
HALF_SECOND = 8_000


def _speech_llm() -> tuple[Qwen2AudioEncoder, Qwen2AudioSpeechLLM]:
    model = tiny.qwen2_audio(TOKENIZER)
    inner = model.model
    encoder = Qwen2AudioEncoder(inner.audio_tower, inner.multi_modal_projector, name="tiny")
    return encoder, Qwen2AudioSpeechLLM(model, TOKENIZER, encoder)


def _retriever(llm: Qwen2AudioSpeechLLM) -> Retriever:
    """Untrained heads on frames of width 32, 25 a second."""
    torch.manual_seed(1)
    return Retriever(
        head=fold(AttentionRetriever(AttentionConfig(width=32, heads=4)).eval()),
        ctc=PhonemeCTC(CTCConfig(frame_width=32, pool=1, width=16, groups=2)).eval(),
        calibration=Calibration.load(WEIGHTS / "whisper-base-en" / "calibration.json"),
        costs=MatchCosts(),
        embeddings=torch.from_numpy(llm.token_embeddings()),
        tokenize=llm.tokenize,
        pronouncer=Pronouncer(),
    )


def _step(engine: Engine, session: str, tick: int, *, final: bool = False) -> StepResult:
    samples = read_audio(RECORDING)[16_000:]
    begin = tick * HALF_SECOND
    return engine.step(
        StepRequest(
            session=session,
            segment_id=0,
            samples=samples[begin : begin + HALF_SECOND],
            start_sample=0,
            final=final,
            committed="",
        )
    )


def _whole(engine: Engine, session: str) -> StepResult:
    """All that eight steps bring, in one."""
    samples = read_audio(RECORDING)[16_000:][: 8 * HALF_SECOND]
    return engine.step(
        StepRequest(
            session=session,
            segment_id=0,
            samples=samples,
            start_sample=0,
            final=True,
            committed="",
        )
    )


def _hypothesis(llm: Qwen2AudioSpeechLLM, samples: Samples, encoded: Encoded) -> Hypothesis:
    return llm.decode(
        DecodeRequest(
            samples=samples,
            encoded=encoded,
            terms=("heparin",),
            committed="",
            language="en",
            task="transcribe",
        )
    )


def test_retriever_and_speech_llm_share_one_encoder_pass_per_tick() -> None:
    """Twelve frames more each tick, encoded once, however often the guard has it decoded."""
    encoder, llm = _speech_llm()
    engine = Engine(encoder=encoder, speech_llm=llm, new_retriever=lambda: _retriever(llm))
    options = SessionOptions(language="en", threshold=0.0, top_k=3)
    session, info = engine.open(options, [Term(text="apixaban"), Term(text="heparin")])
    assert (info.terms, info.rejected) == (2, ())
    for tick in range(4):
        before = encoder.trace.copy()
        result = _step(engine, session, tick, final=tick == 3)
        done = encoder.trace - before
        assert done.encodes == 1
        assert done.encoded_frames == -(-(tick + 1) * HALF_SECOND // 640)
        # Neither is probable, and so waits for the second tick.
        assert bool({hit.term for hit in result.terms} & {"apixaban", "heparin"}) == (tick > 0)
        assert result.text


def test_audio_is_read_once_but_for_its_end_until_the_final() -> None:
    """What is two seconds old is neither embedded nor read again; a final is what a file gives."""
    encoder, llm = _speech_llm()
    engine = Engine(encoder=encoder, speech_llm=llm, new_retriever=None)
    session, _ = engine.open(SessionOptions(language="en"))
    read: list[int] = []
    for tick in range(8):
        before = encoder.trace.copy()
        live = _step(engine, session, tick, final=tick == 7)
        read.append((encoder.trace - before).reused_tokens)
    frames = [-(-(tick + 1) * HALF_SECOND // 640) for tick in range(8)]
    text_before = read[1]
    assert read[0] == 0 < text_before  # the first tick reads what all others share
    settled = [max(0, heard - OPEN_ROWS) for heard in frames]
    assert read[1:-1] == [text_before + rows for rows in settled[:-2]]
    assert settled[-3] > 0
    assert read[-1] == text_before  # of the final no audio was read before
    session, _ = engine.open(SessionOptions(language="en"))
    assert _whole(engine, session).text == live.text


def test_audio_that_was_read_before_reads_as_if_it_were_read_now() -> None:
    """Kept keys and values change nothing; what is kept of earlier passes is their rows."""
    encoder, llm = _speech_llm()
    speech = read_audio(RECORDING)[16_000:]
    earlier: Encoded | None = None
    for samples in (speech[: 16_000 * seconds] for seconds in (2, 3, 4)):
        fresh = encoder.encode(samples)
        joined = going_on(fresh, earlier, final=False)
        rows, settled = joined.native.rows, joined.native.settled
        if earlier is not None:
            assert torch.equal(rows[:settled], earlier.native.rows[:settled])
            assert torch.equal(rows[settled:], fresh.native.rows[settled:])
        anew = Encoded(frames=fresh.frames, native=AudioEmbeddings(rows.clone()))
        kept, again = (_hypothesis(llm, samples, encoded) for encoded in (joined, anew))
        assert kept.text == again.text
        assert [word.probability for word in kept.words] == pytest.approx(
            [word.probability for word in again.words], rel=1e-4
        )
        earlier = joined
    assert settled == 25  # of three seconds all but the last two
    assert not torch.equal(rows, fresh.native.rows)


def test_without_retriever_weights_captions_go_on_and_terms_are_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each term is told why, the log says it once, and an index is an error."""
    monkeypatch.setattr("a2p_engine.engine.build_speech_llm", lambda *_: _speech_llm())
    with caplog.at_level(logging.WARNING):
        engine = Engine.load(EngineSettings(speech_llm="qwen2-audio"))
    assert caplog.text.count("no retriever is shipped for its encoder") == 1
    session, info = engine.open(SessionOptions(language="en"), [Term(text="apixaban")])
    assert info.terms == 0
    assert [term for term, _ in info.rejected] == ["apixaban"]
    assert "--retriever" in info.rejected[0][1]
    assert _step(engine, session, 0, final=True).text
    with pytest.raises(ModelError, match="--retriever"):
        engine.load_index(Path("any.a2pi"))
