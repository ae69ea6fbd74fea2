"""Published figures by hand and by the libraries the published code calls; ours beside them."""

from __future__ import annotations

import builtins

import jiwer
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from a2p_engine.errors import InputError
from a2p_engine.evaluation import published_measures as measures
from a2p_engine.evaluation.bootstrap import Bootstrap
from a2p_engine.evaluation.published_measures import Search, Text

# As the published code puts it together.
AS_PUBLISHED = jiwer.Compose(
    [
        jiwer.ToLowerCase(),
        jiwer.RemovePunctuation(),
        jiwer.ExpandCommonEnglishContractions(),
        jiwer.RemoveMultipleSpaces(),
        jiwer.Strip(),
    ]
)
ENGLISH = st.text(alphabet="abT 'don’t.,-!?\"won 9%", max_size=40)
CHINESE = st.text(alphabet="今天气很好、。ab C《》\N{FULLWIDTH COMMA}", max_size=20)


def _text(reference: str, written: str, *terms: str) -> Text:
    return Text(reference=reference, written=written, terms=terms)


def _search(*found: str, said: tuple[str, ...]) -> Search:
    return Search(said=said, found=found)


def test_recall_is_of_the_list_of_each_utterance() -> None:
    """A term found counts once, however often it is listed: the divisor is the list's length."""
    assert measures.recall(_search("a", "b", "c", said=("b", "z")), 2) == 0.5
    assert measures.recall(_search("a", "b", "c", said=("b", "z")), 1) == 0.0
    assert measures.recall(_search("b", "b", said=("b", "b")), 9) == 0.5
    assert measures.recall(_search("a", said=()), 1) is None


def test_term_accuracy_is_of_substrings_as_they_are_written() -> None:
    """Case counts, words do not."""
    assert measures.term_accuracy(_text("", "He took Warfarin and pan", "Warfarin", "an")) == 1.0
    assert measures.term_accuracy(_text("", "he took warfarin", "Warfarin", "took")) == 0.5
    assert measures.term_accuracy(_text("", "每天服用阿哌沙班。", "阿哌沙班", "华法林")) == 0.5
    assert measures.term_accuracy(_text("", "nothing")) is None


@given(text=st.one_of(ENGLISH, CHINESE))
def test_texts_are_normalised_as_published(text: str) -> None:
    """No contraction is left to be expanded when punctuation has gone."""
    assert measures.plain(text) == AS_PUBLISHED(text)


@given(reference=ENGLISH, written=ENGLISH)
def test_word_errors_are_those_of_jiwer(reference: str, written: str) -> None:
    """Of the normalised texts."""
    found = measures.error_rate(_text(reference, written), "en")
    if AS_PUBLISHED(reference):
        expected = jiwer.wer(AS_PUBLISHED(reference), AS_PUBLISHED(written))
        assert found == pytest.approx(expected)
    else:
        assert found is None


@given(reference=CHINESE, written=CHINESE)
def test_character_errors_are_those_of_jiwer(reference: str, written: str) -> None:
    """Blanks count as characters there."""
    found = measures.error_rate(_text(reference, written), "zh")
    if AS_PUBLISHED(reference):
        expected = jiwer.cer(AS_PUBLISHED(reference), AS_PUBLISHED(written))
        assert found == pytest.approx(expected)
    else:
        assert found is None


def test_bleu_is_sacrebleus() -> None:
    """Chinese is split into characters, English as usual."""
    pairs = [
        ("今天天气很好、我们去公园。", "今天天气好、我们到公园去。"),
        ("他不来了。", "他不来。"),
    ]
    texts = [_text(reference, written) for reference, written in pairs]
    written, references = [t.written for t in texts], [[t.reference for t in texts]]
    zh = sacrebleu.BLEU(tokenize="zh").corpus_score(written, references).score
    assert measures.bleu(texts, "zh") == pytest.approx(zh)
    assert zh > 20 > sacrebleu.BLEU(tokenize="13a").corpus_score(written, references).score
    assert measures.chrf(texts) == pytest.approx(
        sacrebleu.CHRF().corpus_score(written, references).score
    )
    english = [
        _text("He doesn't take it.", "He does not take it."),
        _text("a b c d e", "a b c d e"),
    ]
    expected = sacrebleu.BLEU().corpus_score(
        [t.written for t in english], [[t.reference for t in english]]
    )
    assert measures.bleu(english, "en") == pytest.approx(expected.score)


def test_retrieval_by_hand() -> None:
    """Published: mean of utterances with terms. Ours: every different term counts once."""
    searches = [
        _search("a", "x", "b", said=("a", "b")),
        _search("c", "y", "z", said=("c", "d", "e", "e")),
        _search("q", "r", "s", said=()),
    ]
    at = {k: measures.retrieval(searches, k, Bootstrap(3)) for k in (1, 3)}
    assert at[1].published == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert at[1].recall.value == pytest.approx(2 / 5)
    assert at[1].precision.value == pytest.approx(2 / 3)
    assert at[3].published == pytest.approx((2 / 2 + 1 / 4) / 2)
    assert at[3].recall.value == pytest.approx(3 / 5)
    assert at[3].precision.value == pytest.approx(3 / 9)


def test_recognition_by_hand() -> None:
    """Means of utterances as published; ours of all words, those in terms apart."""
    texts = [
        _text("take warfarin now", "take wafer in now", "warfarin"),
        _text("we go home every single day", "we go home every single day"),
    ]
    found = measures.recognition("none", texts, "en", Bootstrap(2))
    assert found.term_accuracy == 0.0
    assert found.error_rate == pytest.approx((2 / 3 + 0) / 2)
    assert found.terms_found.value == 0.0
    assert found.errors is not None and found.errors.value == pytest.approx(2 / 9)
    assert found.biased_errors is not None and found.biased_errors.value == 1.0
    assert found.other_errors is not None and found.other_errors.value == pytest.approx(1 / 8)
    assert found.corpus_bleu is None and found.chrf is None and found.sentence_bleu is None


def test_chinese_recognition_by_hand() -> None:
    """Characters; ours leave blanks out and take full-width letters for usual ones."""
    texts = [_text("服用 阿哌沙班。", "服用阿派沙班", "阿哌沙班")]
    found = measures.recognition("none", texts, "zh", Bootstrap(1))
    assert found.error_rate == pytest.approx(2 / 7)
    assert found.errors is not None and found.errors.value == pytest.approx(1 / 6)
    assert found.biased_errors is not None and found.biased_errors.value == pytest.approx(1 / 4)
    assert found.other_errors is not None and found.other_errors.value == 0.0
    wide = "\N{FULLWIDTH LATIN CAPITAL LETTER C}\N{FULLWIDTH LATIN CAPITAL LETTER T}"
    full = measures.recognition("none", [_text(f"用{wide}查", "用ct查", wide)], "zh", Bootstrap(1))
    assert full.errors is not None and full.errors.value == 0.0
    assert (full.term_accuracy, full.terms_found.value) == (0.0, 1.0)


def test_translation_by_hand() -> None:
    """Published BLEU is the mean of single utterances, which is not that of the corpus."""
    texts = [
        _text("the patient takes apixaban daily", "the patient takes Apixaban daily", "apixaban"),
        _text("good morning to you all", "good morning to you all"),
    ]
    found = measures.translation("said", texts, "en", Bootstrap(2))
    single = [sacrebleu.corpus_bleu([t.written], [[t.reference]]).score for t in texts]
    assert found.sentence_bleu == pytest.approx(sum(single) / 2)
    assert found.corpus_bleu != pytest.approx(found.sentence_bleu, abs=0.5)
    assert (found.term_accuracy, found.terms_found.value) == (0.0, 1.0)
    assert found.errors is None and found.error_rate is None


def test_without_sacrebleu_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any model has run for hours, see ``published_run.load``."""
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name == "sacrebleu":
            raise ModuleNotFoundError("No module named 'sacrebleu'", name=name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"a2p-live\[train\]"):
        measures.check_installed()
