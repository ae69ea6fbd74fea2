"""Both stages on a real recording: where a term fits, and what a text says for or against it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from a2p_engine.audio import read_audio
from a2p_engine.choices import Choice
from a2p_engine.engine import Engine, EngineSettings
from a2p_engine.retriever import retriever as retrieval
from a2p_engine.retriever.calibration import FINAL
from a2p_engine.retriever.evidence import Evidence
from a2p_engine.retriever.retriever import POOL, Retriever, RetrieverState
from a2p_engine.retriever.transcript import Transcript, WrittenWord
from a2p_engine.types import Term

RECORDING = Path(__file__).parents[3] / "examples" / "data" / "ward_round.flac"
HZ = 16_000
TERMS = ("rosuvastatin", "empagliflozin", "Zanzibar")
FRAMES = list[npt.NDArray[np.float32]]


@pytest.fixture(scope="module")
def spoken() -> tuple[Retriever, FRAMES]:
    """I would add empagliflozin and keep the rosuvastatin at night, half of it and the whole."""
    engine = Engine.load(EngineSettings(device="cpu", workers=1))
    samples = read_audio(RECORDING)[int(10.1 * HZ) : int(15.4 * HZ)]
    ends = (len(samples) // 2, len(samples))
    frames = [engine._encoder.encode(samples[:end]).frames for end in ends]
    return engine._loaded_retriever(), frames


@pytest.fixture(scope="module")
def heard(spoken: tuple[Retriever, FRAMES]) -> tuple[Retriever, RetrieverState, int]:
    """In two ticks."""
    retriever, ticks = spoken
    index = retriever.index([Term(text=text) for text in TERMS])
    state = retriever.start()
    for frames in ticks:
        retriever.step(index, state, frames)
    return retriever, state, len(frames)


def test_a_term_fits_where_it_was_said(heard: tuple[Retriever, RetrieverState, int]) -> None:
    """It costs little there, much elsewhere; what was not said costs much everywhere."""
    retriever, state, frames = heard
    said, other, never = (retriever.pronounce(text) for text in TERMS)
    whole = retriever.fit(state, said, 0, frames)
    assert whole is not None and 0 < whole.start < whole.end <= frames
    assert whole.mean_cost < 1.0
    assert retriever.fit(state, said, whole.start, whole.end) == whole
    before = retriever.fit(state, said, 0, whole.start)
    inside = retriever.fit(state, other, whole.start, whole.end)
    absent = retriever.fit(state, never, 0, frames)
    for fit in (before, inside, absent):
        assert fit is not None and fit.mean_cost > 2 * whole.mean_cost


def test_where_there_is_nothing_to_match_there_is_no_fit(
    heard: tuple[Retriever, RetrieverState, int],
) -> None:
    """Nothing heard, a stretch outside of the audio, or nothing that can be pronounced."""
    retriever, state, frames = heard
    said = retriever.pronounce("rosuvastatin")
    assert retriever.fit(retriever.start(), said, 0, frames) is None
    assert retriever.fit(state, said, frames + 50, frames + 90) is None
    assert retriever.fit(state, retriever.pronounce("***"), 0, frames) is None


def test_about_as_many_phonemes_are_heard_as_were_said(
    heard: tuple[Retriever, RetrieverState, int],
) -> None:
    """Over settled frames and the tail; none before anything was heard."""
    retriever, state, _ = heard
    text = "I would add empagliflozin and keep the rosuvastatin at night"
    said = int(retriever.pronounce(text).lengths[0])
    assert retriever.phonemes_heard(state) == pytest.approx(said, rel=0.15)
    assert retriever.phonemes_heard(retriever.start()) == 0


def _read(
    spoken: tuple[Retriever, FRAMES],
    *words: str,
    probability: float = 0.9,
    told: bool = False,
    log_odds: float | None = None,
) -> float:
    """Probability of rosuvastatin with these words written where it was said."""
    retriever, (*_, frames) = spoken
    index = retriever.index([Term(text=text) for text in TERMS])
    found = retriever.step(index, retriever.start(), frames)
    place = found.term.tolist().index(0)
    edges = np.linspace(found.start[place], found.end[place], len(words) + 1).astype(int) // POOL
    spans = zip(words, edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    choices = () if log_odds is None else (Choice(-1, {}, log_odds),)  # of any term
    written = Transcript(
        tuple(WrittenWord(f" {text}", *span, probability, told, choices) for text, *span in spans),
        -(-len(frames) // POOL),
    )
    again = retriever.step(index, retriever.start(), frames, written)
    return _probabilities(again)[0]


def _probabilities(found: Evidence) -> dict[int, float]:
    return dict(zip(found.term.tolist(), found.probability.tolist(), strict=True))


LONG_NAMES = (
    "Organisation for Economic Co-operation and Development",
    "Massachusetts Institute of Technology Computer Science and Artificial Intelligence Laboratory",
    "International Federation of Red Cross and Red Crescent Societies",
    "chronic inflammatory demyelinating polyradiculoneuropathy",
    "Intergovernmental Panel on Climate Change working group",
)


@pytest.mark.parametrize("part", [0, 1])
def test_a_long_name_that_was_not_said_is_not_offered(
    spoken: tuple[Retriever, FRAMES], part: int
) -> None:
    """The more phonemes, the more of them fit somewhere; that is no evidence."""
    retriever, ticks = spoken
    index = retriever.index([Term(text=text) for text in (*LONG_NAMES, *TERMS)])
    found = retriever.step(index, retriever.start(), ticks[part])
    unsaid = [p for term, p in _probabilities(found).items() if term < len(LONG_NAMES)]
    assert max(unsaid, default=0.0) < retriever.calibration.threshold("balanced")


def test_ticks_give_the_evidence_of_the_whole(spoken: tuple[Retriever, FRAMES]) -> None:
    """Without any text; frames that changed when more was heard make a small difference."""
    retriever, ticks = spoken
    index = retriever.index([Term(text=text) for text in TERMS])
    state = retriever.start()
    for frames in ticks:
        found = retriever.step(index, state, frames)
    whole = retriever.step(index, retriever.start(), ticks[-1])
    assert _probabilities(found) == pytest.approx(_probabilities(whole), abs=0.1)
    assert abs(found.start - whole.start).max() <= 4


def test_terms_of_a_smaller_glossary_are_said_more_often(
    spoken: tuple[Retriever, FRAMES], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half as many terms, twice the odds of one that nothing rivals."""
    retriever, ticks = spoken
    index = retriever.index([Term(text="rosuvastatin")])

    def found_odds(few: int) -> float:
        monkeypatch.setattr(retrieval, "FEW", few)
        found = retriever.step(index, retriever.start(), ticks[0])
        return float(found.probability[0] / (1 - found.probability[0]))

    assert found_odds(400) / found_odds(800) == pytest.approx(2, rel=1e-3)
    assert found_odds(5_000) == pytest.approx(found_odds(retrieval.LEAST_CROWD))


def test_text_that_spells_a_term_makes_it_certain(spoken: tuple[Retriever, FRAMES]) -> None:
    """Unless the model had been told to write it."""
    spelt = _read(spoken, "Rosuvastatin,")
    assert spelt > 0.95
    assert _read(spoken, "rosuvastatin", told=True) < spelt


def test_text_that_fits_and_is_sure_speaks_against_a_term(
    spoken: tuple[Retriever, FRAMES],
) -> None:
    """The more so the surer the model was."""
    words = ("rose", "of", "a", "statin")
    sure, unsure = (_read(spoken, *words, probability=p) for p in (0.99, 0.1))
    assert sure < unsure < _read(spoken, "rosuvastatin")


def test_a_term_that_was_nearly_written_is_more_probable(
    spoken: tuple[Retriever, FRAMES],
) -> None:
    """Than one that the model would hardly have written there."""
    words = ("rose", "of", "a", "statin")
    nearly, hardly = (_read(spoken, *words, log_odds=log_odds) for log_odds in (-0.5, -11.0))
    odds, few = (p / (1 - p) for p in (nearly, hardly))
    assert nearly > 0.5 and odds > 3 * few


def test_candidates_are_few_and_none_is_switched_off(
    spoken: tuple[Retriever, FRAMES], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best at first sight, a term once, however many ways there are to say it."""
    retriever, (*_, frames) = spoken
    texts = ("empagliflozin", "night", "keep", "Zanzibar", "voussoir", "quixotic")
    index = retriever.index(
        [
            Term(text="rosuvastatin", sounds_like=("rosa statin",)),
            Term(text="rose of a statin", enabled=False),
            *(Term(text=text) for text in texts),
        ]
    )
    found = retriever.step(index, retriever.start(), frames)
    assert found.term.tolist() == [0, *range(2, 8)]
    state = retriever.start()
    heard = retriever.hear(index, state, frames)
    few = retriever.candidates(heard, index, None, limit=4)
    assert len(few.term) == 4 and {0, 2} <= set(few.term.tolist())
    described = retriever.describe(few, index, state, None)
    assert described.shape == (4, len(FINAL)) and not described[:, FINAL.index("read")].any()
    monkeypatch.setattr(retrieval, "SPOTTER_LIMIT", 0)
    monkeypatch.setattr(retrieval, "SHORTLIST", 3)
    shortlisted = retriever.step(index, retriever.start(), frames)
    assert 0 in shortlisted.term and len(shortlisted.term) <= 3


@pytest.mark.parametrize("followed", [True, False])
def test_what_is_spelt_out_is_a_candidate(
    spoken: tuple[Retriever, FRAMES], monkeypatch: pytest.MonkeyPatch, followed: bool
) -> None:
    """However badly it sounds; but not if the model was told to write it, or it is switched off."""
    retriever, (*_, frames) = spoken
    texts = ("rosuvastatin", "rose of a statin", "Zanzibar", "voussoir", "quixotic")
    terms = [Term(text=text, enabled=text != "voussoir") for text in texts]
    index = retriever.index(terms)
    words = (
        WrittenWord(" zanzibar", 0, 5, 0.9),
        WrittenWord(" voussoir", 5, 9, 0.9),
        WrittenWord(" quixotic", 9, 12, 0.9, told=True),
    )
    monkeypatch.setattr(retrieval, "SHORTLIST", 2)
    monkeypatch.setattr(retrieval, "SPOTTER_LIMIT", 100 if followed else 0)
    written = Transcript(words, len(frames) // POOL)
    state = retriever.start()
    heard = retriever.hear(index, state, frames, written)
    found = retriever.candidates(heard, index, retriever.read(state, written), limit=2)
    assert 2 in found.term and len(found.term) == 2 and not {3, 4} & set(found.term.tolist())
    unread = retriever.candidates(retriever.evidence(index, frames), index, None, limit=2)
    assert 2 not in unread.term
