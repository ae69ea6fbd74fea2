"""Whisper as embedded speech LLM: decodes the shared encoder pass, terms in the previous text."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from ctranslate2.models import WhisperGenerationResult
from faster_whisper.tokenizer import _LANGUAGE_CODES, Tokenizer

from a2p_engine.batching import Batcher
from a2p_engine.choices import Choice, choices_of
from a2p_engine.encoders.whisper import MAX_SAMPLES
from a2p_engine.encoders.whisper_tables import token_embeddings
from a2p_engine.prompt import GLOSSARY, Prompt, Wording, build_prompt
from a2p_engine.speech_llm.base import DecodeRequest, Hypothesis, TimedWord
from a2p_engine.types import SAMPLE_RATE_HZ

MAX_TOKENS = 448  # the decoder's positions
# Half of the decoder's positions, less the marker that opens the previous text.
PROMPT_TOKENS = 223
# Fast speech is about 5 tokens a second; more than this is a loop.
TOKENS_PER_S = 8
SPARE_TOKENS = 16
# No speech (Whisper paper, section 4.5): the model thinks so and is unsure of its text.
NO_SPEECH_PROBABILITY = 0.6
NO_SPEECH_LOGPROB = -1.0


class _Window(NamedTuple):
    """A window to be written down.

    Attributes:
        native: [1, T, D] of the encoder.
        given: tokens to go on from.
        most: tokens, those included.
        begin: where among them the transcript starts, behind the previous text.
        weighed: whether what else might be written is asked for.
    """

    native: Any
    given: list[int]
    most: int
    begin: int
    weighed: bool

    def kind(self) -> tuple[int, int, int, bool]:
        """Windows of one kind may share a batch; CTranslate2 takes no others together."""
        return self.native.shape[1], self.most, self.begin, self.weighed


class WhisperParts(Protocol):
    """An encoder that shares its model with the speech LLM.

    Attributes:
        directory: holds the weights and the tokenizer.
        model: with ``hf_tokenizer``, and under ``model`` CTranslate2's interface to Whisper.
        batch: most windows written in one call.
    """

    directory: Path
    model: Any
    batch: int

    def join(self, natives: Sequence[Any]) -> Any:
        """Several encoded windows, [1, T, D] each, as one of [B, T, D]."""
        ...


class WhisperSpeechLLM:
    """Greedy decoding with a term prompt, a forced beginning, and word times by cross-attention."""

    max_samples = MAX_SAMPLES
    languages: tuple[str, ...] = tuple(sorted(_LANGUAGE_CODES))
    target_languages: tuple[str, ...] = ("en",)
    retriever_weights = "whisper-base-en"
    retriever_languages: tuple[str, ...] = ("en",)

    def __init__(self, name: str, encoder: WhisperParts, wording: Wording = GLOSSARY) -> None:
        """Share the model that ``encoder`` has loaded."""
        self.name = name
        self._wording = wording
        self._directory = encoder.directory
        self._whisper = encoder.model
        self._join = encoder.join
        self._tokenizer = lru_cache(maxsize=None)(self._new_tokenizer)
        self._write = Batcher(self._write_all, limit=encoder.batch, alike=_Window.kind)

    def decode(self, request: DecodeRequest) -> Hypothesis:
        """See ``SpeechLLM.decode``."""
        language = request.language
        if language == "auto":
            language = self.detect(request)
            request = replace(request, language=language)
        tokenizer = self._tokenizer(language, request.task)
        prompt = build_prompt(
            request.terms,
            budget_tokens=PROMPT_TOKENS,
            count_tokens=lambda text: len(tokenizer.encode(" " + text)),
            wording=self._wording,
        )
        prompt = replace(prompt, context=request.context)
        tokens, choices = self._generate(request, tokenizer, prompt)
        words = self._words(request, tokenizer, tokens, choices)
        written = request.target_language if request.task == "translate" else language
        return Hypothesis(words=words, language=written, prompt=prompt)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """See ``SpeechLLM.tokenize``."""
        encoded = self._whisper.hf_tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [item.ids for item in encoded]

    def token_embeddings(self) -> npt.NDArray[np.float32]:
        """See ``SpeechLLM.token_embeddings``."""
        return token_embeddings(self._directory)

    def _new_tokenizer(self, language: str, task: str) -> Tokenizer:
        return Tokenizer(self._whisper.hf_tokenizer, True, task=task, language=language)

    def detect(self, request: DecodeRequest) -> str:
        """ISO 639-1 code of the language that is most probably spoken."""
        best, _probability = self._whisper.model.detect_language(request.encoded.native)[0][0]
        return str(best).strip("<|>")

    def _generate(
        self, request: DecodeRequest, tokenizer: Tokenizer, prompt: Prompt
    ) -> tuple[list[int], tuple[Choice, ...]]:
        """Text tokens of the whole window, the committed ones first.

        The choices, if it was written untold, are those of the tokens behind the committed ones.
        """
        start = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
        committed = tokenizer.encode(" " + request.committed) if request.committed else []
        previous = previous_text(prompt, tokenizer)
        given = [*previous, *start, *committed]
        room = int(TOKENS_PER_S * len(request.samples) / SAMPLE_RATE_HZ) + SPARE_TOKENS
        text = max(room, len(committed) + 1)
        # CTranslate2 leaves half of ``max_length`` to the text, forced beginning included.
        most = min(MAX_TOKENS, max(2 * text, len(previous) + len(start) + text))
        result = self._write(
            _Window(request.encoded.native, given, most, given.index(tokenizer.sot), not previous)
        )
        unsure = not result.scores or result.scores[0] < NO_SPEECH_LOGPROB
        if result.no_speech_prob > NO_SPEECH_PROBABILITY and unsure:
            return committed, ()
        # CTranslate2 gives back what follows <|notimestamps|>, the forced beginning included.
        tokens = [token for token in result.sequences_ids[0] if token < tokenizer.eot]
        if not result.logits:
            return tokens, ()
        fresh = slice(len(committed), len(tokens))
        rows = [np.asarray(row) for row in result.logits[0][fresh]]
        return tokens, choices_of(tokens[fresh], rows)

    def _write_all(self, windows: Sequence[_Window]) -> list[WhisperGenerationResult]:
        """Continue what is given of windows of one kind."""
        native = windows[0].native
        if len(windows) > 1:
            native = self._join([window.native for window in windows])
        results: list[WhisperGenerationResult] = self._whisper.model.generate(
            native,
            [window.given for window in windows],
            beam_size=1,
            max_length=windows[0].most,
            return_scores=True,
            return_no_speech_prob=True,
            return_logits_vocab=windows[0].weighed,
        )
        return results

    def _words(
        self,
        request: DecodeRequest,
        tokenizer: Tokenizer,
        tokens: Sequence[int],
        choices: Sequence[Choice],
    ) -> tuple[TimedWord, ...]:
        if not tokens:
            return ()
        alignment = self._whisper.model.align(
            request.encoded.native,
            tokenizer.sot_sequence,
            [list(tokens)],
            [2 * request.encoded.native.shape[1]],  # padding included: what is no speech ends there
        )[0]
        texts, groups = tokenizer.split_to_word_tokens([*tokens, tokenizer.eot])
        boundaries = np.cumsum([0, *map(len, groups)])[:-1]  # the last group is the end marker
        starts = _token_starts(alignment.alignments, len(tokens), len(request.samples))
        probabilities = np.asarray(alignment.text_token_probs, np.float32)
        committed = len(tokens) - len(choices)
        words = [
            TimedWord(
                text=text,
                start_sample=int(starts[low]),
                end_sample=int(starts[high]),
                probability=float(probabilities[low:high].mean()),
                choices=tuple(choices[low - committed : high - committed])
                if low >= committed
                else (),
            )
            for text, (low, high) in zip(texts, itertools.pairwise(boundaries), strict=False)
        ]
        return tuple(_with_punctuation(words))


def previous_text(prompt: Prompt, tokenizer: Tokenizer) -> list[int]:
    """What Whisper is told: the end of what was written before, then the terms.

    Terms go last, next to what the model writes, and have their room first.
    """
    terms = tokenizer.encode(" " + prompt.text) if prompt.text else []
    context = tokenizer.encode(" " + prompt.context) if prompt.context else []
    before = context[max(0, len(context) + len(terms) - PROMPT_TOKENS) :]
    told = [*before, *terms]
    return [tokenizer.sot_prev, *told] if told else []


def _token_starts(
    alignments: Sequence[tuple[int, int]], tokens: int, samples: int
) -> npt.NDArray[np.int64]:
    """Sample at which each token begins, and where the last one ends: [tokens + 1]."""
    path = np.array(alignments)  # [path length, (token, 20 ms frame)]
    first = np.searchsorted(path[:, 0], np.arange(tokens + 1))
    frames = np.append(path[:, 1], path[-1, 1] + 1)[first]
    return np.asarray(np.minimum(frames * (SAMPLE_RATE_HZ // 50), samples), np.int64)


def _with_punctuation(words: Sequence[TimedWord]) -> list[TimedWord]:
    """Join what is written without a space to the word before it.

    Punctuation adds nothing to a word's time; the rest of a hyphenated word does.
    """
    joined: list[TimedWord] = []
    for word in words:
        if not joined or word.text[:1].isspace() or word.text[:1].isalnum():
            joined.append(word)
            continue
        before = joined[-1]
        spoken = any(char.isalnum() for char in word.text)
        joined[-1] = TimedWord(
            text=before.text + word.text,
            start_sample=before.start_sample,
            end_sample=word.end_sample if spoken else before.end_sample,
            probability=min(before.probability, word.probability) if spoken else before.probability,
            choices=before.choices + word.choices,
        )
    return joined
