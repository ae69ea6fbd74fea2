"""Granite Speech on a tiny random model: tokens, answers, keywords, languages."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import GraniteSpeechForConditionalGeneration

from a2p_engine.audio import read_audio
from a2p_engine.encoders.base import Encoded, going_on
from a2p_engine.encoders.granite_speech import OPEN_ROWS, GraniteSpeechEncoder
from a2p_engine.errors import InputError, ModelError
from a2p_engine.speech_llm import build_speech_llm
from a2p_engine.speech_llm import plan as planning
from a2p_engine.speech_llm.base import DecodeRequest, Hypothesis
from a2p_engine.speech_llm.chat import answer_tokens
from a2p_engine.speech_llm.granite_speech import GraniteSpeechSpeechLLM, conversation, question
from a2p_engine.speech_llm.shapes import find
from a2p_engine.types import Samples
from tests.a2p_engine.speech_llm import tiny

RECORDING = Path(__file__).parents[3] / "examples" / "data" / "ward_round.flac"
TOKENIZER = tiny.granite_tokenizer()
ASKED = "transcribe the speech with proper punctuation and capitalization."
Loaded = tuple[GraniteSpeechForConditionalGeneration, GraniteSpeechEncoder, GraniteSpeechSpeechLLM]


@pytest.fixture
def loaded() -> Loaded:
    """Model, encoder and speech LLM."""
    model = tiny.granite_speech(TOKENIZER)
    encoder = GraniteSpeechEncoder(model.model, name="tiny")
    return model, encoder, GraniteSpeechSpeechLLM(model, TOKENIZER, encoder)


@pytest.fixture(scope="module")
def speech() -> Samples:
    """Four seconds of the ward round."""
    return read_audio(RECORDING)[16_000 : 16_000 * 5]


def _request(encoder: GraniteSpeechEncoder, samples: Samples) -> DecodeRequest:
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


def test_the_wordings_are_those_of_the_card() -> None:
    """With punctuation and capitals; translations from English or into it."""
    assert question("transcribe", "fr", "en") == ASKED
    asked = "translate the speech to German with proper punctuation and capitalization."
    assert question("translate", "en", "de") == asked
    assert question("translate", "auto", "de") == asked
    for said, target in (("fr", "de"), ("en", "zh")):
        with pytest.raises(InputError, match=f"not {said} into {target}"):
            question("translate", said, target)


def test_keywords_stand_before_the_question(loaded: Loaded, speech: Samples) -> None:
    """The exact tokens, the same in parts as in one piece."""
    _, encoder, llm = loaded
    request = replace(_request(encoder, speech), terms=["apixaban", "heparin"])
    told = conversation(ASKED, llm.decode(request).prompt.text)
    whole = told.before + "<|audio|>" + told.told
    assert whole == f"USER: <|audio|>Keywords: apixaban, heparin. {ASKED}\n ASSISTANT:"
    assert [token for token in TOKENIZER.encode(whole).tokens if "<" in token] == ["<|audio|>"]
    parts = [llm._chat.tokens(part) for part in (told.before, "<|audio|>", told.told)]
    assert [token for part in parts for token in part] == TOKENIZER.encode(whole).ids


@pytest.mark.parametrize("samples", [9_600, 35_200, 64_000])
@pytest.mark.parametrize("terms", [(), ("the inner",)])
def test_answers_are_those_of_the_librarys_generate(
    loaded: Loaded, speech: Samples, samples: int, terms: tuple[str, ...]
) -> None:
    """Ours reads the chat in parts; the library reads all at once."""
    model, encoder, llm = loaded
    window = speech[:samples]
    hypothesis = llm.decode(replace(_request(encoder, window), terms=terms))
    spectra = encoder.spectra(window)[None]
    rows = 3 * -(-samples // 4_800)
    told = f"Keywords: {', '.join(terms)}. " if terms else ""
    text = "USER: " + "<|audio|>" * rows + f"{told}{ASKED}\n ASSISTANT:"
    ids = torch.tensor([TOKENIZER.encode(text).ids])
    with torch.no_grad():
        whole = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            input_features=spectra,
            input_features_mask=torch.ones(1, rows, dtype=torch.bool),
            max_new_tokens=answer_tokens(window),
            do_sample=False,
        )
    theirs = TOKENIZER.decode(whole[0, ids.shape[1] :].tolist())
    assert _text(hypothesis) == theirs
    assert theirs.strip()
    assert (hypothesis.language, hypothesis.estimated_times) == ("en", True)


def test_committed_text_begins_the_answer_and_is_continued(loaded: Loaded, speech: Samples) -> None:
    """Forced words stay; those the model would have written change nothing."""
    _, encoder, llm = loaded
    request = _request(encoder, speech)
    free = _text(llm.decode(request))
    half = free[: free.index(" ", len(free) // 2)]  # between two tokens
    assert _text(llm.decode(replace(request, committed=half))) == free
    for committed in ("the heart,", "心臓。", "<|end_of_text|> x"):
        written = _text(llm.decode(replace(request, committed=committed)))
        assert written.startswith(committed.replace("<|", "< |"))


def test_probabilities_are_scaled_and_those_of_the_untold_model(
    loaded: Loaded, speech: Samples
) -> None:
    """With terms the text changes, but equal text has equal probabilities."""
    model, encoder, llm = loaded
    request = _request(encoder, speech)
    told = llm.decode(replace(request, terms=["the inner"]))
    assert _text(told) != _text(llm.decode(request))
    rows = len(request.encoded.native.rows)
    text = "USER: " + "<|audio|>" * rows + f"{ASKED}\n ASSISTANT:" + _text(told)
    ids = torch.tensor([TOKENIZER.encode(text).ids])
    with torch.no_grad():
        logits = model(
            input_ids=ids,
            input_features=encoder.spectra(speech)[None],
            input_features_mask=torch.ones(1, rows, dtype=torch.bool),
        ).logits[0]
    first = len(TOKENIZER.encode(told.words[0].text).ids)
    said = ids[0, -len(TOKENIZER.encode(_text(told)).ids) :][:first]
    at = ids.shape[1] - len(TOKENIZER.encode(_text(told)).ids) - 1
    wanted = (logits[at : at + first] / 8.0).softmax(-1).gather(1, said[:, None]).mean()
    assert told.words[0].probability == pytest.approx(float(wanted), rel=1e-3)


def test_a_second_decoding_reads_no_audio(loaded: Loaded, speech: Samples) -> None:
    """One encoder pass per tick; other terms reuse what was read of the audio."""
    _, encoder, llm = loaded
    start = encoder.trace.copy()
    request = _request(encoder, speech)
    rows = len(request.encoded.native.rows)
    before = len(TOKENIZER.encode("USER: ").ids)
    llm.decode(request)
    assert (encoder.trace - start).reused_tokens == 0
    start = encoder.trace.copy()
    llm.decode(replace(request, terms=["heparin"]))
    second = encoder.trace - start
    assert (second.encodes, second.reused_tokens) == (0, before + rows)
    longer = _request(encoder, np.concatenate([speech, speech[:16_000]]))
    joined = going_on(longer.encoded, request.encoded, final=False)
    start = encoder.trace.copy()
    llm.decode(replace(longer, encoded=joined))
    third = encoder.trace - start
    assert third.reused_tokens == before + rows - OPEN_ROWS
    asked = len(TOKENIZER.encode(conversation(ASKED, "").told).ids)
    assert third.prefilled_tokens == len(joined.native.rows) - rows + OPEN_ROWS + asked


def test_terms_beyond_the_context_are_trimmed_and_counted(loaded: Loaded, speech: Samples) -> None:
    """The context holds text, audio, answer and what is left for terms; most probable first."""
    model, encoder, llm = loaded
    request = replace(_request(encoder, speech), terms=[f"term{n}" for n in range(200)])
    prompt = llm.decode(request).prompt
    assert prompt.terms == tuple(f"term{n}" for n in range(len(prompt.terms)))
    assert prompt.trimmed == 200 - len(prompt.terms) > 0
    asked = conversation(ASKED, prompt.text)
    rows = len(request.encoded.native.rows)
    used = len(TOKENIZER.encode(asked.before + asked.told).ids) + rows + answer_tokens(speech)
    limit = model.config.text_config.max_position_embeddings
    assert limit - 10 < used <= limit


def test_a_translation_is_told_of_targets_and_is_in_their_language(
    loaded: Loaded, speech: Samples
) -> None:
    """The model knows keywords, not pairs; a term cannot end the text."""
    _, encoder, llm = loaded
    request = replace(
        _request(encoder, speech),
        task="translate",
        target_language="de",
        terms=["Herzinfarkt", "<|end_of_text|>"],
        sources=["heart attack", "end"],
    )
    found = llm.decode(request)
    assert found.prompt.text == "Keywords: Herzinfarkt, <|end_of_text|>. "
    assert (
        "<|end_of_text|>" not in TOKENIZER.encode(conversation("", found.prompt.text).told).tokens
    )
    assert found.language == "de"
    assert llm.decode(replace(_request(encoder, speech), language="auto")).language == "und"


def test_term_queries_come_from_the_models_own_token_table(loaded: Loaded) -> None:
    """Without the blank before the first word."""
    model, encoder, llm = loaded
    table = llm.token_embeddings()
    assert table.shape == (TOKENIZER.get_vocab_size(), encoder.width)
    np.testing.assert_array_equal(table, model.get_input_embeddings().weight.detach().numpy())
    assert llm.tokenize([" inner the"]) == [TOKENIZER.encode("inner the").ids]


def test_frames_of_another_encoder_are_refused(loaded: Loaded, speech: Samples) -> None:
    """The error says which model it is about."""
    _, encoder, llm = loaded
    other = Encoded(frames=np.zeros((3, 32), np.float32), native=None)
    with pytest.raises(ModelError, match=r"granite-speech-4\.1-2b decodes from its own encoder"):
        llm.decode(replace(_request(encoder, speech[:1920]), encoded=other))


def test_a_checkpoint_is_loaded_by_name(
    loaded: Loaded, speech: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was saved writes the same; what is missing, or needs an adapter, is named."""
    model, encoder, llm = loaded
    name = "granite-speech-4.1-2b"
    monkeypatch.setenv("A2P_MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ModelError, match=r"hf download ibm-granite/granite-speech-4\.1-2b"):
        build_speech_llm(name, "cpu", 1)
    model.save_pretrained(tmp_path / name)
    TOKENIZER.save(str(tmp_path / name / "tokenizer.json"))
    encoder_again, again = build_speech_llm(name, "cpu", 1)
    assert isinstance(encoder_again, GraniteSpeechEncoder)
    wanted = llm.decode(_request(encoder, speech))
    assert _text(again.decode(_request(encoder_again, speech))) == _text(wanted)
    model.config.has_lora_adapter = True
    model.config.save_pretrained(tmp_path / name)
    with pytest.raises(ModelError, match="needs an adapter"):
        build_speech_llm(name, "cpu", 1)


def test_checkpoints_with_the_published_names_are_read(
    loaded: Loaded, speech: Samples, tmp_path: Path
) -> None:
    """The hub's files have the older names of tensors, and a head of their own."""
    model, encoder, llm = loaded
    published = {
        name.removeprefix("model.")
        .replace("language_model.", "language_model.model.")
        .replace("lm_head.", "language_model.lm_head."): tensor.contiguous()
        for name, tensor in model.state_dict().items()
    }
    assert "encoder.input_linear.weight" in published
    config = model.config.to_dict()
    del config["tie_word_embeddings"]  # older ones leave it to the language model's
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    TOKENIZER.save(str(tmp_path / "tokenizer.json"))
    save_file(published, tmp_path / "model.safetensors", {"format": "pt"})
    encoder_again, again = GraniteSpeechSpeechLLM.load(tmp_path, "cpu")
    wanted = llm.decode(_request(encoder, speech))
    assert _text(again.decode(_request(encoder_again, speech))) == _text(wanted)


def test_the_plan_counts_the_published_size() -> None:
    """2.31 G numbers, 4.63 GB in bfloat16; the encoder's work grows with the audio."""
    shape = find("granite-speech-4.1-2b")
    found = planning.plan(shape)
    assert found.total_parameters == 2_313_141_596
    assert found.memory_bytes["weights"] == 2 * found.total_parameters
    encoder = found.parameters["encoder"]
    assert found.flop["encode"] > 2 * encoder * 500 * 0.8  # 50 states a second
    assert planning.plan(shape, window_s=20.0).flop["encode"] == pytest.approx(
        2 * found.flop["encode"], rel=0.3
    )
