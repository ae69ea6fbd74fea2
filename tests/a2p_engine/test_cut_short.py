"""Texts that end before the speech does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from a2p_engine.cut_short import completed
from a2p_engine.prompt import GLOSSARY, build_prompt
from a2p_engine.selection import Candidate
from a2p_engine.speech_llm.base import Hypothesis, TimedWord
from a2p_engine.types import Term

TERMS = [Candidate(term=Term(text="Oswald"), number=0, probability=0.9, cost=1.0, start=0, end=9)]
WHOLE = "Chapter seven Lee Harvey Oswald"
Asked = tuple[bool, str]  # whether terms were told, and the beginning


def _written(text: str, probability: float) -> Hypothesis:
    words = tuple(
        TimedWord(text=f" {word}", start_sample=at, end_sample=at + 1, probability=probability)
        for at, word in enumerate(text.split())
    )
    prompt = build_prompt([], budget_tokens=9, count_tokens=len, wording=GLOSSARY)
    return Hypothesis(words=words, language="en", prompt=prompt)


@dataclass
class _Model:
    """Writes a text for each request; one that is not foreseen is an error."""

    texts: Mapping[Asked, str]
    probability: float = 0.9
    asked: list[Asked] = field(default_factory=list)

    def __call__(self, terms: Sequence[Candidate], /, *, beginning: str = "") -> Hypothesis:
        self.asked.append((bool(terms), beginning))
        return _written(self.texts[self.asked[-1]], self.probability)


@dataclass
class _Count:
    """So many phonemes are heard; a text is said with as many as it has letters, or as given."""

    phonemes: int
    lengths: Mapping[str, int | None] = field(default_factory=dict)

    def heard(self) -> int:
        return self.phonemes

    def said(self, hypothesis: Hypothesis) -> int | None:
        return self.lengths.get(hypothesis.text, len(hypothesis.text.replace(" ", "")))


def test_a_text_that_accounts_for_half_of_what_was_heard_is_whole() -> None:
    """And is asked for once; so is one that nobody counts."""
    model = _Model({(True, ""): "Chapter seven"})
    assert completed(model, TERMS, _Count(24)).text == "Chapter seven"
    assert completed(model, TERMS, None).text == "Chapter seven"
    assert len(model.asked) == 2


def test_a_text_that_ends_before_the_speech_is_gone_on_with() -> None:
    """With the same terms."""
    model = _Model({(True, ""): "Chapter seven", (True, "Chapter seven"): WHOLE})
    assert completed(model, TERMS, _Count(30)).text == WHOLE
    assert model.asked == [(True, ""), (True, "Chapter seven")]


def test_what_the_model_is_not_sure_of_is_not_added() -> None:
    """What it writes untold stands instead, if that goes further."""
    texts = {(True, ""): "Oswald", (True, "Oswald"): "Oswald or any other day"}
    model = _Model(texts | {(False, ""): "As well as any other day"}, probability=0.4)
    assert completed(model, TERMS, _Count(24)).text == "As well as any other day"
    model = _Model(texts | {(False, ""): "Also"}, probability=0.4)
    assert completed(model, TERMS, _Count(24)).text == "Oswald"


def test_an_untold_text_has_no_other_to_stand_in() -> None:
    """It is gone on with, or stays."""
    texts = {(False, ""): "Chapter seven", (False, "Chapter seven"): "Chapter seven"}
    model = _Model(texts)
    assert completed(model, [], _Count(30)).text == "Chapter seven"
    assert len(model.asked) == 2


def test_a_few_phonemes_are_not_missed() -> None:
    """A second of speech is where live captions are anyway."""
    model = _Model({(True, ""): "Lee"})
    assert completed(model, TERMS, _Count(13)).text == "Lee"
    assert len(model.asked) == 1


def test_numbers_and_abbreviations_count_as_they_are_said() -> None:
    """And where nobody knows how a text is said, nothing is missed."""
    model = _Model({(True, ""): "30061"})
    assert completed(model, TERMS, _Count(25, {"30061": 15})).text == "30061"
    assert completed(model, TERMS, _Count(25, {"30061": None})).text == "30061"
    assert len(model.asked) == 2


def test_nothing_is_added_to_nothing() -> None:
    """Where no word was written the model heard no speech."""
    model = _Model({(True, ""): ""})
    assert completed(model, TERMS, _Count(90)).text == ""
