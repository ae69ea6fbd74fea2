"""What is spoken in training: sentences, parts of them, carriers around rare and made-up terms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from a2p_engine.errors import TrainingError
from a2p_engine.training.domains import made_up_term

Split = Literal["train", "dev", "test"]

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")
_MIN_FRAGMENT_WORDS = 4
_SHARE_OF_SENTENCES = 0.45  # the rest are carriers and bare lists of terms
_SHARE_OF_LISTS = 0.15
_SHARE_MADE_UP = 0.35  # of the terms; the rest are rare words
_CARRIERS = (
    "we talked about {} for a while",
    "could you send the {} to {} before noon",
    "{} and {} were both on the list",
    "she said that {} is better than {}",
    "please ask {} about the {}",
    "the first one is {} and the second one is {}",
    "i have never heard of {} before",
    "the report names {} {} and {}",
    "in the next meeting {} will present {}",
    "they moved from {} to {} last year",
    "this is {} speaking",
    "the patient was given {} twice a day",
    "can i have a {} with {}",
    "let us start with {}",
    "what does {} mean",
    "i think it was {} not {}",
    "add {} to the order and leave out the {}",
    "between {} and {} there is hardly any difference",
    "the meeting with {} is about {}",
    "no i meant {}",
    "doctor {} will join us with {} from {}",
    "we are switching from {} to {} next quarter",
    "is {} written like {} or like {}",
    "thanks {} and now over to {}",
    "the amount of {} was raised because {} did not help",
    "remember to call {} before you update {}",
    "our partner {} has bought {}",
    "the results for {} look better than those for {}",
    "my name is {} and i work for {}",
    "take the train to {} and get off at {}",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One thing to say."""

    id: str
    text: str


def words_of(text: str) -> list[str]:
    """Words of a text in lower case, punctuation and digits left out."""
    return _WORD.findall(text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))


def read_lines(path: Path) -> list[str]:
    """The non-empty lines of a text file.

    Raises:
        TrainingError: the file cannot be read or is empty.
    """
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"cannot read {path}: {error}") from error
    lines = [line for line in lines if line]
    if not lines:
        raise TrainingError(f"{path} holds no text")
    return lines


@dataclass(frozen=True, kw_only=True, slots=True)
class SentenceSplit:
    """Sentences divided once and for all by a seed; dev and test are never spoken in training."""

    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]


def split_sentences(
    sentences: Sequence[str], *, dev: int = 100, test: int = 200, seed: int = 20
) -> SentenceSplit:
    """Hold out ``dev`` + ``test`` sentences of 8 to 30 words, the same ones for the same seed.

    Raises:
        TrainingError: too few sentences of that length.
    """
    order = np.random.default_rng(seed).permutation(len(sentences))
    usable = [int(i) for i in order if 8 <= len(words_of(sentences[i])) <= 30]
    if len(usable) < dev + test:
        raise TrainingError(f"{len(sentences)} sentences are too few to hold out {dev + test}")
    held = set(usable[: dev + test])
    return SentenceSplit(
        train=tuple(s for i, s in enumerate(sentences) if i not in held),
        dev=tuple(sentences[i] for i in usable[:dev]),
        test=tuple(sentences[i] for i in usable[dev : dev + test]),
    )


def fragments(sentence: str, exclude: frozenset[str]) -> list[str]:
    """Longest runs of a sentence without an excluded word, of at least four words each."""
    runs: list[list[str]] = [[]]
    for token in sentence.split():
        if exclude.isdisjoint(words_of(token)):
            runs[-1].append(token)
        else:
            runs.append([])
    return [" ".join(run) for run in runs if len(run) >= _MIN_FRAGMENT_WORDS]


class TrainingText:
    """Line number -> line, without keeping the lines: the same number always says the same."""

    def __init__(
        self,
        sentences: Sequence[str],
        rare_words: Sequence[str] = (),
        *,
        exclude: Iterable[str] = (),
        seed: int = 1,
    ) -> None:
        """Prepare the sources.

        Args:
            sentences: sentences that may be spoken.
            rare_words: words that fill carriers, beside made-up terms; empty means sentences only.
            exclude: words that must never be spoken; sentences are cut around them, and carriers
                that hold one are left out.
            seed: chooses among sources, crops and words.

        Raises:
            TrainingError: the exclusion leaves nothing to say.
        """
        excluded = frozenset(w for word in exclude for w in words_of(word))
        self._fragments = [f for s in sentences for f in fragments(s, excluded)]
        if not self._fragments:
            raise TrainingError("no sentence is left after the excluded words were taken out")
        self._excluded = excluded
        self._carriers = [c for c in _CARRIERS if excluded.isdisjoint(words_of(c))]
        self._rare = [
            w for w in rare_words if 3 <= len(w) <= 18 and excluded.isdisjoint(words_of(w))
        ]
        self._seed = seed

    def __getitem__(self, number: int) -> Line:
        """The line of that number; deterministic."""
        rng = np.random.default_rng([self._seed, number])
        kind = rng.random()
        if not self._rare or kind < _SHARE_OF_SENTENCES:
            text = self._sentence(number, rng)
        elif self._carriers and kind < 1 - _SHARE_OF_LISTS:
            text = ". ".join(self._fill(c, rng) for c in self._some_carriers(rng))
        else:
            text = self._fill(", ".join(["{}"] * int(rng.integers(2, 8))), rng)
        return Line(id=f"{number:07d}", text=text)

    def _sentence(self, number: int, rng: np.random.Generator) -> str:
        """One or two fragments, or a crop of them that starts and ends in mid-sentence."""
        tokens = self._fragments[number % len(self._fragments)].split()
        if rng.random() < 0.35 and len(tokens) < 25:
            tokens += self._fragments[int(rng.integers(len(self._fragments)))].split()
        if rng.random() < 0.4 and len(tokens) > _MIN_FRAGMENT_WORDS:
            length = int(rng.integers(_MIN_FRAGMENT_WORDS, len(tokens) + 1))
            start = int(rng.integers(0, len(tokens) - length + 1))
            tokens = tokens[start : start + length]
        return " ".join(tokens)

    def _some_carriers(self, rng: np.random.Generator) -> list[str]:
        """One to three different ones, fewer if no more are left."""
        count = min(int(rng.integers(1, 4)), len(self._carriers))
        drawn = rng.choice(len(self._carriers), size=count, replace=False)
        return [self._carriers[c] for c in drawn]

    def _fill(self, carrier: str, rng: np.random.Generator) -> str:
        return carrier.format(*(self._term(rng) for _ in range(carrier.count("{}"))))

    def _term(self, rng: np.random.Generator) -> str:
        if rng.random() < _SHARE_MADE_UP:
            term = made_up_term(rng)
            if self._excluded.isdisjoint(words_of(term)):
                return term
        return self._rare[int(rng.integers(len(self._rare)))]
