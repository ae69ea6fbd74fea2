"""The guard: what it doubts, what it asks for again, and what it remembers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from a2p_engine.guard import Guard, Span, echoes, strange
from a2p_engine.loops import loops
from a2p_engine.prompt import GLOSSARY, Prompt, PromptTemplate, build_prompt
from a2p_engine.retriever.evidence import Fit
from a2p_engine.selection import Candidate
from a2p_engine.speech_llm.base import Hypothesis, TimedWord
from a2p_engine.speech_llm.qwen2_audio import TERMS
from a2p_engine.text import plain
from a2p_engine.types import Term
from tests.a2p_engine.timed import text_of, timed

HZ = 16_000


def _prompt(wording: PromptTemplate, *terms: str, sources: Sequence[str] = ()) -> Prompt:
    return build_prompt(
        terms, budget_tokens=99, count_tokens=lambda _: 1, wording=wording, sources=sources
    )


def _offer(text: str, probability: float = 0.5) -> Candidate:
    return Candidate(
        term=Term(text=text), number=0, probability=probability, cost=1.0, start=0, end=9
    )


def _written(text: str, terms: Sequence[str], probability: Mapping[str, float]) -> Hypothesis:
    """Words of half a second each; what the model was told it finds improbable."""
    words = tuple(
        TimedWord(
            text=f" {word}",
            start_sample=at * HZ // 2,
            end_sample=(at + 1) * HZ // 2,
            probability=probability.get(word, 0.1 if plain(word) in terms else 0.9),
        )
        for at, word in enumerate(text.split())
    )
    told = _prompt(GLOSSARY, *terms)
    return Hypothesis(words=words, language="en", prompt=told)


@dataclass
class _Model:
    """Writes a text for each set of terms it is told; an unforeseen set is an error."""

    texts: Mapping[tuple[str, ...], str]
    probability: Mapping[str, float] = field(default_factory=dict)
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def __call__(self, offered: Sequence[Candidate], *, beginning: str = "") -> Hypothesis:
        terms = tuple(offer.term.text for offer in offered)
        self.asked.append(terms)
        return _written(self.texts[terms], terms, self.probability)


@dataclass
class _Ear:
    """Knows what each word costs per phoneme; ``placed`` ones only where they begin, in seconds."""

    costs: Mapping[str, float]
    placed: Mapping[str, float] = field(default_factory=dict)
    listened: list[tuple[str, Span]] = field(default_factory=list)

    def term(self, offer: Candidate, span: Span) -> Fit | None:
        return self.text(offer.term.text, span)

    def text(self, text: str, span: Span) -> Fit | None:
        text = text.strip()
        self.listened.append((text, span))
        if not text:
            return None
        at = self.placed.get(text)
        here = at is None or span[0] <= at * HZ < span[1]
        cost = self.costs[text] if here else 4.0
        return Fit(cost * len(text), len(text), 0, 9)

    def heard(self) -> int:
        """Nothing that could be missed."""
        return 0


def test_a_term_that_fits_is_not_questioned() -> None:
    """One decoding, and one look at the place where the term stands, a little widened."""
    model, ear = _Model({("panda",): "the panda sleeps"}), _Ear({"panda": 0.1})
    hypothesis = Guard().write([_offer("panda")], model, ear=ear)
    assert text_of(hypothesis.words) == "the panda sleeps"
    assert model.asked == [("panda",)]
    [(term, (begin, end))] = ear.listened
    assert term == "panda" and 0 < begin < HZ // 2 and HZ < end < 3 * HZ // 2


def test_where_times_are_estimates_a_term_is_looked_for_in_a_wider_stretch() -> None:
    """A pause before the word moves its audio; two seconds to each side are listened to."""
    model, ear = _Model({("panda",): "the panda sleeps"}), _Ear({"panda": 0.1}, {"panda": 2.5})

    def estimated(offered: Sequence[Candidate]) -> Hypothesis:
        return replace(model(offered), estimated_times=True)

    hypothesis = Guard().write([_offer("panda")], estimated, ear=ear)
    assert text_of(hypothesis.words) == "the panda sleeps"
    assert model.asked == [("panda",)]
    assert ear.listened == [("panda", (0, 3 * HZ))]


def test_a_term_that_does_not_fit_where_something_else_does_is_taken_out() -> None:
    """The other terms stay in the prompt."""
    model = _Model(
        {
            ("bicker", "panda"): "the panda met bicker",
            ("panda",): "the panda met Baker",
        }
    )
    ear = _Ear({"panda": 0.1, "bicker": 0.6, "Baker": 0.1})
    hypothesis = Guard().write([_offer("bicker"), _offer("panda")], model, ear=ear)
    assert text_of(hypothesis.words) == "the panda met Baker"
    assert hypothesis.prompt.terms == ("panda",)


@pytest.mark.parametrize(("cost", "probability"), [(0.6, 0.9), (0.5, 0.9), (3.0, 0.9), (0.0, 0.4)])
def test_a_term_stays_where_nothing_else_is_clearly_better(cost: float, probability: float) -> None:
    """In noise nothing fits well, and what is read by ear fits always, but without conviction.

    Having asked once, the guard does not ask again.
    """
    model = _Model(
        {("rugeley",): "in rugeley now", (): "in Rujali now"}, probability={"Rujali": probability}
    )
    ear = _Ear({"rugeley": 0.7, "Rujali": cost})
    guard = Guard()
    for _ in range(3):
        hypothesis = guard.write([_offer("rugeley")], model, ear=ear)
        assert text_of(hypothesis.words) == "in rugeley now"
    assert model.asked == [("rugeley",), (), ("rugeley",), ("rugeley",)]


@pytest.mark.parametrize(("probability", "text"), [(0.3, "at my heels"), (0.6, "at my heals")])
def test_of_two_that_sound_alike_the_improbable_term_gives_way(
    probability: float, text: str
) -> None:
    """To a word that fits as well and of which the model is sure; a probable term does not."""
    model = _Model({("heals",): "at my heals", (): "at my heels"})
    ear = _Ear({"heals": 0.2, "heels": 0.2})
    told = Guard().write([_offer("heals", probability)], model, ear=ear)
    assert text_of(told.words) == text


@pytest.mark.parametrize(
    ("probability", "told", "stays"), [(0.1, 0.2, False), (0.2, 0.2, True), (0.1, 0.35, True)]
)
def test_an_improbable_term_must_convince_the_model(
    probability: float, told: float, stays: bool
) -> None:
    """It goes though it fits as well as another reading, of which the model is not sure."""
    texts = {("delano",): "miss delano", (): "miss Delena"}
    model = _Model(texts, probability={"delano": told, "Delena": 0.5})
    ear = _Ear({"delano": 0.2, "Delena": 0.2})
    hypothesis = Guard().write([_offer("delano", probability)], model, ear=ear)
    assert text_of(hypothesis.words) == ("miss delano" if stays else "miss Delena")


def test_a_term_that_was_cleared_is_told_again() -> None:
    """What was doubted beside a term that is refused does not go with it."""
    model = _Model(
        {
            ("heals", "popham"): "popham at my heals",
            (): "parfum at my heels",
            ("popham",): "popham at my heels",
        },
        probability={"parfum": 0.2},
    )
    ear = _Ear({"heals": 0.2, "heels": 0.2, "popham": 0.3, "parfum": 0.1})
    offered = [_offer("heals", 0.3), _offer("popham", 0.3)]
    told = Guard().write(offered, model, ear=ear)
    assert text_of(told.words) == "popham at my heels"
    assert model.asked == [("heals", "popham"), (), ("popham",)]


def test_a_term_of_which_the_model_itself_is_sure_is_not_questioned() -> None:
    """Unless there is no such sound at all."""
    model = _Model({("defacing",): "defacing", (): "facing"}, probability={"defacing": 0.3})
    costs = {"defacing": 1.4, "facing": 0.0}
    for cost, kept in ((1.4, "defacing"), (1.6, "facing")):
        ear = _Ear(costs | {"defacing": cost})
        assert text_of(Guard().write([_offer("defacing")], model, ear=ear).words) == kept


@pytest.mark.parametrize(("reading", "text"), [("", "we saw"), ("a", "we saw a")])
def test_a_term_without_any_sound_goes_even_if_nothing_is_read_there(
    reading: str, text: str
) -> None:
    """What is much shorter than the term says little of the stretch, however well it fits."""
    model = _Model({("chimpanzee",): "we saw chimpanzee", (): text})
    for cost, kept in ((1.4, "we saw chimpanzee"), (1.6, text)):
        ear = _Ear({"chimpanzee": cost, "a": 0.0})
        hypothesis = Guard().write([_offer("chimpanzee")], model, ear=ear)
        assert text_of(hypothesis.words) == kept


def test_a_term_behind_the_end_of_the_audio_goes() -> None:
    """Where nothing was heard nothing was said."""

    class Deaf(_Ear):
        def term(self, offer: Candidate, span: Span) -> Fit | None:
            return None

    model = _Model({("panda",): "hello panda", (): "hello"})
    assert text_of(Guard().write([_offer("panda")], model, ear=Deaf({})).words) == "hello"


def test_one_sound_does_not_stand_for_a_term_written_twice() -> None:
    """The second place is listened to by itself, without the first one's audio."""
    model = _Model({("panda",): "panda panda sleeps", (): "panda sleeps"})
    ear = _Ear({"panda": 0.1, "sleeps": 0.1}, placed={"panda": 0.2})
    guard = Guard()
    hypothesis = guard.write([_offer("panda")], model, ear=ear)
    assert text_of(hypothesis.words) == "panda sleeps"
    assert not guard.admits(_offer("panda"))


def test_what_was_refused_comes_back_on_clearly_better_evidence_only() -> None:
    """So the next tick neither pays again nor brings the word back."""
    model = _Model({("bicker",): "met bicker", (): "met Baker"})
    ear = _Ear({"bicker": 0.6, "Baker": 0.1})
    guard = Guard()
    assert guard.admits(_offer("bicker", 0.5))
    guard.write([_offer("bicker", 0.5)], model, ear=ear)
    assert [guard.admits(_offer("bicker", p)) for p in (0.4, 0.5, 0.75, 0.85)] == [
        False,
        False,
        False,
        True,
    ]
    assert guard.admits(_offer("panda", 0.1))


def test_committed_words_are_not_doubted() -> None:
    """They cannot be changed; the same term behind them can."""
    model = _Model({("panda",): "a panda saw a panda", (): "a panda saw a pan"})
    ear = _Ear({"panda": 0.9, "pan": 0.1})
    Guard().write([_offer("panda")], model, ear=ear, committed="a panda saw")
    assert {span[0] >= 3 * HZ // 2 - HZ // 2 for _, span in ear.listened} == {True}
    model.asked.clear()
    Guard().write([_offer("panda")], model, ear=ear, committed="a panda saw a panda")
    assert model.asked == [("panda",)]


def test_a_second_text_that_is_doubtful_too_costs_the_whole_prompt() -> None:
    """Three decodings are the most, and at the next tick it is one."""
    model = _Model(
        {("bicker", "capta"): "the bicker", ("capta",): "the capta", (): "the Baker"},
        probability={"capta": 0.9},
    )
    ear = _Ear({"bicker": 2.0, "capta": 0.3, "Baker": 0.1})
    offered = [_offer("bicker"), _offer("capta")]
    assert text_of(Guard().write(offered, model, ear=ear).words) == "the capta"
    guard, ear.costs = Guard(), {"bicker": 2.0, "capta": 1.6, "Baker": 0.1}
    assert text_of(guard.write(offered, model, ear=ear).words) == "the Baker"
    assert model.asked[2:] == [("bicker", "capta"), ("capta",), ()]
    assert not any(guard.admits(offer) for offer in offered)


def test_a_recited_prompt_is_dropped_and_its_terms_are_judged() -> None:
    """Those that were heard may be offered at the next tick."""
    terms = ("apixaban", "warfarin", "digoxin")
    model = _Model({terms: "Apixaban, warfarin, digoxin.", (): "took warfarin"})
    ear = _Ear(
        {"apixaban": 1.4, "warfarin": 0.1, "digoxin": 1.6, "took": 0.0, "took warfarin": 0.0}
    )
    guard = Guard()
    hypothesis = guard.write([_offer(term) for term in terms], model, ear=ear)
    assert text_of(hypothesis.words) == "took warfarin"
    assert [guard.admits(_offer(term)) for term in terms] == [False, True, False]


def test_without_an_ear_only_recitals_are_noticed() -> None:
    """As for translations, of which nobody can tell where they were said."""
    terms = ("one", "two", "three")
    model = _Model({terms: "Glossary: one", ("one",): "one", (): "hello"})
    assert text_of(Guard().write([_offer(t) for t in terms], model).words) == "hello"
    assert text_of(Guard().write([_offer("one")], model).words) == "one"


def test_the_prompt_read_out_is_an_echo_but_a_spoken_term_is_not() -> None:
    """Three terms in the prompt's order, or its opening word, give it away."""
    prompt = _prompt(GLOSSARY, "apixaban", "warfarin", "digoxin")
    assert echoes(" Apixaban, warfarin, digoxin.", prompt)
    assert echoes(" Glossary: apixaban", prompt)
    assert not echoes(" We gave her digoxin and warfarin, then apixaban.", prompt)
    assert not echoes(" She keeps a glossary: apixaban and others.", prompt)


@pytest.mark.parametrize(
    ("told", "untold", "expected"),
    [
        ("Glossary, panda.", "the rain", "the rain"),
        ("the Glossary is rare", "", ""),
        ("our glossary has a panda", "our glossary has a bandar", "our glossary has a panda"),
        ("a panda", None, "a panda"),
    ],
)
def test_the_prompts_heading_is_no_word_unless_it_is_said(
    told: str, untold: str | None, expected: str
) -> None:
    """The model is asked untold; if it still writes the heading, somebody said it."""
    texts = {("panda",): told} | ({(): untold} if untold is not None else {})
    hypothesis = Guard().write([_offer("panda")], _Model(texts), ear=_Ear({"panda": 0.1}))
    assert text_of(hypothesis.words) == expected


def test_a_heading_that_is_a_term_is_a_word() -> None:
    """Who listens for it wants it written."""
    model = _Model({("glossary",): "the glossary"})
    hypothesis = Guard().write([_offer("glossary")], model, ear=_Ear({"glossary": 0.1}))
    assert text_of(hypothesis.words) == "the glossary"


def test_the_words_of_another_models_prompt_are_an_echo_too() -> None:
    """Whole sentences of it anywhere, its beginning, and pairs of a translation."""
    qwen = _prompt(TERMS["transcribe"], "apixaban")
    assert echoes("She walks. Specialized terminology may appear in the audio.", qwen)
    assert echoes("Potential technical terms include:apixaban", qwen)
    assert not echoes("Specialized terminology is hard. She takes apixaban.", qwen)
    granite = _prompt(PromptTemplate(opening="Keywords: ", closing=". "), "apixaban")
    assert echoes("Keywords: apixaban", granite)
    assert not echoes("Apixaban.", _prompt(PromptTemplate(), "apixaban"))
    assert not echoes("Specially for her.", _prompt(TERMS["transcribe"], "e"))
    pairs = _prompt(TERMS["translate"], "心肌梗死", sources=["heart attack"])
    assert echoes("heart attack: 心肌梗死", pairs)
    assert not echoes("他有心肌梗死", pairs)


def test_a_loop_is_cut_before_its_terms_are_judged() -> None:
    """A term that was said once is not refused for the rounds in which nobody said it."""
    rounds = [("stop", 0.2), ("warfarin", 0.5), ("now", 1.0)]
    silent = [(word, 1.3) for _ in range(4) for word in ("stop", "warfarin", "now")]
    prompt = Prompt(text="Glossary: warfarin.", terms=("warfarin",), trimmed=0)
    looped = Hypothesis(words=timed(*rounds, *silent), language="en", prompt=prompt)
    asked: list[int] = []

    def decode(offers: Sequence[Candidate], *, beginning: str = "") -> Hypothesis:
        asked.append(len(offers))
        return looped

    assert loops(text_of(looped.words))
    written = Guard().write([_offer("warfarin")], decode)
    assert text_of(written.words) == "stop warfarin now" and asked == [1]


def _sentence(text: str, terms: Sequence[str], probabilities: Sequence[float]) -> Hypothesis:
    written = _written(text, terms, {})
    pairs = zip(written.words, probabilities, strict=True)
    return replace(written, words=tuple(replace(word, probability=p) for word, p in pairs))


ENGLISH = _sentence("The meeting approved the budget", ["budget"], [0.0, 0.6, 0.6, 0.4, 0.1])
SPANISH = _sentence("El ayuntamiento aprobó el presupuesto", [], [0.9, 0.9, 0.9, 0.9, 0.9])


@pytest.mark.parametrize(
    ("told", "own", "kept"),
    [
        (ENGLISH, SPANISH, SPANISH),
        # Its own text is no better: it mumbles in any language.
        (ENGLISH, _sentence("El ayunta mi", [], [0.4, 0.4, 0.4]), ENGLISH),
        (ENGLISH, _sentence("", [], []), ENGLISH),
    ],
)
def test_a_prompt_that_changes_the_language_is_dropped(
    told: Hypothesis, own: Hypothesis, kept: Hypothesis
) -> None:
    """The model would hardly write the told text untold; its own stays where it is surer of it."""
    asked = []

    def decode(offered: Sequence[Candidate]) -> Hypothesis:
        asked.append(len(offered))
        return told if offered else own

    assert Guard().write([_offer("budget")], decode).words == kept.words
    assert asked == [1, 0]


@pytest.mark.parametrize(
    "probabilities",
    [
        (0.9, 0.9, 0.9, 0.9, 0.0),  # only the term is what it would not write
        (0.4, 0.4, 0.4, 0.4, 0.0),  # unsure of all, as of mumbling
        (0.0, 0.9, 0.9, 0.9, 0.0),  # one odd word
    ],
)
def test_an_unlikely_term_does_not_make_a_text_strange(probabilities: tuple[float, ...]) -> None:
    """That is what terms are told for; it is decoded once."""
    hypothesis = replace(ENGLISH, words=_sentence(
        "The meeting approved the budget", ["budget"], probabilities
    ).words)  # fmt: skip
    assert not strange(hypothesis)
    assert strange(ENGLISH)


def test_two_words_are_too_few_to_judge_by() -> None:
    """The first partials are guesses in any language."""
    assert not strange(_sentence("The meeting budget", ["budget"], [0.0, 0.6, 0.1]))
    assert strange(_sentence("The meeting approved budget", ["budget"], [0.0, 0.6, 0.6, 0.1]))


def test_a_text_in_another_script_is_decoded_again() -> None:
    """However sure the model is; unless its own text is in that script too."""
    told = replace(_written("Good morning everybody", ["Zoom"], {}), language="ru")
    own = replace(_written("Доброе утро", [], {}), language="ru")
    assert Guard().write([_offer("Zoom")], lambda o: told if o else own).words == own.words
    same = replace(_written("Good morning", [], {}), language="ru")
    assert Guard().write([_offer("Zoom")], lambda o: told if o else same).words == told.words


def test_nothing_is_strange_that_was_not_told() -> None:
    """There would be nothing to leave out."""
    assert not strange(replace(ENGLISH, prompt=Prompt(text="", terms=(), trimmed=0)))
