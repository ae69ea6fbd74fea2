"""What each family of models is told, word for word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from a2p_engine.speech_llm.openai_templates import Question, Template, template
from a2p_engine.types import Task

TERMS = ("apixaban", "metformin")
QUESTION = Question(task="transcribe", language="de", told=", ".join(TERMS))
CHAT_TEMPLATE = Path(__file__).parents[3] / "examples" / "deploy" / "qwen3_asr.jinja"


def told(name: Any, committed: str | None = None, task: Task = "transcribe") -> list[Any]:
    """Roles with their texts; the audio as a mark."""
    family = template(name)
    question = Question(task=task, language="de", told=family.wording[task](TERMS))
    found = []
    for message in family.messages(question, "UklGRg==", committed):
        content = message["content"]
        if isinstance(content, list):
            assert content[0]["input_audio"] == {"data": "UklGRg==", "format": "wav"}
            content = ["<audio>", *(part["text"] for part in content[1:])]
        found.append((message["role"], content))
    return found


def test_qwen2_audio_is_told_as_in_the_paper() -> None:
    """The published code's wording, with its punctuation."""
    assert told("qwen2-audio", "Der Patient") == [
        ("system", "You are an expert in speech recognition."),
        (
            "user",
            [
                "<audio>",
                "This is an German audio recording. Please transcribe this audio into German text."
                "Specialized terminology may appear in the audio. Please accurately recognize "
                "these terms. Potential technical terms include:apixaban, metformin",
            ],
        ),
        ("assistant", "Der Patient"),
    ]
    assert told("qwen2-audio", task="translate")[0][1] == "You are an expert in speech translation."


def test_qwen3_asr_is_told_its_context_and_its_language() -> None:
    """The language begins the answer, as the model was trained to begin it."""
    assert told("qwen3-asr", "") == [
        ("system", "apixaban, metformin"),
        ("user", ["<audio>"]),
        ("assistant", "language German<asr_text>"),
    ]


@pytest.mark.parametrize("name", ["voxtral", "generic"])
def test_others_are_asked_in_words(name: str) -> None:
    """Voxtral takes no system message beside audio."""
    asked = told(name)
    assert [role for role, _ in asked] == (["user"] if name == "voxtral" else ["system", "user"])
    assert asked[-1][1][1] == (
        "Transcribe this German audio word for word. Give the transcript alone. "
        "These terms may occur; write them like this where they do: apixaban, metformin."
    )
    assert "into English. Give the translation alone." in told(name, task="translate")[-1][1][1]


def test_the_chat_template_for_vllm_leaves_the_answer_of_qwen3_asr_open() -> None:
    """Rendered as vLLM does it; without a beginning the model begins itself."""
    rendered, _ = render_jinja_template(
        [Template.messages(template("qwen3-asr"), QUESTION, "UklGRg==", "Der Patient")],
        chat_template=CHAT_TEMPLATE.read_text(encoding="utf-8"),
        continue_final_message=True,
    )
    before = (
        "<|im_start|>system\napixaban, metformin<|im_end|>\n"
        "<|im_start|>user\n<|audio_start|><|audio_pad|><|audio_end|><|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert rendered == [f"{before}language German<asr_text>Der Patient"]
    rendered, _ = render_jinja_template(
        [Template.messages(template("qwen3-asr"), QUESTION, "UklGRg==", None)],
        chat_template=CHAT_TEMPLATE.read_text(encoding="utf-8"),
        add_generation_prompt=True,
    )
    assert rendered == [before]
