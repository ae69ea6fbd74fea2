"""Fitting the calibration: what the evidence means is found, and thresholds keep their budget."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch

from a2p_engine.encoders.base import Encoded
from a2p_engine.errors import TrainingError
from a2p_engine.manifest import Recording
from a2p_engine.prompt import Prompt
from a2p_engine.retriever import retriever as retrieval
from a2p_engine.retriever.calibration import FINAL, READ, Calibration, Network
from a2p_engine.retriever.evidence import Heard
from a2p_engine.retriever.retriever import Retriever, RetrieverState
from a2p_engine.retriever.spelling import Spellings
from a2p_engine.retriever.spotter import Matches, PhoneIndex
from a2p_engine.retriever.token_spellings import TokenSpellings
from a2p_engine.retriever.transcript import Transcript, WrittenWord
from a2p_engine.speech_llm.base import DecodeRequest, Hypothesis, TimedWord
from a2p_engine.training import calibrate, calibration_network
from a2p_engine.training.calibrate import (
    BUDGET,
    OFFERED,
    UNFITTED,
    _cross_fitted,
    _examples,
    _glossaries,
    _Listened,
    _phrases,
    _terms_per_s,
    _thresholds,
    fit_calibration,
)
from a2p_engine.training.calibration_network import Example, fit_network
from a2p_engine.types import SAMPLE_RATE_HZ, Samples, Term

RECORDINGS, SECONDS = 40, 3
WORDS = ["".join(letters) for letters in itertools.product("bcdf", "aeiou", "lmnp", "aeiou")]
SIZES = (90, 120, 160)
DRAWS = 2
SAID = 2 * RECORDINGS  # of the words
WRITTEN = Transcript((WrittenWord(" uh", 0, 9, 0.9),), 9)


class _Words(list[Term]):
    """A glossary index that holds nothing but terms."""

    @property
    def size(self) -> int:
        return len(self)

    @property
    def numbers(self) -> int:
        return len(self)

    @property
    def log_weights(self) -> npt.NDArray[np.float32]:
        return np.zeros(len(self), np.float32)

    def texts(self, numbers: npt.NDArray[np.int32]) -> list[str]:
        return [self[number].text for number in numbers]

    def find_all(self, texts: Sequence[str]) -> npt.NDArray[np.int32]:
        return np.array([n for n, term in enumerate(self) if term.text in texts], np.int32)


@dataclass
class _Reading:
    """Text that fits badly where a word was said, and well where another only sounds alike."""

    said: tuple[int, ...]

    def features(self, cost: Any, start: npt.NDArray[np.int32], end: Any) -> Any:
        margin = np.where(np.isin(start // 10, self.said), 8, -2) + np.sin(start)
        return np.stack([margin, *np.zeros((4, len(start)))], axis=1).astype(np.float32)

    def covers(self, start: npt.NDArray[np.int32], end: Any) -> Any:
        return np.ones(len(start), np.bool_)

    @property
    def spellings(self) -> Spellings:
        return Spellings([])

    def fork(self, spellings: Any, start: int) -> float:
        return -1.0 if start // 10 in self.said else -6.0


@dataclass
class _Synthetic(Retriever):
    """Three words fit in each recording, two of which are said; the others fit by chance."""

    calibration: Calibration = UNFITTED
    searched: list[int] = field(default_factory=list)
    pool: int = 1
    _spellings: TokenSpellings = field(
        default_factory=lambda: TokenSpellings(lambda texts: [[1] for _ in texts])
    )

    def index(self, terms: Sequence[Term]) -> Any:
        self.searched.append(len(terms))
        return _Words(terms)

    def start(self) -> RetrieverState:
        state = RetrieverState(cast(Any, None))
        state.tail_log_probs = np.zeros((10 * len(WORDS) + 10, 3), np.float32)
        return state

    def hear(
        self,
        index: Any,
        state: RetrieverState,
        frames: Any,
        transcript: Transcript | None = None,
        *,
        follow: bool | None = None,
    ) -> Heard:
        state.settled = number = round(float(frames[0, 0]))
        rng = np.random.default_rng(number)
        term = np.arange(len(index), dtype=np.int32)
        length = (4 + term % 7).astype(np.int32)
        fits = np.isin(term, (2 * number, 2 * number + 1, (2 * number + 2) % (2 * RECORDINGS)))
        apart = rng.exponential(1.0, len(WORDS))[: len(term)]  # the same in any glossary
        cost = np.where(fits, apart, rng.normal(2.2, 0.4) * length)
        match = Matches(cost.astype(np.float32), 10 * term, 10 * term + 5)
        phones = PhoneIndex([[1, 2] * 2 + [1] * (n - 4) for n in length.tolist()], term.tolist())
        gain = rng.normal(0, 1, len(WORDS))[: len(term)].astype(np.float32)
        return Heard(term, length, match, gain, term, (phones,))

    def read(self, state: RetrieverState, transcript: Transcript) -> Any:
        return _Reading((2 * state.settled, 2 * state.settled + 1))


class _Encoder:
    """One frame: the number that the recording's samples spell."""

    def encode(self, samples: Samples) -> Encoded:
        return Encoded(frames=1000 * samples[:1, None], native=None)


class _Decoder:
    """Writes the same whatever it hears."""

    max_samples = 30 * SAMPLE_RATE_HZ

    def __init__(self) -> None:
        self.told: list[Sequence[str]] = []

    def decode(self, request: DecodeRequest) -> Hypothesis:
        self.told.append(request.terms)
        word = TimedWord(text=" uh", start_sample=0, end_sample=5_000, probability=0.9)
        return Hypothesis(words=(word,), language="en", prompt=Prompt(text="", terms=(), trimmed=0))


@pytest.fixture(autouse=True)
def _not_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the glossaries for as large as they are calibrated for."""
    monkeypatch.setattr(retrieval, "FEW", retrieval.LEAST_CROWD)


@pytest.fixture(scope="module", autouse=True)
def fewer_steps() -> Iterator[None]:
    """So little to learn takes little time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration_network, "STEPS", 400)
        patch.setattr(calibrate, "SEEDS", 1)
        patch.setattr(calibrate, "FOLDS", 2)
        patch.setattr(calibrate, "DRAWS", DRAWS)
        yield


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Recording]:
    """Each says two words of the list."""
    folder = tmp_path_factory.mktemp("recordings")
    made = []
    for number in range(RECORDINGS):
        path = folder / f"{number}.wav"
        audio = np.full(SECONDS * SAMPLE_RATE_HZ, number / 1000)
        soundfile.write(path, audio, SAMPLE_RATE_HZ, subtype="FLOAT")
        text = f"say {WORDS[2 * number]} and {WORDS[2 * number + 1].upper()}!"
        made.append(Recording(id=str(number), audio=path, text=text, terms=()))
    return made


@pytest.fixture(scope="module")
def fit(recordings: list[Recording]) -> Calibration:
    """Fitted to all of them."""
    return _fit(_Synthetic(), _Decoder(), recordings)


def _fit(retriever: Retriever, decoder: _Decoder, recordings: Sequence[Recording]) -> Calibration:
    return fit_calibration(
        retriever,
        cast(Any, _Encoder()),
        cast(Any, decoder),
        recordings=recordings,
        rare=WORDS,
        sizes=SIZES,
        phrases=0,
    )


def _shown(fit: Calibration, transcript: Transcript | None) -> tuple[list[float], ...]:
    """Probabilities of what was said, of what only fits, and of all else, over all recordings."""
    retriever = _Synthetic(calibration=fit)
    index = retriever.index([Term(text=word) for word in WORDS[: SIZES[1]]])
    groups: tuple[list[float], ...] = ([], [], [])
    for number in range(RECORDINGS):
        frames = np.full((1, 1), number, np.float32)
        found = retriever.step(index, retriever.start(), frames, transcript)
        alike = (2 * number + 2) % (2 * RECORDINGS)
        for term, probability in zip(found.term, found.probability.tolist(), strict=True):
            kind = 0 if term in (2 * number, 2 * number + 1) else 1 if term == alike else 2
            groups[kind].append(probability)
    return groups


def test_unread_a_good_match_is_as_probable_as_it_is_often_right(fit: Calibration) -> None:
    """Two of three words that fit were said."""
    said, alike, other = _shown(fit, None)
    assert np.mean([*said, *alike]) == pytest.approx(2 / 3, abs=0.12)
    assert np.mean(said) == pytest.approx(np.mean(alike), abs=0.12)
    assert np.mean(other) < 0.02


def test_text_tells_what_was_said_from_what_only_fits(fit: Calibration) -> None:
    """The margin and the odds decide among good matches, and can be relied on."""
    said, alike, other = _shown(fit, WRITTEN)
    assert np.mean(said) > 0.9
    assert max(np.mean(alike), np.mean(other)) < 0.1


def test_the_network_learns_to_do_without_what_is_not_known() -> None:
    """Each example is seen as it is, without the odds, and without any text."""
    example = Example(
        recording=0,
        size=10,
        features=np.ones((2, len(FINAL)), np.float32),
        claimed=np.eye(2, dtype=np.float32),
        spoken=np.array([True, False]),
        seconds=1.0,
    )
    whole, unweighed, unread = (
        {name for name, value in zip(FINAL, view.features[0], strict=True) if value}
        for view in example.views()
    )
    assert whole == set(FINAL)
    assert whole - unweighed == {"fork", "weighed"}
    assert whole - unread == {*READ, "spelt", "fork", "read", "weighed"}


def test_the_sieve_asks_for_no_text_where_there_is_none(fit: Calibration) -> None:
    """Which is why a candidate without text may carry any."""
    heard, text = fit.sieve.heard[: -len(READ) - 1], fit.sieve.heard[-len(READ) - 1 : -1]
    assert any(heard) and not any(text)


def test_the_same_recordings_give_the_same_fit(
    fit: Calibration, recordings: list[Recording]
) -> None:
    """Whatever was drawn before."""
    torch.manual_seed(7)
    again = _fit(_Synthetic(), _Decoder(), recordings)
    assert (again.sieve, again.thresholds) == (fit.sieve, fit.thresholds)
    assert again.final.linear == pytest.approx(fit.final.linear, abs=1e-3)


def _searched(fit: Calibration) -> list[Example]:
    """Candidates of all recordings, in glossaries of all sizes."""
    frames = [np.full((1, 1), number, np.float32) for number in range(RECORDINGS)]
    heard = [_Listened(each, WRITTEN, each, Transcript((), 0), SECONDS) for each in frames]
    texts = [["say", *WORDS[2 * number : 2 * number + 2]] for number in range(RECORDINGS)]
    drawn = _glossaries(WORDS[:SAID], WORDS[SAID:], SIZES, 1)
    return list(_examples(_Synthetic(), fit, drawn, heard, texts))


def test_thresholds_are_the_least_that_keep_the_budget(fit: Calibration) -> None:
    """Counted in the glossary of the middle size, among the terms that can be offered."""
    retriever = _Synthetic(calibration=fit)
    index = retriever.index([Term(text=word) for word in WORDS[: SIZES[1]]])
    wrong: list[float] = []
    for number in range(RECORDINGS):
        frames = np.full((1, 1), number, np.float32)
        found = retriever.step(index, retriever.start(), frames, WRITTEN)
        best = np.argsort(-found.probability)[:OFFERED]
        said = np.isin(found.term[best], (2 * number, 2 * number + 1))
        wrong += found.probability[best][~said].tolist()
    examples = _searched(fit)
    thresholds = _thresholds(examples, [fit.final] * len(examples), SIZES)
    for name, budget in BUDGET.items():
        allowed = budget * RECORDINGS * SECONDS / 60
        assert sum(probability >= thresholds[name] for probability in wrong) <= allowed
        if thresholds[name] > 0.01:
            assert sum(probability > thresholds[name] - 0.002 for probability in wrong) > allowed
    assert thresholds["cautious"] >= thresholds["balanced"] >= thresholds["eager"] > 0


def test_the_rate_is_that_of_the_recordings_heard_to_their_end(fit: Calibration) -> None:
    """Two words of the list are said in each."""
    assert _terms_per_s(_searched(fit)) == pytest.approx(2 / SECONDS, abs=1e-3)
    assert fit.terms_per_s > 0


def test_thresholds_are_for_recordings_that_were_not_fitted_to(
    fit: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network judges no recording that it has seen; each has seen most of them."""
    seen: dict[int, set[int]] = {}

    def fit_network(examples: Sequence[Example]) -> Network:
        network = Network(linear=(float(len(seen)),), hidden=(), output=())
        seen[len(seen)] = {example.recording for example in examples}
        return network

    monkeypatch.setattr(calibrate, "fit_network", fit_network)
    examples = _searched(fit)
    for example, network in zip(examples, _cross_fitted(examples), strict=True):
        fitted = seen[int(network.linear[0])]
        assert example.recording not in fitted and len(fitted) >= RECORDINGS / 2


def test_networks_of_several_seeds_are_one(
    fit: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their mean, as a network of all their hidden units."""
    monkeypatch.setattr(calibration_network, "STEPS", 20)
    examples = _searched(fit)[:30]
    mean = fit_network(examples, seeds=2)
    views = [view for example in examples for view in example.views()]
    each = [calibration_network._fitted(views, seed).logits(views[0].features) for seed in (0, 1)]
    assert np.abs(each[0] - each[1]).max() > 0.1
    np.testing.assert_allclose(mean.logits(views[0].features), np.mean(each, axis=0), atol=2e-3)


def test_all_sizes_are_searched_and_nothing_is_told(recordings: list[Recording]) -> None:
    """First the smallest glossary, then all draws; each recording is written down twice."""
    retriever, decoder = _Synthetic(), _Decoder()
    fitted = _fit(retriever, decoder, recordings[:4])
    assert retriever.searched == [min(SIZES), 8 + DRAWS * (max(SIZES) - 8)]
    assert decoder.told == [()] * 8
    assert fitted.source == "4 development recordings, 90, 120, 160 terms, seed 0"


def test_glossaries_of_one_size_share_what_is_said_alone() -> None:
    """Stretches of the other words, one after the other, as far as they go or are asked for."""
    drawn = _glossaries(["a", "b"], [f"w{n}" for n in range(10)], [2, 5, 8], 2)
    assert drawn.parts == [(2, 0, 0), (5, 0, 3), (5, 3, 6), (8, 0, 6)]
    assert drawn.words == ["a", "b", "w0", "w1", "w2", "w3", "w4", "w5"] and drawn.spoken == 2
    short = _glossaries(["a"], ["w0", "w1"], [9], 2)
    assert (short.words, short.parts) == (["a", "w0", "w1"], [(9, 0, 8)])


def test_recordings_without_a_rare_word_cannot_be_fitted_to(tmp_path: Path) -> None:
    """Nor those without any text."""
    nothing = Recording(id="a", audio=tmp_path / "none.wav", text=None, terms=())
    with pytest.raises(TrainingError, match="no recording contains a word of the list"):
        _fit(_Synthetic(), _Decoder(), [nothing])


class _Drifting(_Synthetic):
    """What is heard of an odd word so far lies elsewhere than all of it does."""

    def hear(
        self,
        index: Any,
        state: RetrieverState,
        frames: Any,
        transcript: Transcript | None = None,
        *,
        follow: bool | None = None,
    ) -> Heard:
        heard = super().hear(index, state, frames, transcript, follow=follow)
        moved = (20 * (heard.term % 2) * (frames[0, 0] % 1 > 0)).astype(np.int32)
        match = replace(heard.match, start=heard.match.start + moved, end=heard.match.end + moved)
        return replace(heard, match=match)


def test_what_is_heard_elsewhere_so_far_was_not_said_yet() -> None:
    """A word of the text that only seems to be heard; and a part counts no minutes."""
    whole, so_far = np.full((1, 1), 4, np.float32), np.full((1, 1), 4.25, np.float32)
    listened = _Listened(whole, WRITTEN, so_far, Transcript((), 0), 3.0)
    text = ["say", *WORDS[8:10]]
    drawn = _glossaries(WORDS[:90], [], [90], 1)
    found = list(_examples(_Drifting(), UNFITTED, drawn, [listened], [text]))
    said = [[WORDS[n] for n in np.flatnonzero(example.spoken)] for example in found]
    assert said == [WORDS[8:10], WORDS[8:9]]
    assert [example.seconds for example in found] == [3.0, 0.0]
    read = FINAL.index("read")
    assert found[0].features[:, read].all() and not found[1].features[:, read].any()


def test_phrases_hold_a_rare_word_and_stand_in_the_text() -> None:
    """Up to eight words, about a share of all places; a text of one word has none."""
    rng = np.random.default_rng(1)
    text = "the quick voussoir of the arch was quarried by hand".split()
    drawn = [_phrases(text, {"voussoir", "quarried", "never"}, 0.5, rng) for _ in range(400)]
    for phrase in itertools.chain.from_iterable(drawn):
        assert phrase in " ".join(text) and 2 <= len(phrase.split()) <= 8
        assert {"voussoir", "quarried"} & set(phrase.split())
    assert 350 < sum(map(len, drawn)) < 450
    lengths = [len(phrase.split()) for phrase in itertools.chain.from_iterable(drawn)]
    assert set(lengths) == {2, 3, 4, 5, 6, 7, 8} and 0.6 < np.mean(np.array(lengths) < 4) < 0.9
    assert _phrases(["voussoir"], {"voussoir"}, 1.0, rng) == []
    assert _phrases(text, {"voussoir"}, 0.0, rng) == []
