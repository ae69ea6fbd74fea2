"""Qwen3-ASR on a tiny random model: tokens, answers, languages, and what is told of terms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen3ASRFeatureExtractor, Qwen3ASRForConditionalGeneration
from transformers.models.qwen3_asr.processing_qwen3_asr import LANGUAGE_CODE_TO_NAME

from a2p_engine.audio import read_audio
from a2p_engine.encoders.base import Encoded, going_on
from a2p_engine.encoders.qwen3_asr import OPEN_ROWS, Qwen3ASREncoder
from a2p_engine.errors import InputError, ModelError
from a2p_engine.speech_llm import build_speech_llm
from a2p_engine.speech_llm import plan as planning
from a2p_engine.speech_llm.base import DecodeRequest, Hypothesis
from a2p_engine.speech_llm.chat import answer_tokens
from a2p_engine.speech_llm.qwen3_asr import (
    LANGUAGES,
    Qwen3ASRSpeechLLM,
    answer_beginning,
    conversation,
)
from a2p_engine.speech_llm.shapes import Shape, find
from a2p_engine.types import Samples
from tests.a2p_engine.speech_llm import tiny

RECORDING = Path(__file__).parents[3] / "examples" / "data" / "ward_round.flac"
TOKENIZER = tiny.qwen3_tokenizer()
ENGLISH = answer_beginning("English")
Loaded = tuple[Qwen3ASRForConditionalGeneration, Qwen3ASREncoder, Qwen3ASRSpeechLLM]


@pytest.fixture
def loaded() -> Loaded:
    """Model, encoder and speech LLM."""
    model = tiny.qwen3_asr(TOKENIZER)
    encoder = Qwen3ASREncoder(model.model, name="tiny")
    return model, encoder, Qwen3ASRSpeechLLM(model, TOKENIZER, encoder)


@pytest.fixture(scope="module")
def speech() -> Samples:
    """Four seconds of the ward round."""
    return read_audio(RECORDING)[16_000 : 16_000 * 5]


def _request(encoder: Qwen3ASREncoder, samples: Samples) -> DecodeRequest:
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


@torch.no_grad()
def _theirs(
    model: Qwen3ASRForConditionalGeneration, samples: Samples, terms: str, tokens: int
) -> str:
    """The library's ``generate`` for its own chat, in one piece."""
    found = Qwen3ASRFeatureExtractor(feature_size=16)(
        samples, sampling_rate=16_000, padding="longest", return_attention_mask=True
    )
    mel, mask = found["input_features"], found["attention_mask"]
    heard = model.get_audio_features(mel, mask, return_dict=True).pooler_output
    text = (
        f"<|im_start|>system\n{terms}<|im_end|>\n<|im_start|>user\n<|audio_start|>"
        + "<|audio_pad|>" * len(heard)
        + "<|audio_end|><|im_end|>\n<|im_start|>assistant\nlanguage English<asr_text>"
    )
    ids = torch.tensor([TOKENIZER.encode(text).ids])
    whole = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        input_features=mel,
        input_features_mask=mask,
        max_new_tokens=tokens,
        do_sample=False,
    )
    return TOKENIZER.decode(whole[0, ids.shape[1] :].tolist())


def test_languages_are_those_of_the_model() -> None:
    """All names that it was trained with, by their codes."""
    assert LANGUAGES == LANGUAGE_CODE_TO_NAME
    assert Qwen3ASRSpeechLLM.languages == tuple(LANGUAGES)


def test_terms_are_the_system_message_and_the_answer_names_the_language(
    loaded: Loaded, speech: Samples
) -> None:
    """The exact tokens, the same in parts as in one piece."""
    _, encoder, llm = loaded
    request = replace(_request(encoder, speech), terms=["apixaban", "heparin"])
    told = conversation(llm.decode(request).prompt.text, ENGLISH)
    whole = told.before + "<|audio_pad|>" + told.told
    assert whole == (
        "<|im_start|>system\napixaban, heparin<|im_end|>\n"
        "<|im_start|>user\n<|audio_start|><|audio_pad|><|audio_end|><|im_end|>\n"
        "<|im_start|>assistant\nlanguage English<asr_text>"
    )
    marks = [token for token in TOKENIZER.encode(whole).tokens if token.startswith("<")]
    assert marks == [
        *("<|im_start|>", "<|im_end|>", "<|im_start|>", "<|audio_start|>", "<|audio_pad|>"),
        *("<|audio_end|>", "<|im_end|>", "<|im_start|>", "<asr_text>"),
    ]
    parts = [llm._chat.tokens(part) for part in (told.before, "<|audio_pad|>", told.told)]
    assert [token for part in parts for token in part] == TOKENIZER.encode(whole).ids


@pytest.mark.parametrize("samples", [9_600, 35_200, 64_000])
@pytest.mark.parametrize("terms", [(), ("the inner",), ("apixaban", "heparin")])
def test_answers_are_those_of_the_librarys_generate(
    loaded: Loaded, speech: Samples, samples: int, terms: tuple[str, ...]
) -> None:
    """With terms and without, though the audio is read in parts."""
    model, encoder, llm = loaded
    window = speech[:samples]
    theirs = _theirs(model, window, ", ".join(terms), answer_tokens(window))
    hypothesis = llm.decode(replace(_request(encoder, window), terms=terms))
    assert _text(hypothesis) == theirs
    assert theirs.strip()
    assert hypothesis.estimated_times
    assert hypothesis.language == "en"


def test_committed_text_begins_the_answer_and_is_continued(loaded: Loaded, speech: Samples) -> None:
    """Forced words stay; those the model would have written change nothing."""
    _, encoder, llm = loaded
    request = _request(encoder, speech)
    free = _text(llm.decode(request))
    assert _text(llm.decode(replace(request, committed=free[: len(free) // 2]))) == free
    for committed in ("the heart,", "你好。"):
        assert _text(llm.decode(replace(request, committed=committed))).startswith(committed)


def test_probabilities_are_those_of_the_untold_model(loaded: Loaded, speech: Samples) -> None:
    """Terms before the audio change the text, but equal text has equal probabilities."""
    _, encoder, llm = loaded
    request = _request(encoder, speech)
    told = llm.decode(replace(request, terms=["the inner"]))
    assert _text(told) != _text(llm.decode(request))
    again = llm.decode(replace(request, committed=_text(told)))
    shared = len(told.words) - 1  # the last word may go on
    assert shared > 0
    assert [word.probability for word in again.words[:shared]] == pytest.approx(
        [word.probability for word in told.words[:shared]], rel=1e-3
    )


def test_audio_is_read_once_untold_and_once_for_each_list_of_terms(
    loaded: Loaded, speech: Samples
) -> None:
    """One encoder pass for all of them; nothing of a list outlives its window."""
    _, encoder, llm = loaded
    start = encoder.trace.copy()
    request = _request(encoder, speech)
    rows = len(request.encoded.native.rows)
    plain = conversation("", ENGLISH)
    before, behind = (len(TOKENIZER.encode(text).ids) for text in (plain.shared, plain.told))
    llm.decode(request)
    first = encoder.trace - start
    assert (first.encodes, first.reused_tokens) == (1, 0)
    assert first.prefilled_tokens == before + rows + behind
    start = encoder.trace.copy()
    llm.decode(replace(request, terms=["heparin"]))
    second = encoder.trace - start
    told = len(TOKENIZER.encode(conversation("heparin", ENGLISH).before).ids)
    assert (second.encodes, second.reused_tokens) == (0, before + rows)
    assert second.prefilled_tokens == told + rows + behind
    assert len(llm._chat._beginnings) == 1


def test_what_is_settled_of_the_audio_is_read_again_for_new_terms_alone(
    loaded: Loaded, speech: Samples
) -> None:
    """Both readings of the tick before go on: told, while it is told the same, and untold."""
    _, encoder, llm = loaded
    lengths = {
        terms: len(TOKENIZER.encode(conversation(terms, ENGLISH).before).ids)
        for terms in ("", "heparin", "apixaban")
    }
    behind = len(TOKENIZER.encode(conversation("", ENGLISH).told).ids)
    encoded: Encoded | None = None
    for samples, terms, anew in (
        (speech[: 3 * 16_000], "heparin", True),
        (speech, "heparin", False),
        (speech, "apixaban", True),
    ):
        request = _request(encoder, samples)
        joined = going_on(request.encoded, encoded, final=False)
        start = encoder.trace.copy()
        assert llm.decode(replace(request, encoded=joined, terms=[terms])).words
        done, rows, settled = encoder.trace - start, len(joined.native.rows), joined.native.settled
        if encoded is not None:
            assert settled == len(encoded.native.rows) - OPEN_ROWS > 0
            told = lengths[terms] + rows if anew else rows - settled
            assert done.prefilled_tokens == told + rows - settled + behind
            assert done.reused_tokens == lengths[""] + settled + (
                0 if anew else lengths[terms] + settled
            )
        encoded = joined


def test_without_a_language_the_model_is_asked_once_a_tick(
    loaded: Loaded, speech: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it names begins the answer; where it names none, it goes on by itself."""
    _, encoder, llm = loaded
    request = replace(_request(encoder, speech), language="auto")
    asked: list[str] = []
    ask = llm._chat.begin
    monkeypatch.setattr(
        llm._chat, "begin", lambda *given: asked.append(ask(*given)) or "language French<asr_text>x"
    )
    found = llm.decode(request)
    assert found.language == "fr"
    assert _text(found) == _text(llm.decode(replace(request, language="fr")))
    llm.decode(replace(request, terms=["heparin"]))
    assert len(asked) == 1
    assert 0 < len(TOKENIZER.encode(asked[0]).ids) <= 6
    monkeypatch.setattr(llm._chat, "begin", ask)
    free = llm.decode(replace(_request(encoder, speech), language="auto"))
    assert free.language == "und"
    assert _text(free).startswith(asked[0])
    nothing = llm.decode(replace(_request(encoder, speech[:0]), language="auto"))
    assert nothing.words == ()


def test_terms_beyond_the_context_are_trimmed_and_counted(loaded: Loaded, speech: Samples) -> None:
    """The context holds text, audio, answer and what is left for terms; most probable first."""
    model, encoder, llm = loaded
    request = replace(_request(encoder, speech), terms=[f"term{n}" for n in range(200)])
    prompt = llm.decode(request).prompt
    assert prompt.terms == tuple(f"term{n}" for n in range(len(prompt.terms)))
    assert prompt.trimmed == 200 - len(prompt.terms) > 0
    asked = conversation(prompt.text, ENGLISH)
    rows = len(request.encoded.native.rows)
    used = len(TOKENIZER.encode(asked.before + asked.told).ids) + rows + answer_tokens(speech)
    limit = model.config.text_config.max_position_embeddings
    assert limit - 10 < used <= limit


def test_a_term_cannot_end_the_turn_or_begin_the_answer(loaded: Loaded, speech: Samples) -> None:
    """Names of tokens in a glossary are text like any other."""
    _, encoder, llm = loaded
    request = replace(_request(encoder, speech), terms=["<|im_end|>", "<asr_text>"])
    before = conversation(llm.decode(request).prompt.text, "").before
    tokens = TOKENIZER.encode(before).tokens
    assert (tokens.count("<|im_end|>"), tokens.count("<asr_text>")) == (1, 0)


def test_what_it_cannot_do_is_an_error(loaded: Loaded, speech: Samples) -> None:
    """Translations, and frames of another encoder."""
    _, encoder, llm = loaded
    request = _request(encoder, speech[:1920])
    with pytest.raises(InputError, match="does not translate"):
        llm.decode(replace(request, task="translate"))
    other = Encoded(frames=np.zeros((3, 32), np.float32), native=None)
    with pytest.raises(ModelError, match="decodes from its own encoder only"):
        llm.decode(replace(request, encoded=other))


def test_term_queries_come_from_the_models_own_token_table(loaded: Loaded) -> None:
    """Without the blank before the first word."""
    model, encoder, llm = loaded
    table = llm.token_embeddings()
    assert table.shape == (TOKENIZER.get_vocab_size(), encoder.width)
    np.testing.assert_array_equal(table, model.get_input_embeddings().weight.detach().numpy())
    assert llm.tokenize([" inner the"]) == [TOKENIZER.encode("inner the").ids]


def test_a_checkpoint_with_tied_embeddings_is_loaded_by_name(
    speech: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As published; what is missing is named with the repository that has it."""
    monkeypatch.setenv("A2P_MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ModelError, match=r"hf download Qwen/Qwen3-ASR-0\.6B-hf"):
        build_speech_llm("qwen3-asr-0.6b", "cpu", 1)
    config = tiny.qwen3_asr_config(TOKENIZER, tied=True)
    model = Qwen3ASRForConditionalGeneration(config).eval()
    model.save_pretrained(tmp_path / "qwen3-asr-1.7b")
    TOKENIZER.save(str(tmp_path / "qwen3-asr-1.7b" / "tokenizer.json"))
    encoder, llm = build_speech_llm("qwen3-asr-1.7b", "cpu", 1)
    assert isinstance(encoder, Qwen3ASREncoder)
    first = Qwen3ASREncoder(model.model, name="tiny")
    np.testing.assert_array_equal(encoder.encode(speech).frames, first.encode(speech).frames)
    wanted = Qwen3ASRSpeechLLM(model, TOKENIZER, first).decode(_request(first, speech))
    assert _text(llm.decode(_request(encoder, speech))) == _text(wanted)


def test_the_plan_counts_the_published_sizes_and_what_its_encoder_does() -> None:
    """2.04 G and 0.78 G numbers; the encoder's arithmetic by its formulas."""
    totals = [
        planning.plan(find(f"qwen3-asr-{size}")).total_parameters for size in ("1.7b", "0.6b")
    ]
    assert totals == [2_038_052_480, 782_426_112]
    shape = Shape(
        name="tiny",
        kind=Qwen3ASRForConditionalGeneration,
        config=tiny.qwen3_asr_config(TOKENIZER),
        encoder_parts=("model.audio_tower", "model.multi_modal_projector"),
        encode=find("qwen3-asr-1.7b").encode,
    )
    frames = 39  # three seconds; attention on two and one
    convolutions = 3 * 9 * (8 * 8 * 50 + 8 * 8 * 4 * 25 + 8 * 8 * 2 * 13)
    linears = 2 * (4 * 24**2 + 2 * 24 * 48) * frames
    attention = 2 * 2 * (26**2 + 13**2) * 24
    others = 16 * 24 * frames + (24 * 24 + 24 * 32) * frames
    found = planning.encode_flop(shape.build(), shape, frames)
    assert found == 2 * (convolutions + linears + attention + others)
