"""Translations measured: real Spanish speech on real weights, and figures on texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from a2p_engine.engine import EngineSettings
from a2p_engine.errors import InputError
from a2p_engine.evaluation import translation
from a2p_engine.evaluation.translation import NONE, ORACLE, Translated, run
from a2p_engine.manifest import Recording, read_manifest
from a2p_engine.speech_llm import DecodeRequest, Hypothesis
from a2p_engine.speech_llm.whisper import WhisperSpeechLLM
from a2p_engine.types import Term

MANIFEST = Path(__file__).parents[2] / "data" / "translation" / "manifest.jsonl"
CPU = EngineSettings(device="cpu", workers=1)


@pytest.fixture
def court() -> Recording:
    """Mi hermano trabaja en el Tribunal Supremo..."""
    return next(one for one in read_manifest(MANIFEST) if one.id == "es-court")


def test_speech_is_translated_untold_and_told_the_targets(
    court: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracle tells what the terms are in English; both are scored against the reference."""
    told: list[tuple[list[str], list[str]]] = []
    decode = WhisperSpeechLLM.decode

    def listen(self: WhisperSpeechLLM, request: DecodeRequest) -> Hypothesis:
        assert (request.task, request.language, request.target_language) == (
            "translate",
            "es",
            "en",
        )
        told.append((list(request.sources), list(request.terms)))
        return decode(self, request)

    monkeypatch.setattr(WhisperSpeechLLM, "decode", listen)
    none, oracle = run([court], CPU)
    assert told == [([], []), (["Tribunal Supremo"], ["Supreme Court"])]
    assert (none.system, oracle.system) == (NONE, ORACLE)
    for result in (none, oracle):
        assert result.texts["es-court"].startswith("My brother works in the Supreme Court")
        assert 10 < result.bleu < 100 and 30 < result.chrf < 100
        assert (result.written, result.targets, result.term_accuracy) == (1, 1, 1.0)
        assert "tok:13a" in result.signature


def _scored(written: str, reference: str, targets: tuple[str, ...], target: str) -> Translated:
    recording = Recording(
        id="a", audio=Path("a.flac"), text=None, terms=(), translation=reference, targets=targets
    )
    scorer = translation._sacrebleu()
    return translation._scored(ORACLE, {"a": written}, [recording], target, scorer)


def test_terms_count_only_where_they_are_written() -> None:
    """As whole words in English; anywhere in Chinese, of which BLEU counts characters."""
    english = _scored("She takes warfarins.", "She takes warfarin.", ("warfarin", "takes"), "en")
    assert (english.written, english.targets, english.term_accuracy) == (1, 2, 0.5)
    text = "患者服用阿哌沙班治疗心房颤动"
    chinese = _scored(text, text, ("阿哌沙班", "华法林"), "zh")
    assert (chinese.bleu, chinese.chrf, chinese.written) == (100.0, 100.0, 1)
    assert "tok:zh" in chinese.signature
    assert chinese.json()["term_accuracy"] == 0.5


def test_a_glossary_that_cannot_be_heard_is_said(court: Recording) -> None:
    """Else its figures would be those without one."""
    glossary = [Term(text="Tribunal Supremo", target="Supreme Court")]
    with pytest.raises(InputError, match="no term can be used: terms are heard in en only"):
        run([court], CPU, glossary)


def test_without_a_reference_there_is_nothing_to_measure() -> None:
    """The recording is named before a model is loaded."""
    with pytest.raises(InputError, match="translation of recording 'b' is not known"):
        run([Recording(id="b", audio=Path("b.flac"), text="x", terms=())], CPU)
