"""The engine on real weights and a real recording: terms, committed text, edits, isolation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a2p_engine import glossary, selection
from a2p_engine.audio import read_audio
from a2p_engine.engine import Engine, EngineSettings
from a2p_engine.errors import AudioError, GlossaryError, InputError, UnknownSession
from a2p_engine.glossary import UNPRONOUNCED
from a2p_engine.retriever import retriever
from a2p_engine.retriever.evidence import Evidence
from a2p_engine.retriever.transcript import Transcript
from a2p_engine.speech_llm import DecodeRequest, Hypothesis
from a2p_engine.types import Samples, SessionOptions, StepRequest, StepResult, Term

DATA = Path(__file__).parents[2] / "examples" / "data"
HZ = 16_000


@pytest.fixture(scope="module")
def engine() -> Engine:
    """Whisper base and the shipped retriever, as ``a2p serve`` loads them."""
    return Engine.load(EngineSettings(device="cpu", workers=1))


@pytest.fixture(scope="module")
def terms() -> list[Term]:
    """270 medical terms."""
    return glossary.load(DATA / "medical_terms.txt").terms


@pytest.fixture(scope="module")
def sentence() -> Samples:
    """I would add empagliflozin and keep the rosuvastatin at night."""
    return read_audio(DATA / "ward_round.flac")[int(10.1 * HZ) : int(15.4 * HZ)]


@pytest.fixture
def told(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Terms in the prompt of each decoding."""
    seen: list[list[str]] = []
    decode = engine._speech_llm.decode

    def listen(request: DecodeRequest) -> Hypothesis:
        seen.append(list(request.terms))
        return decode(request)

    monkeypatch.setattr(engine._speech_llm, "decode", listen)
    return seen


@pytest.fixture
def read(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[Transcript | None]:
    """What the retriever was given to read at each step."""
    seen: list[Transcript | None] = []
    hearing = engine._loaded_retriever()
    step = hearing.step

    def listen(*arguments: Any, **options: Any) -> Evidence:
        seen.append(arguments[3])
        return step(*arguments, **options)

    monkeypatch.setattr(hearing, "step", listen)
    return seen


def _text(transcript: Transcript | None) -> str:
    return "".join(word.text for word in transcript.words).strip() if transcript else ""


def _steps(
    engine: Engine,
    session: str,
    audio: Samples,
    *,
    segment: int = 0,
    start: int = 0,
    hop_s: float = 2,
) -> Iterator[StepResult]:
    hop = int(hop_s * HZ)
    for at in range(0, len(audio), hop):
        yield engine.step(
            StepRequest(
                session=session,
                segment_id=0,
                start_sample=start,
                samples=audio[at : at + hop],
                final=at + hop >= len(audio),
            )
        )


def test_glossary_terms_come_out_right_with_place_and_probability(
    engine: Engine, terms: list[Term], sentence: Samples
) -> None:
    """Two drugs are wrong without the glossary and right with it."""
    plain, _ = engine.open(SessionOptions())
    helped, info = engine.open(SessionOptions(), terms)
    assert info.terms == len(terms)
    *_, without = _steps(engine, plain, sentence, start=1000)
    *_, result = _steps(engine, helped, sentence, start=1000)
    assert "empagliflozin" not in without.text and not without.terms
    assert "add empagliflozin and keep the rosuvastatin at night" in result.text
    used = {hit.term: hit for hit in result.terms if hit.used}
    assert set(used) == {"empagliflozin", "rosuvastatin"}
    for hit in used.values():
        assert 0.0 < hit.probability <= 1.0
        assert hit.start_sample is not None and hit.end_sample is not None
        assert 1000 < hit.start_sample < hit.end_sample <= result.end_sample
    assert result.end_sample == 1000 + len(sentence)


@pytest.mark.parametrize(
    ("language", "hop_s", "written"),
    [
        ("en", 10, "I would add empagliflozin and keep the rosuvastatin at night"),
        ("en", 2, "I would add empagliflozin and keep the rosuvastatin at night"),
        ("es", 10, "I would"),
    ],
)
def test_a_text_that_stops_before_the_speech_does_is_gone_on_with(
    engine: Engine,
    terms: list[Term],
    sentence: Samples,
    monkeypatch: pytest.MonkeyPatch,
    language: str,
    hop_s: float,
    written: str,
) -> None:
    """At once and in ticks, in a language whose phonemes are known."""
    decode = engine._speech_llm.decode

    def stop_early(request: DecodeRequest) -> Hypothesis:
        hypothesis = decode(replace(request, language="en"))
        words = hypothesis.words if request.committed else hypothesis.words[:2]
        return replace(hypothesis, words=words, language=language)

    monkeypatch.setattr(engine._speech_llm, "decode", stop_early)
    session, _ = engine.open(SessionOptions(language="auto"), terms)
    *_, result = _steps(engine, session, sentence, hop_s=hop_s)
    assert result.text.rstrip(".") == written


def test_where_terms_are_rare_they_are_less_probable(
    engine: Engine, terms: list[Term], sentence: Samples
) -> None:
    """Speech without any lowers the odds of all, in its session alone; a clear one is written."""

    def heard(session: str) -> dict[str, float]:
        *_, result = _steps(engine, session, sentence)
        assert "empagliflozin" in result.text
        return {hit.term: hit.probability for hit in result.terms}

    long, _ = engine.open(SessionOptions(), [Term(text="kaleidoscope"), Term(text="bamboozle")])
    for _ in range(4):
        *_, result = _steps(engine, long, sentence)
        assert not result.terms
    engine.edit_glossary(long, add=terms)
    rare = heard(long)
    fresh, _ = engine.open(SessionOptions(), terms)
    usual = heard(fresh)
    shared = rare.keys() & usual.keys()
    assert "empagliflozin" in shared
    assert all(rare[term] < usual[term] for term in shared)


def test_words_have_times_in_order_and_make_the_text(engine: Engine, sentence: Samples) -> None:
    """Word times rise within the segment; the words joined are the text."""
    session, _ = engine.open(SessionOptions())
    *_, result = _steps(engine, session, sentence)
    assert "".join(word.text for word in result.words).strip() == result.text
    starts = [word.start_sample for word in result.words]
    assert starts == sorted(starts)
    assert all(0 <= w.start_sample <= w.end_sample <= result.end_sample for w in result.words)


def test_committed_text_is_continued(engine: Engine, sentence: Samples) -> None:
    """The hypothesis begins with what was committed, even where the model would write otherwise."""
    session, _ = engine.open(SessionOptions())
    result = engine.step(
        StepRequest(
            session=session,
            segment_id=0,
            start_sample=0,
            samples=sentence,
            committed="I wood add",
        )
    )
    assert result.text.startswith("I wood add")
    assert "at night" in result.text


def test_an_edit_counts_from_the_next_step_of_an_open_segment(
    engine: Engine, sentence: Samples
) -> None:
    """A term added in mid-segment is found in audio heard before; a removed one is gone."""
    session, _ = engine.open(SessionOptions(), [Term(text="levetiracetam")])
    request = StepRequest(
        session=session, segment_id=0, start_sample=0, samples=sentence, final=False
    )
    assert not engine.step(request).terms
    added = engine.edit_glossary(session, add=[Term(text="rosuvastatin")], remove=["nonsense"])
    assert (added.version, added.terms, added.added) == (2, 2, 1)
    assert added.rejected == (("nonsense", "not in the glossary"),)
    again = StepRequest(
        session=session, segment_id=0, start_sample=0, samples=sentence[:0], final=False
    )
    result = engine.step(again)
    assert [hit.term for hit in result.terms] == ["rosuvastatin"]
    assert result.glossary_version == 2
    assert engine.edit_glossary(session, remove=["rosuvastatin"]).terms == 1
    assert not engine.step(again).terms


def test_an_edit_says_from_which_sample_on_it_counts(engine: Engine, sentence: Samples) -> None:
    """From the start of what has no final yet; what was heard before keeps its captions."""
    session, opened = engine.open(SessionOptions())
    assert (opened.version, opened.from_sample) == (1, 0)
    request = StepRequest(
        session=session, segment_id=0, start_sample=4_000, samples=sentence, final=False
    )
    engine.step(request)
    assert engine.edit_glossary(session, add=[Term(text="digoxin")]).from_sample == 4_000
    engine.step(replace(request, samples=sentence[:0], final=True))
    edited = engine.edit_glossary(session, remove=["digoxin"])
    assert edited.from_sample == 4_000 + len(sentence)
    assert (edited.version, edited.terms, edited.removed) == (3, 0, 1)


def test_a_disabled_term_is_not_offered_until_it_is_enabled(
    engine: Engine, sentence: Samples
) -> None:
    """Not even when everything is offered, whatever its probability."""
    session, info = engine.open(
        SessionOptions(threshold=0.0), [Term(text="rosuvastatin", enabled=False)]
    )
    assert info.terms == 1
    request = StepRequest(
        session=session, segment_id=0, start_sample=0, samples=sentence, final=False
    )
    assert engine.step(request).terms == ()
    engine.edit_glossary(session, add=[Term(text="rosuvastatin")])
    again = engine.step(replace(request, samples=sentence[:0]))
    assert [hit.term for hit in again.terms] == ["rosuvastatin"]


def test_an_index_file_is_as_good_as_its_terms(
    engine: Engine, terms: list[Term], sentence: Samples, tmp_path: Path
) -> None:
    """A glossary from a file, further terms and edits give what the terms themselves give."""
    path = tmp_path / "medical.safetensors"
    engine.save_index(terms, path)
    assert engine.load_index(path) == len(terms)
    from_file, info = engine.open(SessionOptions(), [Term(text="at night")], index=path)
    assert info.terms == len(terms) + 1
    from_terms, _ = engine.open(SessionOptions(), [*terms, Term(text="at night")])
    results = [list(_steps(engine, session, sentence))[-1] for session in (from_file, from_terms)]
    hits = [{hit.term: hit for hit in result.terms} for result in results]
    assert hits[0].keys() == hits[1].keys() >= {"empagliflozin", "rosuvastatin"}
    for text, hit in hits[0].items():
        assert hit.probability == pytest.approx(hits[1][text].probability, abs=1e-4)
    assert engine.edit_glossary(from_file, remove=["rosuvastatin"]).terms == len(terms)
    assert not any(
        hit.term == "rosuvastatin"
        for result in _steps(engine, from_file, sentence, start=len(sentence))
        for hit in result.terms
    )
    with pytest.raises(GlossaryError, match="cannot read index"):
        engine.open(SessionOptions(), index=tmp_path / "none.safetensors")


def test_terms_nobody_can_pronounce_are_rejected(engine: Engine, sentence: Samples) -> None:
    """The others of the glossary are heard, and so is one that says what it sounds like."""
    silent = (("日本", UNPRONOUNCED),)
    for terms, found in (([], []), ([Term(text="rosuvastatin")], ["rosuvastatin"])):
        session, info = engine.open(SessionOptions(), [Term(text="日本"), *terms])
        assert (info.terms, info.added, info.rejected) == (len(terms), len(terms), silent)
        request = StepRequest(
            session=session, segment_id=0, start_sample=0, samples=sentence, final=True
        )
        assert [hit.term for hit in engine.step(request).terms] == found
        edited = engine.edit_glossary(session, add=[Term(text="日本"), Term(text="digoxin")])
        assert (edited.terms, edited.added, edited.rejected) == (len(terms) + 1, 1, silent)
        spelt = engine.edit_glossary(session, add=[Term(text="日本", sounds_like=("nippon",))])
        assert (spelt.terms, spelt.added, spelt.rejected) == (len(terms) + 2, 1, ())
        replaced = engine.edit_glossary(session, add=[Term(text="日本")])
        assert (replaced.terms, replaced.added, replaced.rejected) == (len(terms) + 1, 0, silent)


def test_an_index_file_leaves_out_what_nobody_can_pronounce(engine: Engine, tmp_path: Path) -> None:
    """Such a term is not among those of the sessions that use it."""
    path = tmp_path / "mixed.safetensors"
    engine.save_index([Term(text="日本"), Term(text="digoxin")], path)
    assert engine.load_index(path) == 1
    assert engine.open(SessionOptions(), index=path)[1].terms == 1


def test_a_glossary_too_long_to_follow_is_shortlisted(
    engine: Engine, terms: list[Term], sentence: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The A2P head picks whom the spotter hears; nobody else is offered."""
    monkeypatch.setattr(retriever, "SPOTTER_LIMIT", 100)
    monkeypatch.setattr(retriever, "SHORTLIST", 60)
    session, _ = engine.open(SessionOptions(), [*terms, Term(text="zzz", enabled=False)])
    last = list(_steps(engine, session, sentence))[-1]
    assert {"empagliflozin", "rosuvastatin"} <= {hit.term for hit in last.terms}
    assert engine.edit_glossary(session, remove=["rosuvastatin"]).removed == 1
    again = list(_steps(engine, session, sentence, start=len(sentence)))[-1]
    assert "rosuvastatin" not in {hit.term for hit in again.terms}


def test_a_term_is_found_by_the_way_the_glossary_says_it_sounds(
    engine: Engine, sentence: Samples
) -> None:
    """Nobody can guess what a code is called; its sound is followed beside its reading."""
    offers = []
    for sounds_like in ((), ("rose of a statin",)):
        session, _ = engine.open(
            SessionOptions(threshold=0.0), [Term(text="RSV-9", sounds_like=sounds_like)]
        )
        *_, last = _steps(engine, session, sentence)
        offers.append(last.terms[0].probability)
    without, helped = offers
    assert helped > 0.5 > without


def test_a_segment_that_was_never_read_is_first_written_untold(
    engine: Engine,
    terms: list[Term],
    sentence: Samples,
    told: list[list[str]],
    read: list[Transcript | None],
) -> None:
    """A file: what the model writes by itself is evidence for what it is told then."""
    session, _ = engine.open(SessionOptions(threshold="cautious"), terms)
    (result,) = _steps(engine, session, sentence, hop_s=60)
    assert [sorted(each) for each in told] == [[], ["empagliflozin", "rosuvastatin"]]
    (transcript,) = read
    assert "at night" in _text(transcript) and "empagliflozin" not in _text(transcript)
    assert "empagliflozin" in result.text
    assert 0 <= result.timings_ms["guard"] < result.timings_ms["decode"]


def test_where_nothing_is_offered_the_untold_text_stands(
    engine: Engine, sentence: Samples, told: list[list[str]]
) -> None:
    """The model is not asked a second time for the same."""
    session, _ = engine.open(SessionOptions(), [Term(text="levetiracetam")])
    (result,) = _steps(engine, session, sentence, hop_s=60)
    assert told == [[]]
    assert result.text.endswith("at night.") and not result.terms


@pytest.mark.parametrize(
    ("options", "texts"),
    [(SessionOptions(), []), (SessionOptions(top_k=0), ["rosuvastatin"])],
    ids=["no glossary", "no terms wanted"],
)
def test_without_terms_to_look_for_all_is_written_once(
    engine: Engine,
    sentence: Samples,
    told: list[list[str]],
    read: list[Transcript | None],
    options: SessionOptions,
    texts: list[str],
) -> None:
    """And nothing is read."""
    session, _ = engine.open(options, [Term(text=text) for text in texts])
    list(_steps(engine, session, sentence, hop_s=60))
    assert (told, read) == ([[]], [])


def test_live_the_text_of_a_tick_is_read_at_the_next(
    engine: Engine, sentence: Samples, told: list[list[str]], read: list[Transcript | None]
) -> None:
    """One decoding each, the final's included; the next segment begins unread."""
    session, _ = engine.open(SessionOptions(), [Term(text="levetiracetam")])
    results = list(_steps(engine, session, sentence))
    assert [_text(transcript) for transcript in read] == ["", *(r.text for r in results[:-1])]
    assert [transcript.frames for transcript in read if transcript] == [50, 100]
    assert told == [[]] * 3
    request = StepRequest(
        session=session, segment_id=1, start_sample=len(sentence), samples=sentence, final=False
    )
    engine.step(request)
    assert read[-1] is None


@pytest.mark.parametrize(
    ("sure", "marked"), [(0.0, [" rosuvastatin"]), (1.0, [])], ids=["at once", "later"]
)
def test_live_a_told_term_is_no_evidence_for_itself(
    engine: Engine,
    sentence: Samples,
    read: list[Transcript | None],
    monkeypatch: pytest.MonkeyPatch,
    sure: float,
    marked: list[str],
) -> None:
    """It is marked, or what was written there before it was told stays."""
    monkeypatch.setattr(selection, "SURE", sure)
    session, _ = engine.open(SessionOptions(), [Term(text="rosuvastatin")])
    request = StepRequest(
        session=session, segment_id=0, start_sample=0, samples=sentence, final=False
    )
    texts = [engine.step(replace(request, samples=sentence[:end])).text for end in (None, 0, 0)]
    assert "rosuvastatin" in texts[1] and ("rosuvastatin" in texts[0]) == bool(marked)
    assert read[2] is not None
    assert [word.text for word in read[2].words if word.told] == marked
    assert ("rosuvastatin" in _text(read[2])) == bool(marked)


@pytest.mark.parametrize("hop_s", [0.5, 1.0, 1.75, 2.8])
def test_live_terms_are_written_at_any_pace_of_ticks(
    engine: Engine, terms: list[Term], sentence: Samples, hop_s: float
) -> None:
    """However old the text that is evidence, down to a tick or two before the final."""
    session, _ = engine.open(SessionOptions(), terms)
    *_, final = _steps(engine, session, sentence, hop_s=hop_s)
    assert final.text == "I would add empagliflozin and keep the rosuvastatin at night."


def test_a_translation_is_told_the_target_form_and_not_read(
    engine: Engine, sentence: Samples, told: list[list[str]], read: list[Transcript | None]
) -> None:
    """A term is retrieved by what is said and prompted in the form it is to be written in."""
    for options in (SessionOptions(), SessionOptions(task="translate")):
        session, _ = engine.open(options, [Term(text="rosuvastatin", target="Crestor")])
        *_, result = _steps(engine, session, sentence, hop_s=60)
        assert [hit.term for hit in result.terms] == ["rosuvastatin"]
    assert told == [[], ["rosuvastatin"], ["Crestor"]]
    assert [transcript is None for transcript in read] == [False, True]
    list(_steps(engine, session, sentence, start=len(sentence)))
    assert read[2:] == [None] * 3


def test_a_term_that_was_not_said_is_taken_out_and_not_offered_again(
    engine: Engine, sentence: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that writes what it is told in place of what it hears is asked again without it."""
    told: list[list[str]] = []
    decode = engine._speech_llm.decode

    def believe(request: DecodeRequest) -> Hypothesis:
        told.append(list(request.terms))
        heard = decode(request)
        if "digoxin" not in request.terms:
            return heard
        *words, last = heard.words
        return replace(heard, words=(*words, replace(last, text=" digoxin.", probability=0.01)))

    monkeypatch.setattr(engine._speech_llm, "decode", believe)
    session, _ = engine.open(SessionOptions(threshold=0.0), [Term(text="rosuvastatin")])
    request = StepRequest(session=session, segment_id=0, start_sample=0, samples=sentence)
    engine.step(request)
    engine.edit_glossary(session, add=[Term(text="digoxin")])
    again = replace(request, samples=sentence[:0])
    engine.step(again)  # a newcomer as improbable as this one waits for the next
    first = engine.step(again)
    asked = len(told)
    second = engine.step(again)
    for result in (first, second):
        assert result.text.endswith("rosuvastatin at night.")
    assert {hit.term: hit.used for hit in first.terms} == {"rosuvastatin": True, "digoxin": False}
    assert [hit.term for hit in second.terms] == ["rosuvastatin"]
    assert sum("digoxin" in terms for terms in told) == 1
    assert told[asked:] == [["rosuvastatin"]]
    assert second.timings_ms["guard"] < second.timings_ms["decode"]


def test_interleaved_sessions_do_not_touch_each_other(
    engine: Engine, terms: list[Term], sentence: Samples
) -> None:
    """Two sessions taking turns get what each would get alone."""
    alone = []
    for vocabulary in (terms, [Term(text="night")]):
        session, _ = engine.open(SessionOptions(), vocabulary)
        alone.append([result.text for result in _steps(engine, session, sentence)])
    one, _ = engine.open(SessionOptions(), terms)
    other, _ = engine.open(SessionOptions(), [Term(text="night")])
    turns = zip(_steps(engine, one, sentence), _steps(engine, other, sentence), strict=True)
    mixed = [(left.text, right.text) for left, right in turns]
    assert [list(texts) for texts in zip(*mixed, strict=True)] == alone


def test_ticks_write_the_terms_of_the_whole(
    engine: Engine, terms: list[Term], sentence: Samples
) -> None:
    """Heard in half seconds or at once, though other texts are read on the way."""
    used = []
    for hop_s in (0.5, 60):
        session, _ = engine.open(SessionOptions(), terms)
        *_, last = _steps(engine, session, sentence, hop_s=hop_s)
        used.append({hit.term for hit in last.terms if hit.used})
    assert used == [{"empagliflozin", "rosuvastatin"}] * 2


def test_a_glossary_in_a_language_the_retriever_does_not_hear_is_rejected(
    engine: Engine, sentence: Samples
) -> None:
    """German is captioned without the glossary, and the session is told so."""
    session, info = engine.open(SessionOptions(language="de"), [Term(text="apixaban")])
    assert (info.terms, info.added) == (0, 0)
    assert info.rejected[0][0] == "apixaban"
    assert "heard in en only" in info.rejected[0][1]
    assert not next(_steps(engine, session, sentence)).terms


def _chords() -> Samples:
    time_s = np.arange(6 * HZ) / HZ
    notes = [
        np.sin(2 * np.pi * tone * time_s) * (0.6 + 0.4 * np.sin(2 * np.pi * beat * time_s))
        for tone, beat in ((220.0, 1.0), (277.2, 1.5), (329.6, 2.0), (440.0, 0.5))
    ]
    return np.asarray(0.1 * np.sum(notes, axis=0), np.float32)


@pytest.mark.parametrize(
    "audio",
    [
        np.zeros(5 * HZ, np.float32),
        np.random.default_rng(0).normal(0, 0.05, 5 * HZ).astype(np.float32),
        _chords(),
    ],
    ids=["silence", "white noise", "chords"],
)
def test_what_is_not_speech_gives_no_terms(
    engine: Engine, terms: list[Term], audio: Samples
) -> None:
    """Even if a detector lets it through, noise brings no glossary term into the caption."""
    session, _ = engine.open(SessionOptions(), terms)
    *_, result = _steps(engine, session, audio)
    assert not [hit.term for hit in result.terms if hit.used]


def test_bad_requests_say_what_is_wrong(engine: Engine) -> None:
    """Unknown languages and sessions, and segments beyond the model's window, are named."""
    with pytest.raises(InputError, match="language 'xx' is unknown to whisper-base"):
        engine.open(SessionOptions(language="xx"))
    for threshold in (2.0, "reckless"):
        with pytest.raises(InputError, match="neither a number from 0 to 1 nor cautious"):
            engine.open(SessionOptions(threshold=threshold))
    session, _ = engine.open(SessionOptions())
    long = StepRequest(
        session=session, segment_id=0, start_sample=0, samples=np.zeros(29 * HZ, np.float32)
    )
    with pytest.raises(AudioError, match=r"29\.0 s is too long for Whisper"):
        engine.step(long)
    engine.close(session)
    engine.close(session)
    with pytest.raises(UnknownSession, match="is not open"):
        engine.step(long)
