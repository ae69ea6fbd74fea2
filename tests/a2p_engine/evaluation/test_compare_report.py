"""Figures of a comparison: what counts as an error, a term found, a term made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from a2p_engine.evaluation.compare_report import SystemResult, results
from a2p_engine.evaluation.glossary_plan import Listing
from a2p_engine.evaluation.systems import Outcome
from a2p_engine.manifest import Recording
from a2p_engine.types import Term

LISTING = Listing(
    size=4, terms=tuple(Term(text=text) for text in ("apixaban", "Fain", "voussoir", "topsy"))
)
RECORDINGS = [
    Recording(id="a", audio=Path("a"), text="call doctor fain", terms=("Fain",)),
    Recording(id="b", audio=Path("b"), text="she takes apixaban now", terms=("apixaban",)),
    Recording(id="c", audio=Path("c"), text=None, terms=("voussoir",)),
]
WRITTEN = {
    "none": ("Call Dr. Fane.", "She takes a pixel ban now.", "voussoir"),
    "oracle": ("Call Dr. Fain.", "She takes apixaban now.", "voussoir"),
    "ours": ("Call Dr. Fain topsy.", "She takes a pixel ban now.", "topsy"),
}


@pytest.fixture
def found() -> dict[str, SystemResult]:
    """Three systems on three recordings of half an hour, the last without a text."""
    outcomes = {
        (recording.id, system, 4 if system == "ours" else 0): Outcome(
            id=recording.id, system=system, size=0, text=text, prompted=("x", "y"), seconds=0.5
        )
        for system, texts in WRITTEN.items()
        for recording, text in zip(RECORDINGS, texts, strict=True)
    }
    scored = results(RECORDINGS, [0.5, 0.5, 0.5], [LISTING], outcomes, tuple(WRITTEN))
    return {result.system: result for result in scored}


def test_errors_are_split(found: dict[str, SystemResult]) -> None:
    """Words of terms on one side, all others on the other; recordings without a text on neither."""
    none = found["none"]
    assert none.b_wer.value == 1.0
    assert none.u_wer.value == pytest.approx(2 / 5)  # "a" and "pixel" before "ban"
    assert none.wer.value == pytest.approx(4 / 7)
    assert found["oracle"].wer.value == 0.0
    assert found["ours"].b_wer.value == 0.5


def test_figures_are_compared_with_no_glossary_and_the_oracle(
    found: dict[str, SystemResult],
) -> None:
    """The share of the oracle's gain is of the errors in terms."""
    ours = found["ours"]
    assert ours.oracle_share.value == 0.5
    assert ours.b_wer_ratio.value == 0.5
    assert ours.u_wer_change.value == pytest.approx(3 / 5 - 2 / 5)
    assert found["none"].oracle_share.value == 0.0
    assert found["oracle"].oracle_share.value == 1.0


def test_a_distractor_that_is_written_is_a_false_insertion(
    found: dict[str, SystemResult],
) -> None:
    """Judged where the text is known only, per hour of that audio."""
    assert found["ours"].false_insertions == 1
    assert found["ours"].false_per_hour.value == 1.0
    assert found["ours"].added_per_hour.value == 1.0
    assert found["none"].false_insertions == 0


def test_term_recall_needs_no_text(found: dict[str, SystemResult]) -> None:
    """The third recording counts."""
    assert found["none"].term_recall.value == pytest.approx(1 / 3)
    assert found["oracle"].term_recall.value == 1.0
    assert (found["ours"].prompted, found["ours"].seconds) == (2.0, 0.5)


def test_without_an_oracle_there_is_no_share() -> None:
    """Nor where the oracle saves nothing."""
    outcomes = {
        ("a", "none", 0): Outcome(
            id="a", system="none", size=0, text="call doctor fain", prompted=(), seconds=0.1
        )
    }
    (none,) = results(RECORDINGS[:1], [1.0], [LISTING], outcomes, ("none",))
    assert none.oracle_share.value is None
    assert none.json()["oracle_share"] == {"value": None, "low": None, "high": None}
