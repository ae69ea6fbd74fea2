"""Whisper as speech LLM: prompts, words and languages, on a real recording."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a2p_engine import models
from a2p_engine.audio import read_audio
from a2p_engine.encoders.whisper import WhisperEncoder
from a2p_engine.errors import AudioError, ModelError
from a2p_engine.guard import Guard
from a2p_engine.prompt import SENTENCE, Prompt
from a2p_engine.speech_llm.base import DecodeRequest, TimedWord
from a2p_engine.speech_llm.whisper import WhisperSpeechLLM, _with_punctuation, previous_text
from a2p_engine.types import Samples

RECORDING = Path(__file__).parents[3] / "examples" / "data" / "ward_round.flac"
HZ = 16_000


@pytest.fixture(scope="module")
def encoder() -> WhisperEncoder:
    """Whisper base."""
    return WhisperEncoder(models.find("whisper-base"), device="cpu")


@pytest.fixture(scope="module")
def recording() -> Samples:
    """The ward round."""
    return read_audio(RECORDING)


def _request(encoder: WhisperEncoder, audio: Samples, **changes: Any) -> DecodeRequest:
    """To write the audio down in English, untold."""
    request = DecodeRequest(
        samples=audio,
        encoded=encoder.encode(audio),
        terms=[],
        committed="",
        language="en",
        task="transcribe",
    )
    return replace(request, **changes)


def _text(words: tuple[TimedWord, ...]) -> str:
    return "".join(word.text for word in words).strip()


def test_what_follows_without_a_space_belongs_to_the_word_before() -> None:
    """Commas take no time; the second half of a hyphenated word does; ideographs stay apart."""
    parts = [
        TimedWord(text=text, start_sample=at, end_sample=at + 10, probability=probability)
        for text, at, probability in (
            (" ill", 0, 0.9),
            ("-disposed", 10, 0.5),
            (",", 20, 0.1),
            ("\u4f60", 30, 0.8),
            ("\u597d", 40, 0.7),
        )
    ]
    joined = _with_punctuation(parts)
    assert [word.text for word in joined] == [" ill-disposed,", "\u4f60", "\u597d"]
    assert (joined[0].end_sample, joined[0].probability) == (20, 0.5)


@pytest.mark.parametrize(("start_s", "end_s"), [(7.7, 10.3), (8.4, 9.5), (8.5, 10.0)])
def test_windows_that_make_the_model_loop_come_out_once(
    encoder: WhisperEncoder, recording: Samples, start_s: float, end_s: float
) -> None:
    """Cut in mid-speech, these windows loop in greedy decoding; the caption does not."""
    audio = recording[int(start_s * HZ) : int(end_s * HZ)]
    request = _request(encoder, audio)
    llm = WhisperSpeechLLM("whisper-base", encoder)
    words = Guard().write([], lambda _terms: llm.decode(request)).words
    assert _text(words).casefold().count("sugar is high") == 1


def test_language_is_detected(encoder: WhisperEncoder, recording: Samples) -> None:
    """``auto`` gives the language that was found."""
    audio = recording[: 6 * HZ]
    request = _request(encoder, audio, language="auto")
    assert WhisperSpeechLLM("whisper-base", encoder).decode(request).language == "en"


def test_terms_beyond_the_models_limit_are_trimmed_and_counted(
    encoder: WhisperEncoder, recording: Samples
) -> None:
    """The previous text has room for 223 tokens; the rest is reported, not lost silently."""
    audio = recording[: 3 * HZ]
    request = _request(encoder, audio, terms=[f"levetiracetam{number}" for number in range(100)])
    llm = WhisperSpeechLLM("whisper-base", encoder)
    prompt = llm.decode(request).prompt
    assert prompt.terms == tuple(f"levetiracetam{n}" for n in range(len(prompt.terms)))
    assert 10 < len(prompt.terms) < 100
    assert prompt.trimmed == 100 - len(prompt.terms)
    assert len(llm.tokenize([" " + prompt.text])[0]) <= 223


def test_earlier_text_goes_before_the_terms_and_gives_way_to_them(encoder: WhisperEncoder) -> None:
    """To the token: the marker, the end of what was written before, the terms; 223 in all."""
    llm = WhisperSpeechLLM("whisper-base", encoder)
    tokenizer = llm._tokenizer("en", "transcribe")
    said, terms = "She came in yesterday.", "Glossary: apixaban, INR."
    told = Prompt(text=terms, terms=("apixaban", "INR"), trimmed=0, context=said)
    before, after = tokenizer.encode(" " + said), tokenizer.encode(" " + terms)
    assert previous_text(told, tokenizer) == [tokenizer.sot_prev, *before, *after]
    assert tokenizer.decode(previous_text(told, tokenizer)[1:]) == f" {said} {terms}"
    long = previous_text(replace(told, context=" ".join([said] * 60)), tokenizer)
    assert len(long) == 224 and long[-len(after) :] == after
    assert long[-len(after) - len(before) : -len(after)] == before
    assert previous_text(replace(told, text=""), tokenizer) == [tokenizer.sot_prev, *before]
    assert previous_text(replace(told, text="", context=""), tokenizer) == []


def test_the_wording_of_terms_can_be_another(encoder: WhisperEncoder, recording: Samples) -> None:
    """The prompt that was told is that of the hypothesis; earlier text is kept apart."""
    audio = recording[: 2 * HZ]
    request = _request(encoder, audio, terms=["apixaban"], context="Good morning.")
    prompt = WhisperSpeechLLM("whisper-base", encoder, SENTENCE).decode(request).prompt
    assert (prompt.text, prompt.context) == ("The speaker talks about apixaban.", "Good morning.")


def test_frames_cover_the_audio_and_not_the_padding(encoder: WhisperEncoder) -> None:
    """One frame for every started 20 ms, down to none; too much audio is an error."""
    for samples in (0, 1, 320, 321, HZ):
        frames = encoder.encode(np.zeros(samples, np.float32)).frames
        assert frames.shape == (-(-samples // 320), 512)
    with pytest.raises(AudioError, match="takes 28 s at most"):
        encoder.encode(np.zeros(29 * HZ, np.float32))


def test_weights_that_are_none_are_an_error(tmp_path: Path) -> None:
    """The directory is named."""
    (tmp_path / "model.bin").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="cannot load Whisper weights"):
        WhisperEncoder(tmp_path, device="cpu")


def test_fast_speech_has_room_for_its_words(
    encoder: WhisperEncoder, recording: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight tokens a second may be written, though CTranslate2 halves the length it is given."""
    audio = recording[: 10 * HZ]
    llm = WhisperSpeechLLM("whisper-base", encoder)
    asked: list[int] = []
    write = llm._write

    def watched(window: Any) -> Any:
        asked.append(min(window.most // 2, window.most - window.given.index(50_363) - 1))
        return write(window)

    monkeypatch.setattr(llm, "_write", watched)
    request = _request(encoder, audio, terms=["apixaban"], committed="Good morning")
    llm.decode(request)
    assert asked == [10 * 8 + 16]


def test_untold_it_says_what_else_it_might_have_written(
    encoder: WhisperEncoder, recording: Samples
) -> None:
    """A choice for each token; none where terms were told or the text was given."""
    audio = recording[: 5 * HZ]
    llm = WhisperSpeechLLM("whisper-base", encoder)
    request = _request(encoder, audio)
    words = llm.decode(request).words
    assert len(words) > 5
    for word in words:
        tokens = llm.tokenize([word.text])[0]
        assert [choice.token for choice in word.choices] == tokens
        assert all(
            choice.of(token) == 0 for choice, token in zip(word.choices, tokens, strict=True)
        )
        assert all(-12 <= choice.of(token) <= 0 for choice in word.choices for token in (0, 500))
    first = words[0].choices[0]
    assert any(-12 < first.of(token) < 0 for token in first.log_odds)
    told = llm.decode(replace(request, terms=["apixaban"]))
    assert not any(word.choices for word in told.words)
    begun = llm.decode(replace(request, committed="".join(w.text for w in words[:3]).strip()))
    known = [bool(word.choices) for word in begun.words]
    assert not any(known[:3]) and all(known[3:]) and len(known) > 5
    for word in begun.words[3:]:
        assert all(max(choice.log_odds.values()) == 0 for choice in word.choices)
