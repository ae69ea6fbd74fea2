"""What is spoken in training: sentences, parts of them, carriers around rare and made-up terms."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from hibari.g2p.normalize import normalize

from a2p_engine.errors import TrainingError
from a2p_engine.training.domains import made_up_term

Split = Literal["train", "dev", "test"]

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")
# What the phonemizer's dictionary reads in full, beside the abbreviations that it writes out.
_READ_IN_FULL = {
    "mr": "mister", "mrs": "missus", "dr": "doctor", "drs": "doctors", "etc": "et cetera",
}  # fmt: skip
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


def spoken_words(text: str) -> list[str]:
    """Words of a text as the phonemizer says them: "Rev." is "reverend", "5 km" "kilometers"."""
    words = words_of(str(normalize(text)))
    return [part for word in words for part in _READ_IN_FULL.get(word, word).split()]


class TermSet:
    """Terms as sequences of words, found wherever these follow each other.

    Only exact words count: a plural or a possessive is another word. Abbreviations count as they
    are written and as they are spoken.
    """

    def __init__(self, terms: Iterable[str] = ()) -> None:
        """Take terms as they are written; those without a letter are left out."""
        self.terms = frozenset(tuple(words_of(term)) for term in terms) - {()}
        self._lengths = sorted({len(term) for term in self.terms})

    def found_in(self, text: str) -> set[tuple[str, ...]]:
        """The terms that a text says."""
        return self._written_in(text) | self._among(spoken_words(text))

    def cut(self, text: str) -> list[str]:
        """Longest runs of a text's tokens without a term; a phrase is cut before its last word."""
        return [part for run in self.cut_as_written(text) for part in self._cut_as_spoken(run)]

    def cut_as_written(self, text: str) -> list[str]:
        """The same, but that a run may say a term by an abbreviation."""
        return self._cut(text, self._written_in)

    def _cut_as_spoken(self, run: str) -> list[str]:
        if not self.found_in(run):
            return [run]
        return [part for part in self._cut(run, self.found_in) if not self.found_in(part)]

    def _cut(self, text: str, found_in: Callable[[str], set[tuple[str, ...]]]) -> list[str]:
        reach = max(self._lengths, default=1)
        runs: list[list[str]] = [[]]
        for token in text.split():
            if found_in(token):
                runs.append([])
            elif found_in(" ".join([*runs[-1][-reach:], token])):
                runs.append([token])
            else:
                runs[-1].append(token)
        return [" ".join(run) for run in runs if run]

    def _written_in(self, text: str) -> set[tuple[str, ...]]:
        return self._among(words_of(text))

    def _among(self, words: Sequence[str]) -> set[tuple[str, ...]]:
        return {
            run
            for length in self._lengths
            for start in range(len(words) - length + 1)
            if (run := tuple(words[start : start + length])) in self.terms
        }


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
            exclude: words and phrases that must never be spoken; sentences are cut around them.
            seed: chooses among sources, crops and words.

        Raises:
            TrainingError: the exclusion leaves nothing to say.
        """
        self._excluded = TermSet(exclude)
        # An abbreviation shortens its fragment and leaves the others under their numbers.
        self._fragments = [
            max(parts, key=len)
            for sentence in sentences
            for run in self._excluded.cut_as_written(sentence)
            if len(run.split()) >= _MIN_FRAGMENT_WORDS and (parts := self._excluded.cut(run))
        ]
        if not self._fragments:
            raise TrainingError("no sentence is left after the excluded words were taken out")
        self._rare = [w for w in rare_words if 3 <= len(w) <= 18 and not self._excluded.found_in(w)]
        self._seed = seed

    def __getitem__(self, number: int) -> Line:
        """The line of that number; deterministic."""
        rng = np.random.default_rng([self._seed, number])
        while self._excluded.found_in(text := self._draw(number, rng)):
            pass  # a carrier's own words, or a phrase over a seam
        return Line(id=f"{number:07d}", text=text)

    def _draw(self, number: int, rng: np.random.Generator) -> str:
        kind = rng.random()
        if not self._rare or kind < _SHARE_OF_SENTENCES:
            return self._sentence(number, rng)
        if kind < 1 - _SHARE_OF_LISTS:
            carriers = rng.choice(len(_CARRIERS), size=int(rng.integers(1, 4)), replace=False)
            return ". ".join(self._fill(_CARRIERS[c], rng) for c in carriers)
        return self._fill(", ".join(["{}"] * int(rng.integers(2, 8))), rng)

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

    def _fill(self, carrier: str, rng: np.random.Generator) -> str:
        return carrier.format(*(self._term(rng) for _ in range(carrier.count("{}"))))

    def _term(self, rng: np.random.Generator) -> str:
        if rng.random() < _SHARE_MADE_UP:
            term = made_up_term(rng)
            if not self._excluded.found_in(term):
                return term
        return self._rare[int(rng.integers(len(self._rare)))]
