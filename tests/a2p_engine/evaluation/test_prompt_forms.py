"""Forms of Whisper's prompt compared on a real recording and real weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from a2p_engine.audio import read_audio
from a2p_engine.errors import InputError
from a2p_engine.evaluation import prompt_forms
from a2p_engine.evaluation.prompt_forms import Form, Request, run
from a2p_engine.manifest import Recording

RECORDING = Path(__file__).parents[3] / "examples" / "data" / "ward_round.flac"
TEXT = "I would add empagliflozin and keep the rosuvastatin at night."
ROUND = Recording(id="round", audio=RECORDING, text=TEXT, terms=("empagliflozin", "rosuvastatin"))
# Whoever wrote this line did not hear the drugs: writing them is counted as false.
OTHER = Recording(
    id="other", audio=RECORDING, text="nothing of the kind", terms=("voussoir", "Fain", "Hosty")
)
NOTHING, SAID, WRONG, WITH_CONTEXT = (
    Form("glossary", "nothing", False),
    Form("glossary", "said", False),
    Form("glossary", "wrong", False),
    Form("glossary", "nothing", True),
)


def test_terms_that_are_said_help_and_wrong_ones_do_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Errors in terms fall only where they are told; forms come in the order asked for."""
    sentence = tmp_path / "sentence.flac"
    soundfile.write(
        sentence, read_audio(RECORDING)[int(10.1 * 16_000) : int(15.4 * 16_000)], 16_000
    )
    recordings = [replace(recording, audio=sentence) for recording in (ROUND, OTHER)]
    monkeypatch.setattr(prompt_forms, "forms", lambda: [NOTHING, SAID, WRONG, WITH_CONTEXT])
    compared = run(recordings, Request(wrong=2, device="cpu"))
    results = {result.form: result for result in compared.results}
    assert list(results) == [NOTHING, SAID, WRONG, WITH_CONTEXT]
    b_wer = {form: result.b_wer.value for form, result in results.items()}
    assert b_wer[NOTHING] and b_wer[SAID] is not None and b_wer[SAID] < b_wer[NOTHING]
    assert b_wer[WRONG] and b_wer[WRONG] > b_wer[SAID]
    assert results[WRONG].false_insertions >= 1 > results[SAID].false_insertions
    said, nothing = results[SAID], results[NOTHING]
    assert said.wer_change.value == 0.0 == nothing.wer_change.value  # they are the default
    assert results[WITH_CONTEXT].wer_change.value == pytest.approx(
        results[WITH_CONTEXT].wer.value - nothing.wer.value
    )
    assert all(result.seconds > 0 for result in compared.results)
    report = compared.json()
    assert report["settings"]["recordings"] == ["round", "other"]
    assert report["results"][1]["told"] == "said" and report["results"][1]["b_wer"]["value"] == (
        pytest.approx(b_wer[SAID], abs=1e-5)
    )


def test_all_forms_are_compared_with_the_default() -> None:
    """Each wording with what was said, with wrong terms and with both; earlier text besides."""
    compared = prompt_forms.forms()
    assert len(set(compared)) == len(compared) == 14
    assert {form.name for form in compared} == {
        "-", "bare", "glossary", "sentence", "earlier text", "earlier text + glossary"
    }  # fmt: skip


def test_what_cannot_be_compared_is_refused() -> None:
    """The recording without text, or too few terms, are named before anything is decoded."""
    with pytest.raises(InputError, match="'round' is not known"):
        run([replace(ROUND, text=None), OTHER], Request())
    with pytest.raises(InputError, match=r"8 wrong terms are to be told, .* have 3"):
        run([ROUND, OTHER], Request())
