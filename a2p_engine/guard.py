"""Looks at what the speech LLM wrote: no term without its sound, no prompt, its own language.

A speech LLM that is told a term may write it where something else was said, one that hears little
may write its prompt, and one that is told something in another language may go on in that. Whatever
model decodes, what it wrote of its prompt is held against the audio here; where that is in doubt
the audio is decoded again without the doubtful terms, and the better reading of the two stays.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean

from a2p_engine.cut_short import Decode, completed
from a2p_engine.loops import loops
from a2p_engine.prompt import JOINT, PAIRED, Prompt
from a2p_engine.retriever.evidence import Fit
from a2p_engine.retriever.glossary_index import GlossaryIndex
from a2p_engine.retriever.retriever import Retriever, RetrieverState
from a2p_engine.retriever.spotter import PhoneIndex
from a2p_engine.scripts import in_another_script
from a2p_engine.selection import Candidate
from a2p_engine.speech_llm.base import Hypothesis
from a2p_engine.text import occurrences, plain, shared_words
from a2p_engine.types import SAMPLE_RATE_HZ

log = logging.getLogger(__name__)

# Costs are nats per phoneme of the spotter's match where a term was written; probabilities are the
# speech LLM's, of the least probable word. Chosen on development speech, a synthetic voice clean
# and in noise, prompted with good and with wrong terms; docs/architecture.md has the counts.
HOPELESS_COST = 1.5  # where a term was said it hardly ever costs as much
DOUBTFUL_COST = 0.4  # costs more, and ...
UNSURE = 0.2  # ... is less probable: rarely said
# Another reading wins if it fits better by so much and the model, untold, is so sure of it. A name
# that the model cannot spell is read by ear, which always fits, but then it is not sure.
BETTER_BY = 0.25
SURE = 0.5
# A term that is less probable than not, as one of several sound-alikes is, loses to another reading
# of which the model is as sure as this unless it fits better than that.
LIKELY = 0.5
VERY_SURE = 0.9
# A term that is improbable goes if the model, told of it, hardly believes it either: on development
# speech nine of those were not said for one that was; of those up to 0.35, two.
IMPROBABLE = 0.15
UNCONVINCED = 0.3
# Word times are exact to about a syllable.
MARGIN_SAMPLES = SAMPLE_RATE_HZ * 3 // 10
# Times that are spread over the speech by letters are off by as much as a pause is long.
ESTIMATED_MARGIN_SAMPLES = 2 * SAMPLE_RATE_HZ
# A refused term is offered again when it has become so many times more probable.
READMIT_ODDS = 4.0
# A told text may be in another language if the model, untold, is less sure of it than this on the
# whole and would hardly write one of its words at all; and is, if its own text is so much surer.
# Spanish, French and Italian sentences that came out in English had 0.00 to 0.46 with a word below
# 0.02; in their own language most had over 0.5, and 0.1 to 0.6 more.
STRANGE = 0.5
STRANGE_WORD = 0.05
STRANGER_BY = 0.1
STRANGE_WORDS = 3
# This many prompted terms in a row, in the prompt's order, are the prompt and not speech.
ECHO_TERMS = 3
# A sentence of the prompt's own of so many words is the prompt wherever it stands, a shorter one
# at the beginning.
ECHO_WORDS = 4

Span = tuple[int, int]  # samples in the segment


@dataclass(frozen=True, kw_only=True, slots=True)
class Ear:
    """Holds what is written against the audio of a segment.

    Attributes:
        retriever: what listens.
        state: what it has heard of the segment.
        index: the glossary of the terms.
        hop_samples: samples of an encoder frame.
        languages: that it understands.
    """

    retriever: Retriever
    state: RetrieverState
    index: GlossaryIndex
    hop_samples: int
    languages: tuple[str, ...]

    def term(self, offer: Candidate, span: Span) -> Fit | None:
        """Best match of a term within a stretch; None where there is no audio."""
        return self._fit(self.index.pronunciations(offer.number), span)

    def text(self, text: str, span: Span) -> Fit | None:
        """Best match of any text; None where nothing of it can be said."""
        return self._fit(self.retriever.pronounce(text.strip()), span)

    def heard(self) -> int:
        """Phonemes in the audio."""
        return self.retriever.phonemes_heard(self.state)

    def said(self, hypothesis: Hypothesis) -> int | None:
        """Phonemes of a text; None in another language."""
        if hypothesis.language not in self.languages:
            return None
        return int(max(self.retriever.pronounce(hypothesis.text).lengths, default=0))

    def _fit(self, phones: PhoneIndex, span: Span) -> Fit | None:
        begin, end = span[0] // self.hop_samples, -(-span[1] // self.hop_samples)
        return self.retriever.fit(self.state, phones, begin, end)


@dataclass(frozen=True, kw_only=True, slots=True)
class Doubt:
    """A prompted term that hardly fits where it was written.

    Attributes:
        offer: the term.
        words: from the beginning of its first word to the end of its last.
        heard: the stretch in which it was listened for.
        fit: its best match there, if there is any.
        probability: of its least probable word, by the speech LLM.
    """

    offer: Candidate
    words: Span
    heard: Span
    fit: Fit | None
    probability: float

    @property
    def cost(self) -> float:
        """Nats per phoneme."""
        return self.fit.mean_cost if self.fit else math.inf

    @property
    def founded(self) -> bool:
        """Whether the term must be asked about."""
        unlikely = self.cost > DOUBTFUL_COST and self.probability < UNSURE
        rival = self.offer.probability < LIKELY and self.probability < SURE
        return unlikely or rival or self.cost > HOPELESS_COST

    @property
    def unconvincing(self) -> bool:
        """Whether neither the evidence nor the model speaks for the term."""
        return self.offer.probability < IMPROBABLE and self.probability < UNCONVINCED


class Guard:
    """One segment's guard; what it has decided it need not ask again at the next tick."""

    def __init__(self) -> None:
        self._refused: dict[str, float] = {}  # odds of a term when it was refused
        self._cleared: list[tuple[str, Span]] = []

    def admits(self, candidate: Candidate) -> bool:
        """Whether a term may be offered: it was not refused, or is much more probable since."""
        refused = self._refused.get(candidate.term.text)
        return refused is None or candidate.odds >= READMIT_ODDS * refused

    def write(
        self,
        offered: Sequence[Candidate],
        decode: Decode,
        *,
        ear: Ear | None = None,
        committed: str = "",
    ) -> Hypothesis:
        """Decode, and again without the terms that do not fit or without a prompt that is recited.

        With all terms; without the doubtful ones; again with those of them that were cleared; and,
        where others are in doubt by then, without any.

        Args:
            offered: terms to tell the model, most probable first.
            decode: writes the segment down with the given terms in its prompt.
            ear: compares with the audio; without it, only recitals are noticed.
            committed: text that cannot be changed, so there is no point in doubting it.
        """
        return self._write(offered, lambda terms: completed(decode, terms, ear), ear, committed)

    def _write(
        self,
        offered: Sequence[Candidate],
        decode: Callable[[Sequence[Candidate]], Hypothesis],
        ear: Ear | None,
        committed: str,
        *,
        last: bool = False,
    ) -> Hypothesis:
        told = decode(offered)
        if strange(told) and (own := decode([])) and strayed(told, own):
            log.info("decoded again: the prompt had changed the language")
            return own
        if (heading := headed(told)) and not says(own := decode([]), heading):
            log.info("decoded again: the prompt's heading was written")
            return own
        recited, doubts = recites(told), self._doubts(told, offered, ear, committed)
        if not recited and not doubts:
            return told
        doubtful = {doubt.offer.term.text for doubt in doubts}
        rest = [offer for offer in offered if offer.term.text not in doubtful]
        without = self._write([] if recited or last else rest, decode, ear, committed, last=True)
        refused = [doubt for doubt in doubts if ear and _outdone(doubt, without, ear)]
        self._remember(doubts, refused)
        log.info(
            "decoded again: %s of %d doubtful terms did not fit%s",
            len(refused),
            len(doubtful),
            ", the prompt was recited" if recited else "",
        )
        if recited or not refused:
            return without if recited else told
        lost = {doubt.offer.term.text for doubt in refused}
        if doubtful == lost or last:
            return without
        kept = [offer for offer in offered if offer.term.text not in lost]
        return self._write(kept, decode, ear, committed, last=True)

    def _doubts(
        self, hypothesis: Hypothesis, offered: Sequence[Candidate], ear: Ear | None, committed: str
    ) -> list[Doubt]:
        if ear is None:
            return []
        texts = [word.text for word in hypothesis.words]
        fixed = shared_words(texts, committed)
        doubts: list[Doubt] = []
        for offer in offered:
            if offer.term.text not in hypothesis.prompt.terms:
                continue
            for place, words, heard in _stretches(hypothesis, texts, offer.term.text):
                if place[-1] >= fixed and not self._is_cleared(offer, words):
                    doubt = Doubt(
                        offer=offer,
                        words=words,
                        heard=heard,
                        fit=ear.term(offer, heard),
                        probability=min(hypothesis.words[at].probability for at in place),
                    )
                    doubts += [doubt] if doubt.founded else []
        return doubts

    def _is_cleared(self, offer: Candidate, words: Span) -> bool:
        return any(
            text == offer.term.text and min(words[1], end) >= max(words[0], begin)
            for text, (begin, end) in self._cleared
        )

    def _remember(self, doubts: Sequence[Doubt], refused: Sequence[Doubt]) -> None:
        self._refused |= {doubt.offer.term.text: doubt.offer.odds for doubt in refused}
        self._cleared += [
            (doubt.offer.term.text, doubt.words)
            for doubt in doubts
            if doubt.offer.term.text not in self._refused
        ]


def _stretches(
    hypothesis: Hypothesis, texts: Sequence[str], term: str
) -> Iterator[tuple[range, Span, Span]]:
    """Of each place where a term is written: which words, their audio, and where to listen.

    One stretch does not reach into another, so that what was said once is not heard twice.
    """
    words = hypothesis.words
    margin = ESTIMATED_MARGIN_SAMPLES if hypothesis.estimated_times else MARGIN_SAMPLES
    places = occurrences(texts, term)
    spans = [(words[place[0]].start_sample, words[place[-1]].end_sample) for place in places]
    for number, (begin, end) in enumerate(spans):
        low, high = begin - margin, end + margin
        if number:
            low = max(low, spans[number - 1][1])
        if number + 1 < len(spans):
            high = min(high, spans[number + 1][0])
        yield places[number], (begin, end), (max(low, 0), high)


def _outdone(doubt: Doubt, without: Hypothesis, ear: Ear) -> bool:
    """Whether what is written without a term is clearly better where the term was written."""
    if doubt.fit is None or doubt.unconvincing:
        return True
    begin, end = doubt.words
    reading = [
        word
        for word in without.words
        if 2 * (min(word.end_sample, end) - max(word.start_sample, begin))
        > word.end_sample - word.start_sample
    ]
    other = ear.text("".join(word.text for word in reading), doubt.heard) if reading else None
    if other is None or 2 * other.length < doubt.fit.length:  # says little of this stretch
        return doubt.cost > HOPELESS_COST
    sure = min(word.probability for word in reading)
    if doubt.offer.probability < LIKELY and sure >= VERY_SURE:
        return other.mean_cost <= doubt.cost
    worse = other.mean_cost + BETTER_BY <= doubt.cost
    return worse and (sure >= SURE or doubt.cost > HOPELESS_COST)


def strange(hypothesis: Hypothesis) -> bool:
    """Whether a prompt may have made the model go on in another language.

    In another script, or of words that the model would hardly write untold; those of the prompt do
    not count.
    """
    terms = hypothesis.prompt.terms
    if not terms and not hypothesis.prompt.context:
        return False
    sure = _untold(hypothesis, terms)
    unlikely = len(sure) >= STRANGE_WORDS and min(sure) < STRANGE_WORD and mean(sure) < STRANGE
    return unlikely or _foreign(hypothesis, terms)


def strayed(told: Hypothesis, own: Hypothesis) -> bool:
    """Whether a strange text is put right by what the model writes untold."""
    terms = told.prompt.terms
    if _foreign(told, terms):
        return not _foreign(own, terms)
    before, after = _untold(told, terms), _untold(own, terms)
    return bool(after) and mean(after) >= max(STRANGE, mean(before) + STRANGER_BY)


def _foreign(hypothesis: Hypothesis, terms: Sequence[str]) -> bool:
    text = "".join(word.text for word in hypothesis.words)
    return in_another_script(text, hypothesis.language, terms)


def _untold(hypothesis: Hypothesis, terms: Sequence[str]) -> list[float]:
    """Probabilities of the words that belong to no term."""
    texts = [word.text for word in hypothesis.words]
    named = {place for term in terms for run in occurrences(texts, term) for place in run}
    return [word.probability for at, word in enumerate(hypothesis.words) if at not in named]


def headed(hypothesis: Hypothesis) -> str:
    """The one word under which the prompt lists its terms, if it was written; else nothing."""
    heading = plain(hypothesis.prompt.opening)
    single = len(heading.split()) == 1 and heading not in map(plain, hypothesis.prompt.terms)
    return heading if single and says(hypothesis, heading) else ""


def says(hypothesis: Hypothesis, word: str) -> bool:
    """Whether a word, without capitals and punctuation, is in a text."""
    return any(word in plain(each.text).split() for each in hypothesis.words)


def recites(hypothesis: Hypothesis) -> bool:
    """Whether a prompt came back as text, in its own words or in a loop."""
    if not hypothesis.prompt.terms:
        return False
    text = "".join(word.text for word in hypothesis.words)
    return echoes(text, hypothesis.prompt) or loops(text)


def echoes(text: str, prompt: Prompt) -> bool:
    """Whether a text recites its prompt instead of the audio: terms in a row, pairs, own words."""
    said = text.casefold().strip()
    told = [item.casefold() for item in prompt.told]
    runs = [JOINT.join(told[i : i + ECHO_TERMS]) for i in range(len(told) - ECHO_TERMS + 1)]
    paired = [item for item in told if PAIRED in item and item not in prompt.terms]
    sentences = [each for each in prompt.opening.casefold().split(". ") if each]
    own = [sentence for sentence in sentences if len(sentence.split()) >= ECHO_WORDS]
    return any(part in said for part in [*runs, *paired, *own]) or any(
        said.startswith(sentence) for sentence in sentences
    )
