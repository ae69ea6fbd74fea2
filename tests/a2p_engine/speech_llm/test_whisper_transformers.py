"""Whisper through transformers and through CTranslate2, from one file: the same answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from faster_whisper.tokenizer import Tokenizer

from a2p_engine import models
from a2p_engine.audio import read_audio
from a2p_engine.encoders.base import Encoded
from a2p_engine.encoders.whisper import WhisperEncoder
from a2p_engine.encoders.whisper_transformers import WhisperTransformersEncoder
from a2p_engine.errors import AudioError, ModelError
from a2p_engine.speech_llm import build_speech_llm
from a2p_engine.speech_llm.base import DecodeRequest
from a2p_engine.speech_llm.whisper import WhisperSpeechLLM
from a2p_engine.types import Samples

RECORDING = Path(__file__).parents[3] / "examples" / "data" / "ward_round.flac"
HZ = 16_000
WINDOWS = [(0, 7), (7.7, 10.3), (3, 12)]


@pytest.fixture(scope="module")
def ours() -> WhisperTransformersEncoder:
    """Through transformers."""
    return WhisperTransformersEncoder(models.find("whisper-base"), device="cpu")


@pytest.fixture(scope="module")
def theirs() -> WhisperEncoder:
    """Through CTranslate2, in the same arithmetic."""
    return WhisperEncoder(models.find("whisper-base"), device="cpu", compute_type="float32")


@pytest.fixture(scope="module")
def recording() -> Samples:
    """The ward round."""
    return read_audio(RECORDING)


def _request(samples: Samples, encoded: Encoded) -> DecodeRequest:
    return DecodeRequest(
        samples=samples,
        encoded=encoded,
        terms=(),
        committed="",
        language="auto",
        task="transcribe",
    )


@pytest.mark.parametrize(("begin_s", "end_s"), WINDOWS)
def test_frames_text_times_and_language_are_the_same(
    ours: WhisperTransformersEncoder,
    theirs: WhisperEncoder,
    recording: Samples,
    begin_s: float,
    end_s: float,
) -> None:
    """With terms, without, and going on from committed text; one window loops in both."""
    samples = recording[int(begin_s * HZ) : int(end_s * HZ)]
    first, second = ours.encode(samples), theirs.encode(samples)
    np.testing.assert_allclose(first.frames, second.frames, atol=2e-3)
    one, other = WhisperSpeechLLM("a", ours), WhisperSpeechLLM("b", theirs)
    for change in ({}, {"terms": ["apixaban", "warfarin"]}, {"committed": "The"}):
        mine = one.decode(replace(_request(samples, first), **change))
        wanted = other.decode(replace(_request(samples, second), **change))
        assert mine.language == wanted.language == "en"
        assert [w.text for w in mine.words] == [w.text for w in wanted.words]
        spans = [[(w.start_sample, w.end_sample) for w in h.words] for h in (mine, wanted)]
        np.testing.assert_allclose(spans[0], spans[1], atol=320)  # a frame, where two cost alike
        np.testing.assert_allclose(
            [w.probability for w in mine.words], [w.probability for w in wanted.words], atol=1e-3
        )
        assert len(mine.words) > 3
        chosen = [[c for w in h.words for c in w.choices] for h in (mine, wanted)]
        assert bool(chosen[0]) == ("terms" not in change)
        for one_choice, other_choice in zip(*chosen, strict=True):
            assert one_choice.token == other_choice.token
            best = max(other_choice.log_odds, key=other_choice.log_odds.__getitem__)
            assert one_choice.of(best) == pytest.approx(other_choice.of(best), abs=0.05)


def test_prompts_of_different_lengths_are_written_together(
    ours: WhisperTransformersEncoder, recording: Samples
) -> None:
    """Rows of a batch do not see each other, nor what pads them."""
    tokenizer = Tokenizer(ours.model.hf_tokenizer, True, task="transcribe", language="en")
    start = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
    told = [tokenizer.sot_prev, *tokenizer.encode(" Glossary: apixaban."), *start]
    windows = [recording[: 7 * HZ], recording[7 * HZ : 14 * HZ]]
    natives = [ours.encode(window).native for window in windows]
    model = ours.model.model
    alone = [
        model.generate(native, [given], max_length=100)[0]
        for native, given in zip(natives, (start, told), strict=True)
    ]
    together = model.generate(ours.join(natives), [start, told], max_length=100)
    for one, other in zip(together, alone, strict=True):
        assert one.sequences_ids == other.sequences_ids
        assert one.scores == pytest.approx(other.scores, abs=1e-3)
        assert one.no_speech_prob == pytest.approx(other.no_speech_prob, abs=1e-3)
    assert alone[0].sequences_ids != alone[1].sequences_ids


def test_it_is_chosen_by_name(recording: Samples) -> None:
    """``whisper-base-transformers``; each tick encodes once."""
    encoder, llm = build_speech_llm("whisper-base-transformers", "cpu", 1)
    assert isinstance(encoder, WhisperTransformersEncoder)
    samples = recording[: 3 * HZ]
    words = llm.decode(_request(samples, encoder.encode(samples))).words
    assert "morning" in "".join(word.text for word in words)
    assert encoder.trace.encodes == 1
    assert llm.token_embeddings().shape == (51_865, encoder.width)


def test_silence_is_no_speech(ours: WhisperTransformersEncoder) -> None:
    """Nothing is written where nobody speaks."""
    samples = np.zeros(2 * HZ, np.float32)
    request = replace(_request(samples, ours.encode(samples)), language="en")
    assert WhisperSpeechLLM("a", ours).decode(request).words == ()


def test_unusable_input_is_a_clear_error(ours: WhisperTransformersEncoder, tmp_path: Path) -> None:
    """Too much audio; a directory without weights."""
    with pytest.raises(AudioError, match="takes 28 s at most"):
        ours.encode(np.zeros(29 * HZ, np.float32))
    with pytest.raises(ModelError, match="cannot read weights"):
        WhisperTransformersEncoder(tmp_path, device="cpu")
