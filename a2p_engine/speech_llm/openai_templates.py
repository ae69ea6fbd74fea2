"""What a speech LLM behind chat completions is told besides the audio: one wording per family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from a2p_engine.prompt import PromptTemplate, Wording
from a2p_engine.speech_llm.openai_settings import TemplateName
from a2p_engine.types import Task

# Names in English, as they stand in instructions. Qwen3-ASR was trained with these 30.
LANGUAGES = {
    "ar": "Arabic", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek",
    "en": "English", "es": "Spanish", "fa": "Persian", "fi": "Finnish", "fil": "Filipino",
    "fr": "French", "hi": "Hindi", "hu": "Hungarian", "id": "Indonesian", "it": "Italian",
    "ja": "Japanese", "ko": "Korean", "mk": "Macedonian", "ms": "Malay", "nl": "Dutch",
    "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sv": "Swedish",
    "th": "Thai", "tr": "Turkish", "vi": "Vietnamese", "yue": "Cantonese", "zh": "Chinese",
}  # fmt: skip
LISTED = dict.fromkeys(
    get_args(Task),
    PromptTemplate(
        opening=" These terms may occur; write them like this where they do: ", closing="."
    ),
)
ASR_TEXT = "<asr_text>"  # Qwen3-ASR: "language English<asr_text>Good morning."


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is asked of one window.

    Attributes:
        task: transcribe or translate.
        language: ISO 639-1 code of the speech.
        target: code of the language to translate into.
        told: what is told of terms, empty where there is nothing to tell.
        context: what was written before, for interfaces that have a place for it.
    """

    task: Task
    language: str
    target: str = "en"
    told: str = ""
    context: str = ""

    @property
    def spoken(self) -> str:
        """The language's name."""
        return LANGUAGES.get(self.language, self.language)

    @property
    def translated(self) -> str:
        """The target's name."""
        return LANGUAGES.get(self.target, self.target)


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """One family's wording.

    Attributes:
        system: the system message; None for models that take none.
        user: the text behind the audio, empty for none.
        wording: what is told of terms, by the task.
        beginning: how the answer begins, before its text.
        marker: what ends the beginning in an answer that the model began by itself.
        continues: whether the family's chat template can leave an answer open.
        prompt_tokens: most tokens of terms.
        languages: that it was trained on, None for Whisper's.
        translates: whether it takes that order.
    """

    system: Callable[[Question], str] | None
    user: Callable[[Question], str]
    wording: Mapping[Task, Wording]
    beginning: Callable[[Question], str] = field(default=lambda _: "")
    marker: str = ""
    continues: bool = True
    prompt_tokens: int = 400
    languages: tuple[str, ...] | None = None
    translates: bool = True

    def messages(self, question: Question, audio: str, committed: str | None) -> list[Any]:
        """The conversation, which ends in an open answer where there is committed text.

        Args:
            question: what is asked.
            audio: WAV file in base64.
            committed: how the text begins; None leaves the answer to the model.
        """
        heard = {"type": "input_audio", "input_audio": {"data": audio, "format": "wav"}}
        text = self.user(question)
        asked = [heard, {"type": "text", "text": text}] if text else [heard]
        messages: list[Any] = [{"role": "user", "content": asked}]
        if self.system is not None:
            messages.insert(0, {"role": "system", "content": self.system(question)})
        if committed is not None:
            answer = self.beginning(question) + committed
            messages.append({"role": "assistant", "content": answer})
        return messages


def template(name: TemplateName) -> Template:
    """The template of a family."""
    return {
        "qwen2-audio": _qwen2_audio,
        "qwen3-asr": _qwen3_asr,
        "voxtral": _voxtral,
        "generic": _generic,
    }[name]()


def _qwen2_audio() -> Template:
    # Not at the top: it brings transformers' model along.
    from a2p_engine.speech_llm import qwen2_audio

    return Template(
        system=lambda asked: qwen2_audio.SYSTEM[asked.task],
        user=lambda asked: (
            qwen2_audio.question(asked.task, asked.language, asked.target) + asked.told
        ),
        wording=qwen2_audio.TERMS,
        languages=qwen2_audio.Qwen2AudioSpeechLLM.languages,
    )


def _qwen3_asr() -> Template:
    """The system message is context of any form; the user says nothing."""
    return Template(
        system=lambda asked: asked.told,
        user=lambda _: "",
        wording=dict.fromkeys(get_args(Task), PromptTemplate()),
        beginning=lambda asked: f"language {asked.spoken}{ASR_TEXT}",
        marker=ASR_TEXT,
        languages=tuple(LANGUAGES),
        translates=False,
    )


def _voxtral() -> Template:
    """Its model card: system prompts are not supported together with audio."""
    return Template(
        system=None,
        user=_instruction,
        wording=LISTED,
        languages=("de", "en", "es", "fr", "hi", "it", "nl", "pt"),
    )


def _generic() -> Template:
    return Template(
        system=lambda asked: (
            "You write captions. Answer with what is said in the audio and nothing else."
        ),
        user=_instruction,
        wording=LISTED,
    )


def _instruction(asked: Question) -> str:
    if asked.task == "translate":
        request = (
            f"Translate this {asked.spoken} audio into {asked.translated}. Give the translation"
        )
    else:
        request = f"Transcribe this {asked.spoken} audio word for word. Give the transcript"
    return f"{request} alone.{asked.told}"
