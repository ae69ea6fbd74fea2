"""Speech LLMs that answer a chat in which audio embeddings stand where tokens would.

A conversation is text before the audio, the audio, and text behind it that ends where the model
begins to answer. What of it need not be read again:

- the text before the audio is read once for all ticks and sessions;
- audio is read once, but for its end: these encoders hear the whole window, so that with more audio
  every frame is another one. What is older than a look-ahead stays as it was first heard, until a
  final, which reads all of it anew;
- decodings of one tick that differ in their terms, as the guard asks for, share both. Where a
  family tells terms before the audio, what is told is read with the audio whenever it changes.

Committed text is the beginning of the answer, so the answer cannot contradict it. A word's
probability is that of the model that was told no terms: the text is read once more after the same
audio and the untold question, which costs one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from a2p_engine.batching import Batcher
from a2p_engine.encoders.base import AudioEmbeddings
from a2p_engine.errors import ModelError
from a2p_engine.prompt import Prompt, Wording, build_prompt
from a2p_engine.speech_llm.base import DecodeRequest, TimedWord
from a2p_engine.speech_llm.greedy import GreedyDecoder, Past
from a2p_engine.speech_llm.pretrained import end_tokens
from a2p_engine.speech_llm.words import split_words, spread_words
from a2p_engine.trace import Trace
from a2p_engine.types import SAMPLE_RATE_HZ, Samples

# Fast speech is about 5 tokens a second; more than this is a loop.
TOKENS_PER_S = 8
SPARE_TOKENS = 16
# Rows decoded together.
BATCH_ROWS = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    """Text around the audio, special tokens included.

    Attributes:
        before: up to the audio.
        told: behind the audio, with terms; ends where the answer begins.
        untold: the same without terms.
        untold_before: what stands before the audio without terms; None where it is the same.
    """

    before: str
    told: str
    untold: str
    untold_before: str | None = None

    @property
    def shared(self) -> str:
        """What stands before the audio for all sessions."""
        return self.before if self.untold_before is None else self.untold_before


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    audio: AudioEmbeddings
    before: tuple[int, ...]
    shared: tuple[int, ...]
    told: Sequence[int]
    untold: Sequence[int]
    committed: Sequence[int]
    limit: int


class AudioChat:
    """Writes down audio in conversation with a language model; thread-safe, rows in batches."""

    def __init__(
        self,
        decoder: GreedyDecoder,
        tokenizer: Tokenizer,
        *,
        context_tokens: int,
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        """Put a loaded model's parts together.

        Args:
            decoder: the language model.
            tokenizer: its byte-level tokenizer, special tokens included.
            context_tokens: positions that the model was trained for.
            batch_rows: answers written together.
        """
        self._decoder, self._tokenizer = decoder, tokenizer
        self._context_tokens = context_tokens
        self._beginnings: dict[tuple[int, ...], Past] = {}
        self._answer = Batcher(self._answers, limit=batch_rows)

    @classmethod
    def of(
        cls, model: PreTrainedModel, tokenizer: Tokenizer, *, end: str, trace: Trace
    ) -> AudioChat:
        """Around a loaded model.

        Args:
            model: the whole of it.
            tokenizer: its tokenizer.
            end: name of the token that ends an answer.
            trace: counts what is done.

        Raises:
            ModelError: the tokenizer is not of this model.
        """
        config: Any = model.config.get_text_config(decoder=True)
        decoder = GreedyDecoder(
            model,
            end_tokens=end_tokens(model, tokenizer, end),
            logits_scaling=getattr(config, "logits_scaling", 1.0),
            trace=trace,
        )
        return cls(decoder, tokenizer, context_tokens=config.max_position_embeddings)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """See ``SpeechLLM.tokenize``; without the leading blank, as published heads want it."""
        bare = [text.removeprefix(" ") for text in texts]
        return [item.ids for item in self._tokenizer.encode_batch(bare, add_special_tokens=False)]

    def token_embeddings(self) -> npt.NDArray[np.float32]:
        """See ``SpeechLLM.token_embeddings``."""
        return self._decoder.token_embeddings()

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text; names of special tokens in it become those."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def text(self, tokens: Sequence[int]) -> str:
        """What tokens say."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text

    def answer(
        self,
        request: DecodeRequest,
        audio: AudioEmbeddings,
        ask: Callable[[str], Conversation],
        wording: Wording,
        *,
        sources: Sequence[str] = (),
    ) -> tuple[tuple[TimedWord, ...], Prompt]:
        """Words of a window, written with as many terms as the context has room for.

        Args:
            request: the window.
            audio: the encoder's pass over it.
            ask: the conversation with what is told of terms, which may be nothing.
            wording: how the model is told of terms.
            sources: the terms as they are said, where it takes pairs.
        """
        untold = self._length(ask(""))
        room = self._context_tokens - untold - len(audio.rows) - answer_tokens(request.samples)
        prompt = build_prompt(
            request.terms,
            budget_tokens=max(0, room),
            count_tokens=lambda text: self._length(ask(text)) - untold,
            wording=wording,
            sources=sources,
        )
        words = self.write(
            audio, ask(prompt.text), samples=request.samples, committed=request.committed
        )
        return words, prompt

    def _length(self, conversation: Conversation) -> int:
        return len(self.tokens(conversation.before)) + len(self.tokens(conversation.told))

    def write(
        self,
        audio: AudioEmbeddings,
        conversation: Conversation,
        *,
        samples: Samples,
        committed: str,
    ) -> tuple[TimedWord, ...]:
        """The answer's words, the committed ones first, with estimated times.

        Args:
            audio: the encoder's pass over the samples.
            conversation: what the model is asked.
            samples: float32 [n], the window's audio.
            committed: text that the answer has to begin with.
        """
        if not len(audio.rows):
            return ()
        said = self.tokens(harmless(committed))
        limit = max(0, answer_tokens(samples) - len(said))
        tokens, probabilities = self._answer(self._row(audio, conversation, said, limit))
        return spread_words(split_words(tokens, probabilities, self.text), samples)

    def begin(self, audio: AudioEmbeddings, conversation: Conversation, tokens: int) -> str:
        """How the model would begin to answer, untold, in so many tokens."""
        before = conversation.shared
        asked = replace(conversation, before=before, told=conversation.untold)
        return self.text(self._answer(self._row(audio, asked, (), tokens))[0])

    def _row(
        self, audio: AudioEmbeddings, asked: Conversation, committed: Sequence[int], limit: int
    ) -> _Row:
        return _Row(
            audio=audio,
            before=tuple(self.tokens(asked.before)),
            shared=tuple(self.tokens(asked.shared)),
            told=self.tokens(asked.told),
            untold=self.tokens(asked.untold),
            committed=committed,
            limit=limit,
        )

    def _answers(self, rows: Sequence[_Row]) -> list[tuple[list[int], list[float]]]:
        pasts = self._heard(rows)
        decoder = self._decoder
        asked = [decoder.embed([*row.told, *row.committed]) for row in rows]
        written = decoder.write(pasts, asked, [row.limit for row in rows])
        texts = [[*row.committed, *new] for row, new in zip(rows, written, strict=True)]
        told = [at for at, text in enumerate(texts) if text]
        scores = decoder.score(
            self._untold(rows, pasts, told),
            [rows[at].untold for at in told],
            [texts[at] for at in told],
        )
        probabilities: list[list[float]] = [[] for _ in rows]
        for at, found in zip(told, scores, strict=True):
            probabilities[at] = found
        return list(zip(texts, probabilities, strict=True))

    def _untold(self, rows: Sequence[_Row], pasts: Sequence[Past], at: Sequence[int]) -> list[Past]:
        """Pasts of some rows in which no terms were told."""
        apart = [number for number in at if rows[number].before != rows[number].shared]
        read = self._heard([replace(rows[number], before=rows[number].shared) for number in apart])
        found = dict(zip(apart, read, strict=True))
        return [found.get(number, pasts[number]) for number in at]

    def _heard(self, rows: Sequence[_Row]) -> list[Past]:
        """What each row has read up to the end of its audio, read now unless it was kept."""
        fresh = [row for row in rows if row.before not in row.audio.kept]
        self._decoder.trace.reused_tokens += sum(
            row.audio.kept[row.before].length for row in rows if row.before in row.audio.kept
        )
        if fresh:
            beginnings = [self._beginning(row) for row in fresh]
            pieces = [self._unread(*each) for each in zip(fresh, beginnings, strict=True)]
            read = self._decoder.read(beginnings, pieces)
            for row, past in zip(fresh, read, strict=True):
                row.audio.kept[row.before] = past
        return [row.audio.kept[row.before] for row in rows]

    def _unread(self, row: _Row, past: Past) -> Tensor:
        """[T, D] of what stands before the audio and of the audio, but for what was read."""
        if not past.length:
            return torch.cat([self._decoder.embed(row.before), row.audio.rows])
        rows: Tensor = row.audio.rows[past.length - len(row.before) :]
        return rows

    def _beginning(self, row: _Row) -> Past:
        """What was read before, settled audio included; nothing where terms in it are new."""
        tokens = row.before
        if (read := row.audio.earlier.pop(tokens, None)) is not None:
            self._decoder.trace.reused_tokens += len(tokens) + row.audio.settled
            return cast("Past", read).up_to(len(tokens) + row.audio.settled)
        if tokens != row.shared:
            return Past()
        if tokens in self._beginnings:
            self._decoder.trace.reused_tokens += len(tokens)
        else:
            read = self._decoder.read([Past()], [self._decoder.embed(tokens)])
            self._beginnings[tokens] = read[0]
        return self._beginnings[tokens]


def heard(request: DecodeRequest, name: str) -> AudioEmbeddings:
    """What the model's own encoder made of a window.

    Raises:
        ModelError: it was encoded by another model.
    """
    if not isinstance(request.encoded.native, AudioEmbeddings):
        raise ModelError(f"{name} decodes from its own encoder only")
    return request.encoded.native


def answer_tokens(samples: Samples) -> int:
    """Most tokens of an answer to audio of this length."""
    return int(TOKENS_PER_S * len(samples) / SAMPLE_RATE_HZ) + SPARE_TOKENS


def harmless(text: str) -> str:
    """Somebody's text without names of special tokens, which would end a turn."""
    return text.replace("<|", "< |")
