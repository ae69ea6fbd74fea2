"""A search: conditions, sizes, stages, ticks and lists of each recording's own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import soundfile

from a2p_engine.encoders.base import Encoded
from a2p_engine.errors import InputError
from a2p_engine.evaluation import retrieval_run
from a2p_engine.evaluation.glossary_plan import GlossaryOptions, SizedGlossary, without_spoken
from a2p_engine.evaluation.models import Models
from a2p_engine.evaluation.retrieval import Condition, SearchOptions, Trial, kinds_of, search
from a2p_engine.manifest import Recording, read_manifest
from a2p_engine.prompt import Prompt
from a2p_engine.retriever.evidence import Evidence
from a2p_engine.retriever.spotter import PhoneIndex
from a2p_engine.retriever.transcript import Transcript
from a2p_engine.speech_llm.base import DecodeRequest, Hypothesis, TimedWord
from a2p_engine.training.voices import HibariVoice
from a2p_engine.types import SAMPLE_RATE_HZ, Samples, Term

HOP = 320


class LoudnessEncoder:
    """One frame per hop, holding its loudness; remembers what it was given."""

    name = "loudness"
    width = 1
    hop_samples = HOP

    def __init__(self) -> None:
        self.heard: list[Samples] = []

    def encode(self, samples: Samples) -> Encoded:
        """Loudness of each 20 ms."""
        self.heard.append(samples)
        frames = np.sqrt((samples[: len(samples) // HOP * HOP].reshape(-1, HOP) ** 2).mean(1))
        return Encoded(frames=frames[:, None].astype(np.float32), native=None)


class TermList(list[Term]):
    """A glossary index that holds nothing but terms."""

    @property
    def numbers(self) -> int:
        """Terms."""
        return len(self)

    def pronunciations(self, number: int) -> PhoneIndex:
        """Said as they are written, a phoneme for each letter."""
        return PhoneIndex([[ord(letter) for letter in self[number].text]], [0])


@dataclass
class ScriptedRetriever:
    """Gives each term the probability that its text has in a table, none to others."""

    table: dict[str, float]
    calibration: Any = field(
        default_factory=lambda: SimpleNamespace(thresholds={"balanced": 0.5, "eager": 0.1})
    )
    edits: list[list[str]] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    texts: list[str | None] = field(default_factory=list)

    def index(self, terms: Sequence[Term]) -> TermList:
        """Keep the terms."""
        return TermList(terms)

    def edit(self, index: TermList, *, add: Sequence[Term]) -> TermList:
        """Append, and remember what."""
        self.edits.append([term.text for term in add])
        return TermList([*index, *add])

    def start(self) -> object:
        """No state."""
        return object()

    def step(
        self,
        index: TermList,
        state: object,
        frames: Any,
        transcript: Transcript | None = None,
        follow: bool | None = None,
    ) -> Evidence:
        """What the table says; without text, nothing of what begins with a capital.

        What the A2P head does not let through first begins with an o.
        """
        self.lengths.append(len(frames))
        self.texts.append("".join(word.text for word in transcript.words) if transcript else None)
        table = {text for text in self.table if transcript or not text.istitle()}
        if follow is False:
            table = {text for text in table if not text.startswith("o")}
        known = [number for number, term in enumerate(index) if term.text in table]
        places = np.arange(len(known), dtype=np.int32)
        return Evidence(
            np.array(known, np.int32),
            np.array([self.table[index[number].text] for number in known], np.float32),
            np.zeros(len(known), np.float32),
            places * 10,
            places * 10 + 10,
        )

    def evidence(self, index: TermList, frames: Any) -> Any:
        """The head prefers what is improbable, the spotter what comes first."""
        known = self.step(index, object(), frames)
        size = len(known.term)
        return SimpleNamespace(
            term=known.term,
            gain=-known.probability,
            length=np.full(size, 5, np.int32),
            match=SimpleNamespace(cost=np.arange(size, dtype=np.float32)),
        )


class SecondsWriter:
    """Writes how many tenths of a second it hears; remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Sequence[str]] = []

    def decode(self, request: DecodeRequest) -> Hypothesis:
        """One word for all of it."""
        self.told.append(request.terms)
        heard = len(request.samples)
        tenths = str(round(10 * heard / SAMPLE_RATE_HZ))
        word = TimedWord(text=tenths, start_sample=0, end_sample=heard, probability=0.5)
        return Hypothesis(words=(word,), language="en", prompt=Prompt(text="", terms=(), trimmed=0))


@pytest.fixture
def recordings(tmp_path: Path) -> list[Recording]:
    """Two seconds of a tone each; the first says two terms of the three that there are."""
    tone = 0.3 * np.sin(np.arange(2 * SAMPLE_RATE_HZ) / 5)
    made = []
    for name, text, terms in (
        ("a", "the badge of crosty", ("badge", "Crosty")),
        ("b", None, ("flinster",)),
    ):
        soundfile.write(tmp_path / f"{name}.wav", tone, SAMPLE_RATE_HZ)
        made.append(Recording(id=name, audio=tmp_path / f"{name}.wav", text=text, terms=terms))
    return made


def _models(retriever: ScriptedRetriever) -> Models:
    return cast(
        Models,
        SimpleNamespace(
            encoder=LoudnessEncoder(),
            retriever=retriever,
            speech_llm=SecondsWriter(),
            trained=frozenset({"badge"}),
        ),
    )


def _search(
    recordings: Sequence[Recording],
    models: Models,
    words: Path,
    options: SearchOptions | None = None,
    **glossary: Any,
) -> Iterator[Trial]:
    listings = GlossaryOptions(words=words, **glossary).listings(recordings)
    retriever = models.retriever
    glossaries = [SizedGlossary.of(listing, retriever, recordings) for listing in listings]
    return search(recordings, glossaries, models, options or SearchOptions())


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A list of ten words, one of which is said."""
    path = tmp_path / "words.txt"
    path.write_text("\n".join(["badge", *(f"other{letter}" for letter in "abcdefghi")]))
    return path


def test_terms_are_ranked_and_offers_judged(recordings: list[Recording], words: Path) -> None:
    """Whatever the glossary's case; equal probabilities all take the worst place."""
    table = {"badge": 0.9, "Crosty": 0.3, "othera": 0.3, "otherb": 0.05}
    one, two = _search(recordings, _models(ScriptedRetriever(table)), words, sizes=[12])
    assert [(s.term, s.ranks, s.kinds) for s in one.spoken] == [
        ("badge", {"calibrated": 1}, ("single_word", "seen")),
        ("Crosty", {"calibrated": 3}, ("single_word", "unseen")),
    ]
    offers = {offer.term: offer for offer in one.offers}
    assert offers["badge"].at == ("any", "balanced", "eager")
    assert offers["othera"].at == ("any", "eager")
    assert offers["otherb"].at == ("any",)
    assert [offers[name].spoken for name in ("badge", "Crosty", "othera")] == [True, True, False]
    # A term without evidence is behind all others, and not offered.
    assert two.spoken[0].ranks == {"calibrated": 12}
    assert not any(offer.listed for offer in two.offers)
    assert (one.missing, len(one.step_s), one.audio_s) == (0, 1, 2.0)


def test_what_sounds_like_a_term_and_outranks_it_is_known(
    recordings: list[Recording], words: Path
) -> None:
    """Not what ranks below it, nor another term that is said."""
    words.write_text("crostya\nbadgee\nflinste\nflin")
    table = {"badge": 0.9, "Crosty": 0.3, "crostya": 0.3, "badgee": 0.5, "flin": 0.2}
    one, two = _search(recordings, _models(ScriptedRetriever(table)), words, sizes=[7])
    assert {s.term: s.rival for s in one.spoken} == {"badge": None, "Crosty": 2}
    assert {s.term: s.rival for s in two.spoken} == {"flinster": 4}


def test_sizes_are_nested_and_audio_is_encoded_once(
    recordings: list[Recording], words: Path
) -> None:
    """The terms to be found are the same in each size, one pass of the encoder serves all."""
    models = _models(ScriptedRetriever({"badge": 0.9}))
    trials = list(_search(recordings, models, words, sizes=[3, 12, 40]))
    assert [(trial.id, trial.size) for trial in trials] == [
        (name, size) for name in "ab" for size in (3, 12, 40)
    ]
    assert [len(trial.spoken) for trial in trials[:3]] == [2, 2, 2]
    assert len(cast(LoudnessEncoder, models.encoder).heard) == 2


def test_noise_is_mixed_at_each_ratio(recordings: list[Recording], words: Path) -> None:
    """The recording is encoded once for each; in quiet it stays as it is."""
    models = _models(ScriptedRetriever({}))
    conditions = tuple(Condition(snr_db=snr) for snr in (None, 20.0, 0.0))
    options = SearchOptions(conditions=conditions, noise="white")
    trials = list(_search(recordings[:1], models, words, options, sizes=[5]))
    assert [trial.condition for trial in trials] == ["clean", "20", "0"]
    quiet, little, much = (
        heard.astype(np.float64) for heard in cast(LoudnessEncoder, models.encoder).heard
    )
    assert len(quiet) == len(little) == len(much)
    ratio = np.mean(quiet**2) / np.mean((little - quiet) ** 2)
    assert 10 * np.log10(ratio) == pytest.approx(20, abs=0.5)


def test_stages_are_ranked_alone(recordings: list[Recording], words: Path) -> None:
    """Without any text, after the A2P head's choice, by its gain, and by the spotter's cost."""
    retriever = ScriptedRetriever({"badge": 0.9, "othera": 0.5, "Crosty": 0.95})
    options = SearchOptions(stages=True)
    first, _ = _search(recordings, _models(retriever), words, options, sizes=[12])
    badge, crosty = (spoken.ranks for spoken in first.spoken)
    assert badge == {
        "calibrated": 2, "without_text": 1, "a2p_head_first": 2, "a2p_head": 2, "spotter": 1,
    }  # fmt: skip
    assert (crosty["calibrated"], crosty["without_text"]) == (1, 12)
    assert retriever.texts == ["20", None, "20", None] * 2


def test_what_is_heard_at_once_is_read_first(recordings: list[Recording], words: Path) -> None:
    """Written down once for all sizes, and untold."""
    retriever = ScriptedRetriever({"badge": 0.9})
    models = _models(retriever)
    list(_search(recordings[:1], models, words, sizes=[5, 12]))
    assert retriever.texts == ["20", "20"]
    assert cast(SecondsWriter, models.speech_llm).told == [()]


def test_ticks_hear_more_and_more(recordings: list[Recording], words: Path) -> None:
    """As the live loop: every tick is searched with all frames of the segment so far."""
    retriever = ScriptedRetriever({"badge": 0.9})
    options = SearchOptions(tick_s=0.8)
    models = _models(retriever)
    (trial,) = _search(recordings[:1], models, words, options, sizes=[5])
    assert retriever.lengths == [40, 80, 100]
    assert retriever.texts == [None, "8", "16"]
    assert cast(SecondsWriter, models.speech_llm).told == [(), ()]
    assert len(trial.step_s) == 3


def test_a_long_recording_is_searched_in_pieces(
    recordings: list[Recording], words: Path, tmp_path: Path
) -> None:
    """A term counts by its best piece, an offer in any piece counts once."""
    path = tmp_path / "long.wav"
    soundfile.write(path, np.full(40 * SAMPLE_RATE_HZ, 0.1), SAMPLE_RATE_HZ)
    retriever = ScriptedRetriever({"badge": 0.9, "Crosty": 0.2})
    long = replace(recordings[0], audio=path)
    (trial,) = _search([long], _models(retriever), words, sizes=[5])
    assert len(trial.step_s) == 2
    assert sum(retriever.lengths) == pytest.approx(40 * 50, abs=2)
    assert sorted(offer.term for offer in trial.offers) == ["Crosty", "badge"]
    assert [spoken.ranks["calibrated"] for spoken in trial.spoken] == [1, 2]


def test_own_lists_add_only_what_the_recording_says(
    recordings: list[Recording], words: Path
) -> None:
    """The size is then the number of distractors, as in LibriSpeech's biasing lists."""
    retriever = ScriptedRetriever({"badge": 0.9, "flinster": 0.4})
    one, two = _search(recordings, _models(retriever), words, sizes=[4], own_lists=True)
    assert retriever.edits == [["badge", "Crosty"], ["flinster"]]
    assert [spoken.ranks["calibrated"] for spoken in (*one.spoken, *two.spoken)] == [1, 6, 1]


def test_a_wrong_list_has_no_spoken_term(recordings: list[Recording], words: Path) -> None:
    """Whoever speaks of something else gets the distractors alone."""
    (listing,) = GlossaryOptions(words=words, sizes=[12]).listings(recordings)
    wrong = without_spoken(listing, recordings)
    assert len(wrong.terms) == 9
    assert not {"badge", "Crosty", "flinster"} & {term.text for term in wrong.terms}


@pytest.mark.parametrize(
    ("term", "kinds"),
    [
        ("light roast", ("multi_word", "seen")),
        ("AWS", ("single_word", "acronym", "unseen")),
        ("the U.S. army", ("multi_word", "acronym", "unseen")),
        ("light", ("single_word", "seen")),
        ("Fain's", ("single_word", "unseen")),
    ],
)
def test_kinds_of_terms(term: str, kinds: tuple[str, ...]) -> None:
    """A phrase is seen when each of its words was."""
    assert kinds_of(term, frozenset({"light", "roast", "the"})) == kinds


def test_without_glossary_or_words_there_is_nothing_to_search(
    recordings: list[Recording],
) -> None:
    """The error says what to give."""
    with pytest.raises(InputError, match="give a glossary, or a list of words"):
        GlossaryOptions().listings(recordings)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of one recording with two terms, one of them not in the glossary."""
    folder = tmp_path_factory.mktemp("spoken")
    audio = HibariVoice(vary=False).speak(
        "plˈiz kˈɔl dˈɑktəɹ pˈWndmAkəɹ tədˈA.", np.random.default_rng(1)
    )
    soundfile.write(folder / "one.flac", audio, SAMPLE_RATE_HZ)
    record = {"id": "one", "audio": "one.flac", "text": None, "terms": ["poundmaker", "today"]}
    (folder / "manifest.jsonl").write_text(json.dumps(record) + "\n\n")
    words = ["Poundmaker", "apixaban", "voussoir", "quixotic", "kaleidoscope", "bamboozle"]
    (folder / "glossary.txt").write_text("\n".join(words))
    return folder


def test_real_weights_find_a_spoken_term(spoken: Path) -> None:
    """From manifest and glossary to report, dump and pictures."""
    request = retrieval_run.Request(
        glossaries=GlossaryOptions(file=spoken / "glossary.txt"),
        search=SearchOptions(stages=True),
        device="cpu",
        dump=spoken / "dump.jsonl",
        out=spoken / "out",
    )
    report = retrieval_run.run(read_manifest(spoken / "manifest.jsonl"), request)
    (result,) = report.results
    assert (result.size, result.missing, result.recall["all"].terms) == (6, 1, 1)
    assert result.recall["all"].at[1].value == 1.0
    assert result.offers["balanced"].precision.value == 1.0
    assert result.offers["balanced"].recall.value == 1.0
    assert json.loads((spoken / "dump.jsonl").read_text())["spoken"][0]["term"] == "Poundmaker"
    assert json.loads((spoken / "out" / "report.json").read_text()) == report.json()


def test_the_report_names_what_can_be_repeated(spoken: Path) -> None:
    """No path of this machine is in it."""
    glossaries = GlossaryOptions(file=spoken / "glossary.txt")
    request = retrieval_run.Request(glossaries=glossaries)
    settings = retrieval_run.settings_of([], replace(request, retriever=spoken / "mine"))
    assert settings["glossary"] == "glossary.txt"
    assert settings["retriever"] == "mine"
    assert str(spoken) not in json.dumps(settings)
