"""A comparison: which prompt each system gets, and that it goes on where it was stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import soundfile

from a2p_engine.errors import InputError
from a2p_engine.evaluation import compare
from a2p_engine.evaluation.compare import Comparison, run, speech_without_terms
from a2p_engine.evaluation.glossary_plan import GlossaryOptions, Listing
from a2p_engine.evaluation.ledger import Ledger
from a2p_engine.evaluation.models import Models
from a2p_engine.evaluation.systems import SYSTEMS, Outcome
from a2p_engine.manifest import Recording
from a2p_engine.retriever.evidence import Evidence
from a2p_engine.retriever.pronunciation import Pronouncer
from a2p_engine.training.voices import HibariVoice
from a2p_engine.types import SAMPLE_RATE_HZ, Term

OUTCOME = Outcome(id="a", system="ours", size=9, text="hi", prompted=("x",), seconds=0.5)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Recording]:
    """One sentence with a term, and one without."""
    folder = tmp_path_factory.mktemp("said")
    made = []
    for name, phonemes, text, terms in (
        (
            "a",
            "plˈiz kˈɔl dˈɑktəɹ pˈWndmAkəɹ tədˈA.",
            "please call doctor poundmaker today",
            ("poundmaker",),
        ),
        ("b", "plˈiz kˈɔl dˈɑktəɹ tədˈA.", "please call doctor today", ()),
    ):
        audio = HibariVoice(vary=False).speak(phonemes, np.random.default_rng(1))
        path = folder / f"{name}.flac"
        soundfile.write(path, audio, SAMPLE_RATE_HZ)
        made.append(Recording(id=name, audio=path, text=text, terms=terms))
    return made  # fmt: skip


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Distractors, one of them like the term."""
    path = tmp_path_factory.mktemp("words") / "words.txt"
    path.write_text("poundage\nvoussoir\nkaleidoscope\nbamboozle\nquixotic\ntoday\n")
    return path


@pytest.fixture(scope="module")
def models() -> Models:
    """The real ones."""
    return Models.load("whisper-base", device="cpu")


@pytest.fixture
def comparison(words: Path, monkeypatch: pytest.MonkeyPatch, models: Models) -> Comparison:
    """All systems with a glossary of four terms."""
    monkeypatch.setattr(compare.Models, "load", lambda *_: models)
    return Comparison(glossaries=GlossaryOptions(words=words, sizes=[4]), device="cpu")


def _outcomes(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    lines = (folder / "outcomes.jsonl").read_text().splitlines()
    return {(record["id"], record["system"]): record for record in map(json.loads, lines)}


def test_each_system_gets_its_prompt(
    recordings: list[Recording], comparison: Comparison, tmp_path: Path
) -> None:
    """Of the same glossary, and all write; ours and the oracle prompt what was said."""
    compared = run(recordings, replace(comparison, out=tmp_path / "out"))
    assert [result.system for result in compared.results] == list(SYSTEMS)
    outcomes = _outcomes(tmp_path / "out")
    assert len(outcomes) == 2 * len(SYSTEMS)
    prompted = {system: outcomes["a", system]["prompted"] for system in SYSTEMS}
    assert prompted["none"] == []
    assert prompted["oracle"] == ["poundmaker"]
    assert "poundmaker" in prompted["ours"]
    assert prompted["unguarded"] == prompted["ours"]
    assert sorted(prompted["first_terms"]) == sorted(prompted["a2p_head"])
    assert len(prompted["first_terms"]) == 4
    assert len(prompted["wrong_prompt"]) == 3
    assert "poundmaker" not in {*prompted["wrong_prompt"], *prompted["wrong_list"]}
    assert all(
        set(outcomes["b", system]["prompted"]) <= {*prompted["first_terms"]} for system in SYSTEMS
    )
    by_name = {result.system: result for result in compared.results}
    assert by_name["ours"].term_recall.value == 1.0
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == compared.json()


def test_ours_hears_all_recordings_in_one_session(
    recordings: list[Recording], comparison: Comparison, models: Models, tmp_path: Path
) -> None:
    """As live, so that it learns how often terms are said."""
    rates: list[float] = []
    retriever = models.retriever
    step = retriever.step

    def listen(*arguments: Any, rate: float = 1.0, **options: Any) -> Evidence:
        rates.append(rate)
        return step(*arguments, rate=rate, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retriever, "step", listen)
        run(recordings[::-1], replace(comparison, systems=("unguarded", "ours"), out=tmp_path))
    assert len(rates) == 2
    assert rates[0] == 1.0 > rates[1]


def test_a_stopped_comparison_goes_on(
    recordings: list[Recording], comparison: Comparison, tmp_path: Path
) -> None:
    """What was written before stays, a line cut off in the middle is done again."""
    wanted = replace(comparison, systems=("none", "fuzzy"), out=tmp_path)
    first = run(recordings, wanted)
    path = tmp_path / "outcomes.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 4
    marked = lines[0].replace('"text": "', '"text": "kept ')
    path.write_text(marked + "".join(lines[1:3]) + lines[3][:20])
    second = run(recordings, wanted)
    texts = [record["text"] for record in _outcomes(tmp_path).values()]
    assert sum(text.startswith("kept ") for text in texts) == 1
    assert len(texts) == 4
    assert [r.system for r in second.results] == [r.system for r in first.results]
    with pytest.raises(InputError, match="another comparison: threshold differ"):
        run(recordings, replace(wanted, threshold=0.3))


def test_own_lists_serve_each_recording(
    recordings: list[Recording], comparison: Comparison, words: Path, tmp_path: Path
) -> None:
    """The distractors are shared, the recording's own terms are added for it alone."""
    glossaries = GlossaryOptions(words=words, sizes=[3], own_lists=True)
    wanted = replace(
        comparison,
        glossaries=glossaries,
        systems=("first_terms", "a2p_head", "fuzzy", "unguarded", "ours"),
        out=tmp_path,
    )
    run(recordings, wanted)
    outcomes = _outcomes(tmp_path)
    for system in ("first_terms", "a2p_head", "fuzzy", "unguarded", "ours"):
        assert "poundmaker" in outcomes["a", system]["prompted"], system
        assert "poundmaker" not in outcomes["b", system]["prompted"], system


def test_speech_without_terms_is_kept_alone(recordings: list[Recording]) -> None:
    """A word of the glossary in the text is enough to leave a recording out."""
    listing = Listing(size=1, terms=(Term(text="voussoir"),))
    assert speech_without_terms(recordings, [listing]) == [recordings[1]]
    with pytest.raises(InputError, match="every recording says a term"):
        speech_without_terms(recordings, [Listing(size=1, terms=(Term(text="today"),))])


def test_pronunciations_are_kept_as_they_come(models: Models) -> None:
    """A thousand terms at a time, acronyms in both their readings."""
    asked: list[list[str]] = []
    pronouncer = SimpleNamespace(phonemes=lambda forms: asked.append(list(forms)))
    terms = [Term(text="AWS"), *(Term(text=f"term {number}") for number in range(1500))]
    replace(models, pronouncer=cast(Pronouncer, pronouncer)).pronounce(terms)
    assert [len(forms) for forms in asked] == [1001, 501]
    assert asked[0][:2] == ["AWS", "A.W.S"]


def test_unknown_systems_are_named(comparison: Comparison) -> None:
    """Before anything is loaded."""
    with pytest.raises(InputError, match="unknown system 'theirs'; accepted are none, oracle"):
        run([], replace(comparison, systems=("theirs",)))


def test_a_ledger_in_memory_writes_nothing(tmp_path: Path) -> None:
    """Without a folder; with one that cannot be made, the error says so."""
    ledger = Ledger(None, {})
    ledger.add(OUTCOME)
    assert ledger.outcomes == {("a", "ours", 9): OUTCOME}
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot keep results in"):
        Ledger(tmp_path / "file" / "below", {})
