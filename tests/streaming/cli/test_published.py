"""``a2p eval published`` and ``a2p frames``: options, tables, JSON and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from a2p_engine.evaluation import published_run
from a2p_engine.evaluation.bootstrap import Bootstrap
from a2p_engine.evaluation.published_measures import (
    Search,
    Text,
    recognition,
    retrieval,
    translation,
)
from a2p_engine.evaluation.published_request import Request
from a2p_engine.evaluation.published_run import Report
from a2p_engine.published import frames
from a2p_engine.published.data import Moved
from a2p_engine.published.frames import FramesPlan
from streaming.cli import main
from tests.a2p_engine.published.sets import write_json

SEARCHES = [
    Search(said=("apixaban",), found=("apixaban", "latte")),
    Search(said=("drip",), found=("latte", "apixaban")),
]
TEXTS = [
    Text(reference="take apixaban", written="take apixaban", terms=("apixaban",)),
    Text(reference="a drip now", written="a trip now", terms=("drip",)),
]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Of inference."""
    values = {
        "n_embed": 64,
        "retriever_n_head": 4,
        "retriever_merge_type": "add",
        "retriever_audio_word_fc": False,
        "infer_task": "asr",
        "audio_lang": "en",
        "topk": 2,
    }
    return write_json(tmp_path / "c.json", values)


class _Evaluation:
    """Has measured two utterances."""

    def __init__(self, task: str, target: str) -> None:
        draws = Bootstrap(2)
        figures = recognition if task == "asr" else translation
        writing = [figures(kind, TEXTS, target, draws) for kind in ("none", "said")]
        self.entries = [1, 2]
        self.report = Report(
            settings={
                "task": task, "target": target, "utterances": 2, "terms_said": 2,
                "terms_not_in_bank": 1, "bank": 10_000,
            },
            retrieval=tuple(retrieval(SEARCHES, k, draws) for k in (1, 2)),
            writing=tuple(writing),
        )  # fmt: skip

    def run(self, progress: Any) -> Report:
        progress()
        return self.report


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """Requests, answered without models; ``asr`` in English, ``st`` into Chinese."""
    requests: list[Request] = []

    def load(request: Request) -> Any:
        requests.append(request)
        evaluated = request.config.evaluation()
        return _Evaluation(evaluated.task, evaluated.target)

    monkeypatch.setattr(published_run, "load", load)
    return requests


def test_recognition_is_shown_as_published_and_as_we_count(
    config: Path, asked: list[Request], capsys: pytest.CaptureFixture[str]
) -> None:
    """Recall by depth, then rates by what the speech LLM was told."""
    assert main(["eval", "published", "-c", str(config)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0].startswith("2 utterances, 2 terms said, 1 of them not among the 10,000")
    assert lines[1] == "k recall@k, published recall@k precision@k"
    assert lines[2].startswith("1 0.500 0.500 (0.000-1.000) 0.500 (0.000-1.000)")
    assert "WER %, published" in lines[5] and "B-WER %" in lines[5]
    assert lines[6].startswith("none 0.500 16.67 0.500 (0.000-1.000) 20.00 (0.00-33.33)")
    assert asked[0].prompts == ("none", "retrieved")
    assert (asked[0].data, asked[0].speech_llm, asked[0].limit) == (None, None, None)


def test_translations_have_bleu_and_chrf(
    config: Path, asked: list[Request], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of sentences as published, and of the corpus."""
    values = json.loads(config.read_text()) | {"infer_task": "st", "tgt_lang": "zh"}
    write_json(config, values)
    assert main(["eval", "published", "-c", str(config)]) == 0
    out = capsys.readouterr().out
    assert "BLEU, published" in out and "chrF" in out and "WER" not in out


def test_options_go_to_the_request(
    config: Path, asked: list[Request], capsys: pytest.CaptureFixture[str]
) -> None:
    """And JSON has every figure."""
    command = ["eval", "published", "-c", str(config), "--data", "d.json", "--terms", "b.json"]
    command += ["--retriever", "w", "--speech-llm", "whisper-base", "--prompts", "said"]
    command += ["--moved", "/pathtodata=/d", "--moved", "/x=y", "--limit", "3", "--json"]
    assert main([*command, "--dump", "x.jsonl", "--device", "cpu"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["retrieval"][0]["published"] == 0.5
    assert record["writing"][1]["errors"]["value"] == 0.2
    (request,) = asked
    assert (request.data, request.bank) == (Path("d.json"), Path("b.json"))
    assert (request.retriever, request.speech_llm) == (Path("w"), "whisper-base")
    assert (request.prompts, request.limit, request.device) == (("said",), 3, "cpu")
    assert request.moved == (Moved("/pathtodata", "/d"), Moved("/x", "y"))
    assert request.dump == Path("x.jsonl")


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--moved", "/pathtodata"], 2, "--moved /pathtodata: takes OLD=NEW"),
        (["--prompts", "all"], 1, "unknown prompt 'all'; accepted are none, retrieved, said"),
    ],
)
def test_bad_options_are_named(
    config: Path,
    asked: list[Request],
    options: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In one line."""
    assert main(["eval", "published", "-c", str(config), *options]) == code
    assert message in capsys.readouterr().err
    assert not asked


def test_a_bad_configuration_is_one_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is loaded."""
    write_json(config, json.loads(config.read_text()) | {"top_k": 3})
    assert main(["eval", "published", "-c", str(config)]) == 1
    assert "unknown key 'top_k'; accepted are" in capsys.readouterr().err


def test_frames_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plan of the options; how much was done is said."""
    seen: list[Any] = []

    def make(plan: FramesPlan, out: Path, processes: int) -> int:
        seen.extend([plan, out, processes])
        return 4

    monkeypatch.setattr(frames, "make_frames", make)
    command = ["frames", "d.json", "-o", str(tmp_path), "-l", "zh", "--storage", "int8", "-j", "3"]
    command += ["--model", "qwen2-audio", "--moved", "/a=/b", "--limit", "5", "--device", "cpu"]
    assert main(command) == 0
    assert f"4 new shards in {tmp_path}" in capsys.readouterr().err
    expected = FramesPlan(
        data=Path("d.json"),
        language="zh",
        model="qwen2-audio",
        device="cpu",
        storage="int8",
        moved=(Moved("/a", "/b"),),
        limit=5,
    )
    assert seen == [expected, tmp_path, 3]
