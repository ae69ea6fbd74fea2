"""What the published evaluation counts (arXiv 2508.18701 and its code), and the same as we count.

The published figures are means over utterances; ours divide sums, so that every term and every word
counts once. Notation: said terms are those listed for an utterance, repeats included.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rapidfuzz.distance import Levenshtein

from a2p_engine.errors import InputError
from a2p_engine.evaluation import words
from a2p_engine.evaluation.bootstrap import Bootstrap, Estimate, estimate
from a2p_engine.evaluation.words import ErrorSplit
from a2p_engine.published.data import Language
from a2p_engine.text import mentions

DEPTHS = (1, 5, 10, 20, 50)


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """What was retrieved for one utterance.

    Attributes:
        said: listed terms, as often as they are listed.
        found: retrieved terms, most probable first.
        absent: how many of ``said`` the term bank lacks.
    """

    said: tuple[str, ...]
    found: tuple[str, ...]
    absent: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """What was written of one utterance.

    Attributes:
        reference: what should have been.
        written: what was.
        terms: listed terms in the language of both.
    """

    reference: str
    written: str
    terms: tuple[str, ...]


def recall(search: Search, k: int) -> float | None:
    """Published recall@k: different said terms among the k best, over the length of their list.

    None where no term is listed; the published code divides by zero there.
    """
    if not search.said:
        return None
    return len(set(search.said) & set(search.found[:k])) / len(search.said)


def term_accuracy(text: Text) -> float | None:
    """Published term accuracy: share of the list that is a substring of the text, case included."""
    if not text.terms:
        return None
    return sum(term in text.written for term in text.terms) / len(text.terms)


def plain(text: str) -> str:
    """Published normalisation: lower case, no punctuation (Unicode's P*), single spaces.

    The published code expands English contractions behind that, when no apostrophe is left.
    """
    kept = (char for char in text.lower() if not unicodedata.category(char).startswith("P"))
    return re.sub(r"\s\s+", " ", "".join(kept)).strip()


def error_rate(text: Text, language: Language) -> float | None:
    """Published WER, or for Chinese CER, of one utterance; blanks are characters.

    None where the reference is nothing but punctuation.
    """
    reference, written = plain(text.reference), plain(text.written)
    if language == "zh":
        units: tuple[Sequence[str], Sequence[str]] = reference, written
    else:
        units = reference.split(), written.split()
    return Levenshtein.distance(*units) / len(units[0]) if units[0] else None


def bleu(texts: Sequence[Text], language: Language) -> float:
    """BLEU of a corpus by sacrebleu, 0 to 100; tokenised by its ``zh`` or ``13a``.

    The published figure is this of single utterances.
    """
    tokenizer = "zh" if language == "zh" else "13a"
    scored = _sacrebleu().corpus_bleu(*_both(texts), tokenize=tokenizer)
    return float(scored.score)


def chrf(texts: Sequence[Text]) -> float:
    """ChrF2 of a corpus by sacrebleu, 0 to 100."""
    return float(_sacrebleu().corpus_chrf(*_both(texts)).score)


def _both(texts: Sequence[Text]) -> tuple[list[str], list[list[str]]]:
    return [text.written for text in texts], [[text.reference for text in texts]]


def check_installed() -> None:
    """Know before the work whether translations can be measured.

    Raises:
        InputError: sacrebleu is missing.
    """
    _sacrebleu()


def _sacrebleu() -> Any:
    try:
        import sacrebleu
    except ModuleNotFoundError as error:
        raise InputError("sacrebleu is missing: pip install 'a2p-live[train]'") from error
    return sacrebleu


def units(text: str, language: Language) -> words.Words:
    """What we compare: English words as in ``words.normalised``, or Chinese characters.

    Of Chinese, letters and digits alone, full-width ones made usual; blanks do not count.
    """
    if language == "en":
        return words.normalised(text)
    kept = unicodedata.normalize("NFKC", text).casefold()
    return tuple(char for char in kept if char.isalnum())


def split(text: Text, language: Language) -> ErrorSplit:
    """Our errors of one utterance, those in its terms apart."""
    return words.split_errors(
        units(text.reference, language),
        units(text.written, language),
        {units(term, language) for term in text.terms},
    )


def terms_written(text: Text, language: Language) -> int:
    """Different terms that are in the text; in English as whole words, whatever their case."""
    terms = set(text.terms)
    if language == "en":
        return sum(mentions(text.written, term) for term in terms)
    written = "".join(units(text.written, language))
    return sum("".join(units(term, language)) in written for term in terms)


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of what there is."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """How well terms were found at one depth.

    Attributes:
        depth: k.
        published: mean recall@k of the utterances.
        recall: share of all said terms, each once an utterance, whether in the bank or not.
        precision: share of all that was retrieved that was said.
    """

    depth: int
    published: float | None
    recall: Estimate
    precision: Estimate


@dataclass(frozen=True, kw_only=True)
class Writing:
    """How well texts were written with one kind of prompt; rates as shares, BLEU to 100.

    Attributes:
        prompt: what the speech LLM was told.
        term_accuracy: published, mean of the utterances.
        error_rate: published WER or CER, mean of the utterances; None for translations.
        sentence_bleu: published BLEU, mean of the utterances; None for recognition.
        terms_found: share of all terms.
        errors: WER or CER of all words or characters; None for translations, as the next two.
        biased_errors: B-WER or B-CER, of those in terms.
        other_errors: U-WER or U-CER, of all others.
        corpus_bleu: None for recognition, as the next one.
        chrf: chrF2.
    """

    prompt: str
    term_accuracy: float | None
    error_rate: float | None
    sentence_bleu: float | None
    terms_found: Estimate
    errors: Estimate | None
    biased_errors: Estimate | None
    other_errors: Estimate | None
    corpus_bleu: float | None
    chrf: float | None


def retrieval(searches: Sequence[Search], depth: int, draws: Bootstrap) -> Retrieval:
    """Figures at one depth; ``draws`` are of as many utterances."""
    hits = [len(set(one.said) & set(one.found[:depth])) for one in searches]
    return Retrieval(
        depth=depth,
        published=mean([recall(one, depth) for one in searches]),
        recall=estimate(draws.ratio(hits, [len(set(one.said)) for one in searches])),
        precision=estimate(draws.ratio(hits, [len(set(one.found[:depth])) for one in searches])),
    )


def recognition(
    prompt: str, texts: Sequence[Text], language: Language, draws: Bootstrap
) -> Writing:
    """Figures of transcripts."""
    splits = [split(text, language) for text in texts]

    def rate(errors: str, total: str) -> Estimate:
        parts = ([getattr(one, name) for one in splits] for name in (errors, total))
        return estimate(draws.ratio(*parts))

    return Writing(
        prompt=prompt,
        term_accuracy=mean([term_accuracy(text) for text in texts]),
        error_rate=mean([error_rate(text, language) for text in texts]),
        sentence_bleu=None,
        terms_found=_terms_found(texts, language, draws),
        errors=rate("errors", "words"),
        biased_errors=rate("biased_errors", "biased_words"),
        other_errors=rate("other_errors", "other_words"),
        corpus_bleu=None,
        chrf=None,
    )


def translation(
    prompt: str, texts: Sequence[Text], language: Language, draws: Bootstrap
) -> Writing:
    """Figures of translations into a language."""
    return Writing(
        prompt=prompt,
        term_accuracy=mean([term_accuracy(text) for text in texts]),
        error_rate=None,
        sentence_bleu=mean([bleu([text], language) for text in texts]),
        terms_found=_terms_found(texts, language, draws),
        errors=None,
        biased_errors=None,
        other_errors=None,
        corpus_bleu=bleu(texts, language),
        chrf=chrf(texts),
    )


def _terms_found(texts: Sequence[Text], language: Language, draws: Bootstrap) -> Estimate:
    found = [terms_written(text, language) for text in texts]
    return estimate(draws.ratio(found, [len(set(text.terms)) for text in texts]))
