"""Frames and answers of tiny models, kept: what a change of ours or of a library alters shows.

Numbers of weights and audio are numpy's, so that they are the same everywhere. After a change that
is meant: python -m tests.a2p_engine.speech_llm.test_golden > tests/golden/speech_llms.json
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from a2p_engine.encoders.granite_speech import GraniteSpeechEncoder
from a2p_engine.encoders.qwen2_audio import Qwen2AudioEncoder
from a2p_engine.encoders.qwen3_asr import Qwen3ASREncoder
from a2p_engine.speech_llm.base import DecodeRequest
from a2p_engine.speech_llm.granite_speech import GraniteSpeechSpeechLLM
from a2p_engine.speech_llm.qwen2_audio import Qwen2AudioSpeechLLM
from a2p_engine.speech_llm.qwen3_asr import Qwen3ASRSpeechLLM
from a2p_engine.types import SAMPLE_RATE_HZ, Samples
from tests.a2p_engine.speech_llm import tiny

GOLDEN = Path(__file__).parents[2] / "golden" / "speech_llms.json"
SECONDS = 2.5


def _filled(model: Any) -> Any:
    """The model with numpy's numbers in all matrices but those of fixed positions."""
    random = np.random.default_rng(7)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if weight.dim() > 1 and "embed_positions" not in name:
                drawn = random.normal(0, 0.12, tuple(weight.shape)).astype(np.float32)
                weight.copy_(torch.from_numpy(drawn))
    return model


def _qwen2_audio() -> tuple[Any, Any]:
    made = tiny.tokenizer()
    model = tiny.speaking(_filled(tiny.qwen2_audio(made)), made, "<|im_end|>")
    inner = model.model
    encoder = Qwen2AudioEncoder(inner.audio_tower, inner.multi_modal_projector, name="tiny")
    return encoder, Qwen2AudioSpeechLLM(model, made, encoder)


def _qwen3_asr() -> tuple[Any, Any]:
    made = tiny.qwen3_tokenizer()
    model = tiny.speaking(_filled(tiny.qwen3_asr(made)), made, "<|im_end|>")
    encoder = Qwen3ASREncoder(model.model, name="tiny")
    return encoder, Qwen3ASRSpeechLLM(model, made, encoder)


def _granite_speech() -> tuple[Any, Any]:
    made = tiny.granite_tokenizer()
    model = tiny.speaking(_filled(tiny.granite_speech(made)), made, "<|end_of_text|>")
    encoder = GraniteSpeechEncoder(model.model, name="tiny")
    return encoder, GraniteSpeechSpeechLLM(model, made, encoder)


MODELS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "qwen2-audio": _qwen2_audio,
    "qwen3-asr": _qwen3_asr,
    "granite-speech": _granite_speech,
}


def _audio() -> Samples:
    """Two tones that rise, with some noise."""
    random, times = np.random.default_rng(3), np.arange(SECONDS * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    tones = np.sin(300 * times * (1 + times)) + 0.5 * np.sin(1900 * times)
    return (0.2 * tones + random.normal(0, 0.01, len(times))).astype(np.float32)


def outputs(name: str) -> dict[str, Any]:
    """What is kept of a model: some frames, the answer untold and told."""
    encoder, llm = MODELS[name]()
    audio = _audio()
    encoded = encoder.encode(audio)
    answers = {}
    for terms in ((), ("heparin", "apixaban")):
        request = DecodeRequest(
            samples=audio,
            encoded=encoded,
            terms=terms,
            committed="",
            language="en",
            task="transcribe",
        )
        words = llm.decode(request).words
        answers[", ".join(terms)] = {
            "text": "".join(word.text for word in words),
            "probabilities": [round(word.probability, 4) for word in words],
        }
    frames = encoded.frames
    return {
        "shape": list(frames.shape),
        "frames": [[round(float(value), 4) for value in row[:4]] for row in frames[::8]],
        "answers": answers,
    }


@pytest.mark.parametrize("name", MODELS)
def test_frames_and_answers_are_those_that_were_kept(name: str) -> None:
    """Frames and probabilities to three digits, texts letter by letter."""
    kept, found = json.loads(GOLDEN.read_text("utf-8"))[name], outputs(name)
    assert found["shape"] == kept["shape"]
    np.testing.assert_allclose(found["frames"], kept["frames"], atol=2e-3)
    texts = [answer["text"] for answer in kept["answers"].values()]
    assert [answer["text"] for answer in found["answers"].values()] == texts
    for told, answer in kept["answers"].items():
        heard = found["answers"][told]["probabilities"]
        np.testing.assert_allclose(heard, answer["probabilities"], atol=5e-3)


if __name__ == "__main__":
    print(json.dumps({name: outputs(name) for name in MODELS}, indent=1, ensure_ascii=False))
