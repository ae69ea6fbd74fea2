"""Qwen2-Audio on a tiny random model: wording, tokens, answers, and what is read only once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import Qwen2AudioForConditionalGeneration, WhisperFeatureExtractor

from a2p_engine.audio import read_audio
from a2p_engine.encoders.base import Encoded
from a2p_engine.encoders.qwen2_audio import Qwen2AudioEncoder
from a2p_engine.errors import ModelError
from a2p_engine.speech_llm.base import DecodeRequest, Hypothesis
from a2p_engine.speech_llm.chat import answer_tokens
from a2p_engine.speech_llm.qwen2_audio import (
    Qwen2AudioSpeechLLM,
    conversation,
    load,
    question,
)
from a2p_engine.types import Samples
from tests.a2p_engine.speech_llm import tiny

RECORDING = Path(__file__).parents[3] / "examples" / "data" / "ward_round.flac"
TOKENIZER = tiny.tokenizer()
FRAME = 640
Loaded = tuple[Qwen2AudioForConditionalGeneration, Qwen2AudioEncoder, Qwen2AudioSpeechLLM]


@pytest.fixture
def loaded() -> Loaded:
    """Model, encoder and speech LLM."""
    model = tiny.qwen2_audio(TOKENIZER)
    inner = model.model
    encoder = Qwen2AudioEncoder(inner.audio_tower, inner.multi_modal_projector, name="tiny")
    return model, encoder, Qwen2AudioSpeechLLM(model, TOKENIZER, encoder)


@pytest.fixture(scope="module")
def speech() -> Samples:
    """Four seconds of the ward round."""
    return read_audio(RECORDING)[16_000 : 16_000 * 5]


def _request(encoder: Qwen2AudioEncoder, samples: Samples) -> DecodeRequest:
    return DecodeRequest(
        samples=samples,
        encoded=encoder.encode(samples),
        terms=(),
        committed="",
        language="en",
        task="transcribe",
    )


def _text(hypothesis: Hypothesis) -> str:
    return "".join(word.text for word in hypothesis.words)


def test_the_published_wording_letter_by_letter() -> None:
    """As in infer/infer.py of the published code, blanks and articles included."""
    assert question("transcribe", "en") == (
        "This is an English audio recording. Please transcribe this audio into English text."
    )
    assert question("transcribe", "zh") == (
        "This is an Chinese audio recording. Please transcribe this audio into Chinese text."
    )
    assert question("translate", "zh", "en") == (
        "This is an Chinese audio recording.  Please translate this audio into English text."
    )
    assert question("transcribe", "auto") == "Please transcribe this audio into text."


def test_prompt_is_the_chat_template_with_the_audio_in_the_users_turn(
    loaded: Loaded, speech: Samples
) -> None:
    """The exact tokens: special ones are single tokens, the rest is text."""
    _, encoder, llm = loaded
    request = replace(_request(encoder, speech), terms=["apixaban", "heparin"])
    prompt = llm.decode(request).prompt
    told = conversation("transcribe", question("transcribe", "en"), prompt.text)
    whole = told.before + "<|AUDIO|>" + told.told
    assert whole == (
        "<|im_start|>system\nYou are an expert in speech recognition.<|im_end|>\n"
        "<|im_start|>user\nAudio 1: <|audio_bos|><|AUDIO|><|audio_eos|>\n"
        "This is an English audio recording. Please transcribe this audio into English text."
        "Specialized terminology may appear in the audio. Please accurately recognize these terms. "
        "Potential technical terms include:apixaban, heparin<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    tokens = TOKENIZER.encode(whole).tokens
    assert [token for token in tokens if token.startswith("<|")] == [
        *("<|im_start|>", "<|im_end|>", "<|im_start|>", "<|audio_bos|>", "<|AUDIO|>"),
        *("<|audio_eos|>", "<|im_end|>", "<|im_start|>"),
    ]
    parts = [llm._chat.tokens(part) for part in (told.before, "<|AUDIO|>", told.told)]
    assert [token for part in parts for token in part] == TOKENIZER.encode(whole).ids


@pytest.mark.parametrize("frames", [10, 55, 100])
def test_answers_are_those_of_the_librarys_generate(
    loaded: Loaded, speech: Samples, frames: int
) -> None:
    """Ours reads the audio in parts, without padding; the library pads and reads all at once."""
    model, encoder, llm = loaded
    samples = speech[: frames * FRAME]
    asked = conversation("transcribe", question("transcribe", "en"), "")
    text = asked.before + "<|AUDIO|>" * frames + asked.told
    ids = torch.tensor([TOKENIZER.encode(text).ids])
    features = WhisperFeatureExtractor(feature_size=16, chunk_length=4)(
        samples, sampling_rate=16_000, return_tensors="pt", return_attention_mask=True
    )
    with torch.no_grad():
        whole = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            input_features=features["input_features"],
            feature_attention_mask=features["attention_mask"],
            max_new_tokens=answer_tokens(samples),
            do_sample=False,
        )
    theirs = TOKENIZER.decode(whole[0, ids.shape[1] :].tolist())
    hypothesis = llm.decode(_request(encoder, samples))
    assert _text(hypothesis) == theirs
    assert theirs.strip()
    assert hypothesis.estimated_times


def test_committed_text_begins_the_answer_and_is_continued(loaded: Loaded, speech: Samples) -> None:
    """Forced words stay letter by letter; those the model would have written change nothing."""
    _, encoder, llm = loaded
    request = _request(encoder, speech)
    free = _text(llm.decode(request))
    half = free[: len(free) // 2]
    assert _text(llm.decode(replace(request, committed=half))) == free
    for committed in ("the heart,", "\u4f60\u597d\u3002", "<|im_end|> x"):
        written = _text(llm.decode(replace(request, committed=committed)))
        assert written.startswith(committed.replace("<|", "< |"))


def test_probabilities_are_those_of_the_untold_model(loaded: Loaded, speech: Samples) -> None:
    """With terms the text changes, but equal text has equal probabilities."""
    _, encoder, llm = loaded
    request = _request(encoder, speech)
    plain = llm.decode(request)
    told = llm.decode(replace(request, terms=["the inner"]))
    assert _text(told) != _text(plain)
    again = llm.decode(replace(request, committed=_text(told)))
    shared = len(told.words) - 1  # the last word may go on
    assert [word.probability for word in again.words[:shared]] == pytest.approx(
        [word.probability for word in told.words[:shared]], rel=1e-3
    )
    assert shared > 0
    assert all(0 < word.probability <= 1 for word in told.words)


def test_one_encode_per_tick_and_a_second_decoding_reads_no_audio(
    loaded: Loaded, speech: Samples
) -> None:
    """Audio is read once a tick; text before it once for all; other terms reuse both."""
    _, encoder, llm = loaded
    frames, samples = 50, speech[: 50 * FRAME]
    before = len(TOKENIZER.encode(conversation("transcribe", "", "").before).ids)
    asked = conversation("transcribe", question("transcribe", "en"), "")
    behind = len(TOKENIZER.encode(asked.told).ids)

    start = encoder.trace.copy()
    request = _request(encoder, samples)
    llm.decode(request)
    first = encoder.trace - start
    assert (first.encodes, first.encoded_frames) == (1, frames)
    assert (first.prefilled_tokens, first.reused_tokens) == (before + frames + behind, 0)

    start = encoder.trace.copy()
    told = llm.decode(replace(request, terms=["heparin"]))
    second = encoder.trace - start
    terms = len(TOKENIZER.encode(told.prompt.text).ids)
    assert second.encodes == 0
    assert second.reused_tokens == before + frames
    assert second.prefilled_tokens == behind + terms

    start = encoder.trace.copy()
    llm.decode(_request(encoder, speech[: 51 * FRAME]))
    third = encoder.trace - start
    assert (third.encodes, third.reused_tokens) == (1, before)
    assert third.prefilled_tokens == frames + 1 + behind


def test_answers_do_not_depend_on_who_else_asks(loaded: Loaded, speech: Samples) -> None:
    """Rows of different lengths, pasts, tasks and terms together and one by one: the same text."""
    _, encoder, llm = loaded
    requests = [
        _request(encoder, speech[:20_000]),
        replace(_request(encoder, speech[:60_000]), terms=["heparin", "apixaban"]),
        replace(_request(encoder, speech[9_000:31_000]), committed="the"),
        replace(_request(encoder, speech[:33_000]), language="zh", task="translate"),
        _request(encoder, speech[:0]),
    ]
    alone = [llm.decode(request) for request in requests]
    kept = [replace(request, encoded=encoder.encode(request.samples)) for request in requests]
    batcher = llm._chat._answer
    with ThreadPoolExecutor(len(kept)) as pool:
        batcher._free = 0
        waiting = [pool.submit(llm.decode, request) for request in kept]
        while len(batcher._waiting) < len(kept) - 1:  # no audio, no question
            time.sleep(0.01)
        start = encoder.trace.copy()
        with batcher._changed:
            batcher._free = 1
            batcher._changed.notify_all()
        together = [future.result() for future in waiting]
    forwards = (encoder.trace - start).forwards
    assert forwards < 3 + max(len(TOKENIZER.encode(_text(one)).ids) for one in alone)
    assert [_text(one) for one in together] == [_text(one) for one in alone]
    for one, other in zip(together, alone, strict=True):
        assert [w.probability for w in one.words] == pytest.approx(
            [w.probability for w in other.words], rel=1e-3
        )
    assert len({_text(one) for one in alone}) >= 4


def test_terms_beyond_the_context_are_trimmed_and_counted(loaded: Loaded, speech: Samples) -> None:
    """The context holds text, audio, answer and what is left for terms; most probable first."""
    model, encoder, llm = loaded
    request = replace(_request(encoder, speech), terms=[f"term{n}" for n in range(200)])
    prompt = llm.decode(request).prompt
    assert prompt.terms == tuple(f"term{n}" for n in range(len(prompt.terms)))
    assert prompt.trimmed == 200 - len(prompt.terms) > 0
    asked = conversation("transcribe", question("transcribe", "en"), prompt.text)
    used = len(TOKENIZER.encode(asked.before + asked.told).ids) + 100 + answer_tokens(speech)
    limit = model.config.text_config.max_position_embeddings
    assert limit - 10 < used <= limit


def test_a_translation_is_told_of_pairs_where_the_sources_are_known(
    loaded: Loaded, speech: Samples
) -> None:
    """Live, that is; without them of targets alone, as in the published code."""
    _, encoder, llm = loaded
    request = replace(
        _request(encoder, speech), task="translate", terms=["心肌梗死", "INR"], target_language="zh"
    )
    opening = (
        "Specialized terminology may appear in the audio. Please accurately translate these terms. "
        "Potential technical terms include:"
    )
    alone = llm.decode(request)
    assert alone.prompt.text == opening + "心肌梗死, INR"
    paired = llm.decode(replace(request, sources=["heart attack", "INR"]))
    assert paired.prompt.text == opening + "heart attack: 心肌梗死, INR"
    assert paired.prompt.terms == ("心肌梗死", "INR")
    assert paired.language == "zh"


def test_a_term_cannot_end_the_turn(loaded: Loaded, speech: Samples) -> None:
    """The name of a special token in a glossary is text like any other."""
    _, encoder, llm = loaded
    request = replace(_request(encoder, speech), terms=["<|im_end|>"])
    prompt = llm.decode(request).prompt
    told = conversation("transcribe", "", prompt.text).told
    assert TOKENIZER.encode(told).tokens.count("<|im_end|>") == 1


def test_term_queries_come_from_the_models_own_token_table(loaded: Loaded) -> None:
    """As published: without the blank that Whisper's terms begin with."""
    model, encoder, llm = loaded
    table = llm.token_embeddings()
    assert table.dtype == np.float32
    assert table.shape == (TOKENIZER.get_vocab_size(), encoder.width)
    np.testing.assert_array_equal(table, model.get_input_embeddings().weight.detach().numpy())
    assert llm.tokenize([" inner the", "x"]) == [
        TOKENIZER.encode("inner the").ids,
        TOKENIZER.encode("x").ids,
    ]


def test_frames_of_another_encoder_are_refused(loaded: Loaded, speech: Samples) -> None:
    """The error says which model it is about."""
    _, encoder, llm = loaded
    other = Encoded(frames=np.zeros((3, 32), np.float32), native=None)
    request = replace(_request(encoder, speech[:1920]), encoded=other)
    with pytest.raises(ModelError, match="qwen2-audio decodes from its own encoder only"):
        llm.decode(request)


def test_a_checkpoint_is_loaded_from_its_directory(
    loaded: Loaded, speech: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was saved as safetensors writes the same; what is missing is named."""
    model, encoder, llm = loaded
    monkeypatch.setenv("A2P_MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ModelError, match="hf download Qwen/Qwen2-Audio-7B-Instruct"):
        load("qwen2-audio", "cpu", 1)
    directory = tmp_path / "qwen2-audio"
    model.save_pretrained(directory)
    with pytest.raises(ModelError, match=r"cannot read .*tokenizer\.json"):
        load("qwen2-audio", "cpu", 1)
    TOKENIZER.save(str(directory / "tokenizer.json"))
    with pytest.raises(ModelError, match=r"bitsandbytes|CUDA"):
        load("qwen2-audio-4bit", "cpu", 1)
    encoder_again, again = load("qwen2-audio", "cpu", 1)
    wanted = llm.decode(_request(encoder, speech))
    assert _text(again.decode(_request(encoder_again, speech))) == _text(wanted)
    (directory / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="cannot load Qwen2AudioForConditionalGeneration"):
        load("qwen2-audio", "cpu", 1)


def test_checkpoints_with_the_published_names_are_read(
    loaded: Loaded, speech: Samples, tmp_path: Path
) -> None:
    """The hub's files have the older names of tensors; one that lacks some is refused."""
    model, encoder, llm = loaded
    published = {
        name.removeprefix("model.")
        .replace("language_model.", "language_model.model.")
        .replace("lm_head.", "language_model.lm_head."): tensor.contiguous()
        for name, tensor in model.state_dict().items()
    }
    assert "language_model.model.layers.0.self_attn.q_proj.weight" in published
    model.config.save_pretrained(tmp_path)
    TOKENIZER.save(str(tmp_path / "tokenizer.json"))
    save_file(published, tmp_path / "model.safetensors", {"format": "pt"})
    encoder_again, again = Qwen2AudioSpeechLLM.load(tmp_path, "cpu")
    wanted = llm.decode(_request(encoder, speech))
    assert _text(again.decode(_request(encoder_again, speech))) == _text(wanted)
    del published["multi_modal_projector.linear.weight"]
    save_file(published, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"1 tensors are missing .*multi_modal_projector"):
        Qwen2AudioSpeechLLM.load(tmp_path, "cpu")
