"""The parity command on files of the released form, made by the test from the dense module."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from a2p_engine.parity import main
from a2p_engine.retriever.attention import AttentionConfig, AttentionRetriever, MergeType


def _write(path: Path, merge: MergeType, fc: bool, error: float = 0.0) -> None:
    torch.manual_seed(1)
    module = AttentionRetriever(AttentionConfig(width=16, heads=2, merge=merge, fc=fc)).eval()
    inputs = {
        "token_embeddings": torch.randn(20, 16),
        "term_token_ids": torch.randint(0, 20, (9, 3)),
        "term_token_mask": (torch.arange(3) < torch.randint(1, 4, (9, 1))).float(),
        "audio": torch.randn(2, 12, 16),
        "audio_mask": (torch.arange(12) < torch.tensor([[12], [9]])).float(),
    }
    with torch.no_grad():
        output = module(*inputs.values()) + error
    state = {f"model.{name}": value for name, value in module.state_dict().items()}
    config = {
        "n_embed": 16,
        "retriever_n_head": 2,
        "retriever_merge_type": merge,
        "retriever_audio_word_fc": fc,
    }
    save_file(state | inputs | {"log_probs": output}, path, {"config": json.dumps(config)})


def _run(*paths: Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: whether Triton interprets is settled at its import."""
    command = [sys.executable, "-m", "a2p_engine.parity", *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_every_merge_type_agrees_with_padding_and_in_chunks(tmp_path: Path) -> None:
    """Dense, folded, chunked and kernel forms are all within the tolerance."""
    forms: list[tuple[MergeType, bool]] = [("add", True), ("add", False), ("fc", True)]
    paths = [tmp_path / f"{merge}-{fc}.safetensors" for merge, fc in forms]
    for path, (merge, fc) in zip(paths, forms, strict=True):
        _write(path, merge, fc)
    done = _run(*paths)
    assert done.returncode == 0, done.stderr
    reports = json.loads("[" + done.stdout.replace("}\n{", "},{") + "]")
    assert [report["file"] for report in reports] == [str(path) for path in paths]
    for report in reports:
        differences = report["largest_difference"]
        assert len(differences) == 7
        assert max(differences.values()) < 1e-4


def test_disagreement_fails(tmp_path: Path) -> None:
    """An output that is off by a thousandth is noticed."""
    _write(tmp_path / "p.safetensors", "add", True, error=1e-3)
    done = _run(tmp_path / "p.safetensors")
    assert done.returncode == 1
    assert json.loads(done.stdout)["largest_difference"]["kernel"] > 5e-4


def test_other_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not a parity file is an error of one line; no argument is a usage error."""
    (tmp_path / "x.safetensors").write_bytes(b"nonsense")
    assert main([str(tmp_path / "x.safetensors")]) == 1
    assert "x.safetensors is not a parity file" in capsys.readouterr().err
    assert main([]) == 2
