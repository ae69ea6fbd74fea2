"""What a speech LLM offers to the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from a2p_engine.choices import Choice
from a2p_engine.encoders.base import Encoded
from a2p_engine.prompt import Prompt
from a2p_engine.types import Samples, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedWord:
    """A word with its place in the window; ``text`` carries its leading space, if any.

    ``probability`` is what the model gives the word without the prompt, as far as it can tell: the
    guard asks whether the model would have written a term untold. A model that gives none says 1.
    ``choices`` are those behind the word's tokens, where it was written untold by a model that can
    tell; else there are none.
    """

    text: str
    start_sample: int
    end_sample: int
    probability: float
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Hypothesis:
    """What the model makes of one window.

    Attributes:
        words: all words of the window, the committed ones included.
        language: language of the text.
        prompt: the prompt that the text was written with.
        estimated_times: whether the times of words are guesses, see ``words.spread_words``.
    """

    words: tuple[TimedWord, ...]
    language: str
    prompt: Prompt
    estimated_times: bool = False

    @property
    def text(self) -> str:
        """The words as they are read."""
        return "".join(word.text for word in self.words).strip()


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeRequest:
    """One window to write down.

    Attributes:
        samples: float32 [n], the window's audio.
        encoded: the encoder's pass over the same audio.
        terms: terms to tell the model as they are to be written, most probable first.
        sources: the same terms as they are said, for models that are told of pairs in a
            translation; empty where both are the same.
        context: what was written before this window, for models that have a place for it.
        committed: text the hypothesis has to continue.
        final: nothing will be heard after it, so it is worth waiting for.
        asked_at: ``time.monotonic`` when the window was to be written down, None for just now; one
            that is written anew, with other terms, is as urgent as before.
        language: ISO 639-1 code, or ``auto``.
        task: ``transcribe`` or ``translate``.
        target_language: ISO 639-1 code of the language to translate into.
    """

    samples: Samples
    encoded: Encoded
    terms: Sequence[str]
    committed: str
    language: str
    task: Task
    target_language: str = "en"
    sources: Sequence[str] = ()
    context: str = ""
    final: bool = False
    asked_at: float | None = None


class SpeechLLM(Protocol):
    """Frames and a prompt to text.

    Attributes:
        name: the model's name, as in ``a2p models list``.
        languages: ISO 639-1 codes it understands.
        target_languages: codes it translates into, none where it only transcribes.
        max_samples: longest window.
        retriever_weights: name of the shipped retriever trained on its encoder's frames, empty
            where there is none.
        retriever_languages: languages that retriever was trained on.
    """

    name: str
    languages: tuple[str, ...]
    target_languages: tuple[str, ...]
    max_samples: int
    retriever_weights: str
    retriever_languages: tuple[str, ...]

    def decode(self, request: DecodeRequest) -> Hypothesis:
        """Write down one window; thread-safe.

        What came of the prompt is checked by the caller, see ``a2p_engine.guard``.
        """
        ...

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, in the vocabulary of ``token_embeddings``."""
        ...

    def token_embeddings(self) -> npt.NDArray[np.float32]:
        """The token embedding table, float32 [V, D]."""
        ...
