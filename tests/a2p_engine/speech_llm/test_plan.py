"""Memory and arithmetic computed beforehand, against what is there and what is done."""

from __future__ import annotations

import json

import pytest

from a2p_engine.errors import InputError
from a2p_engine.speech_llm import plan as planning
from a2p_engine.speech_llm.greedy import GreedyDecoder, Past
from a2p_engine.speech_llm.shapes import SHAPES, Shape, find
from streaming.cli import main
from tests.a2p_engine.speech_llm import tiny

TINY = Shape(
    name="tiny",
    kind=type(tiny.qwen2_audio(tiny.tokenizer())),
    config=tiny.qwen2_audio_config(tiny.tokenizer()),
    encoder_parts=("model.audio_tower", "model.multi_modal_projector"),
    heads=4,
)


def test_parameters_of_the_published_model() -> None:
    """8,397,094,912, as the hub counts in the published safetensors files."""
    found = planning.plan(find("qwen2-audio"))
    assert found.total_parameters == 8_397_094_912
    assert found.memory_bytes["weights"] == 2 * 8_397_094_912
    # A multiplication and an addition for each weight of the layers and position, at least.
    for whole, rows in ((0, 13 + 50), (1, 250)):
        prefill = found.flop["prefill"]
        prefill += whole * (found.final_flop - sum(found.flop.values()))
        assert prefill > 2 * found.parameters["layers"] * rows
        assert prefill < 1.1 * 2 * found.parameters["layers"] * (24 + rows)


def test_parameters_are_those_of_a_real_model() -> None:
    """Each part of a tiny one, counted where it has numbers."""
    model = TINY.build("cpu")
    counts = planning.count_parameters(TINY.build(), TINY)
    inner = model.model
    assert sum(counts.values()) == sum(weight.numel() for weight in model.parameters())
    assert counts["layers"] == sum(
        weight.numel()
        for name, weight in inner.language_model.named_parameters()
        if not name.startswith("embed_tokens")
    )
    assert counts["head"] == model.lm_head.weight.numel()


def test_a_cached_position_takes_what_the_plan_says() -> None:
    """Keys and values of all layers, grouped heads included."""
    decoder = GreedyDecoder(TINY.build("cpu"), end_tokens=())
    past = decoder.read([Past()], [decoder.embed([1, 2, 3, 4, 5])])[0]
    held = sum(part.numel() * part.element_size() for layer in past.layers for part in layer)
    assert held == 5 * planning.cache_token_bytes(TINY.build(), 4)


def test_arithmetic_is_that_of_the_formulas() -> None:
    """Two for each weight and position, and attention of each position to all others."""
    model, frames, past = TINY.build(), 40, 9
    states, mel, width = 2 * frames, 4 * frames, 24
    convolutions = 3 * (16 * width * mel + width * width * states)
    linears = 2 * (4 * width**2 + 2 * width * 48) * states
    attention = 2 * 2 * states**2 * width
    projector = width * 32 * frames
    wanted = 2 * (convolutions + linears + attention + projector)
    assert planning.encode_flop(model, TINY, frames) == wanted

    weights = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)
    attention = 2 * 2 * frames * (past + frames) * 32
    wanted = 2 * (weights * frames + attention)
    assert planning.read_flop(model, past, frames) == wanted
    logits = 2 * 32 * model.config.text_config.vocab_size
    assert planning.read_flop(model, past, frames, heads=1) == wanted + logits


def test_plans_grow_with_what_they_are_asked_for() -> None:
    """Sessions cost cache and scorer, terms cost glossary, four bits save weights."""
    one = planning.plan(TINY, terms=10, window_s=2.0)
    two = planning.plan(TINY, terms=10, window_s=2.0, sessions=2)
    assert two.memory_bytes["cache"] == 2 * one.memory_bytes["cache"]
    assert two.memory_bytes["scorer"] == 2 * one.memory_bytes["scorer"]
    assert two.tick_flop == 2 * one.tick_flop
    more = planning.plan(TINY, terms=20, window_s=2.0)
    assert more.memory_bytes["glossary"] > one.memory_bytes["glossary"]
    less = planning.plan(TINY, terms=10, window_s=2.0, dtype="4bit")
    saved = one.memory_bytes["weights"] - less.memory_bytes["weights"]
    assert saved == pytest.approx(one.parameters["layers"] * (2 - 0.5625), abs=1)


def test_what_cannot_be_planned_is_an_error() -> None:
    """Unknown kinds of numbers, windows and models; the text says what is accepted."""
    with pytest.raises(InputError, match="accepted are float32, bfloat16"):
        planning.plan(TINY, dtype="int3")
    with pytest.raises(InputError, match="30 s"):
        planning.plan(TINY, window_s=31.0)
    with pytest.raises(InputError, match="qwen2-audio"):
        find("qwen9")


def test_the_name_of_a_speech_llm_in_four_bits_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """It is planned like the model itself with that option."""
    assert main(["models", "plan", "qwen2-audio-4bit", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dtype"] == "4bit"


def test_command_prints_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    """As tables and as JSON with the sums."""
    SHAPES["tiny"] = lambda: TINY
    try:
        assert main(["models", "plan", "tiny", "--window-s", "2", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found == json.loads(json.dumps(planning.plan(TINY, window_s=2.0).json()))
        assert found["total_bytes"] == sum(found["memory_bytes"].values())
        assert main(["models", "plan", "tiny", "--sessions", "3", "--window-s", "2"]) == 0
        printed = capsys.readouterr().out
        assert "3 session(s)" in printed
        assert "a final" in printed
    finally:
        del SHAPES["tiny"]
