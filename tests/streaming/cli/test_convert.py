"""The command ``a2p convert retriever``: one line of result, one line for each mistake."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from a2p_engine.retriever.attention import AttentionConfig, AttentionRetriever
from a2p_engine.retriever.checkpoints import load_head
from streaming.cli import main


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """A command line that works: checkpoint, configuration, output."""
    torch.manual_seed(1)
    module = AttentionRetriever(AttentionConfig(width=32, heads=4, merge="add", fc=False))
    torch.save({"model": module.bfloat16().state_dict()}, tmp_path / "en_retriever")
    values = {"n_embed": 32, "retriever_n_head": 4, "retriever_merge_type": "add"}
    config = tmp_path / "config.json"
    config.write_text(json.dumps(values | {"retriever_audio_word_fc": False, "topk": 10}))
    out = ["--out", str(tmp_path / "head.safetensors")]
    return ["convert", "retriever", str(tmp_path / "en_retriever"), "--config", str(config), *out]


def _last_line(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    return captured.err.strip()


def test_the_summary_is_one_line(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Parameters, width, heads, merge type, kind of numbers and size; the file loads."""
    assert main(command) == 0
    assert _last_line(capsys) == (
        f"{tmp_path}/head.safetensors: 5,346 parameters, width 32, 4 heads, merge add without "
        "audio_word_fc, bfloat16, 0.0 MB"
    )
    assert load_head(tmp_path / "head.safetensors").config.heads == 4


def test_an_existing_output_needs_force(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --force the first result stays."""
    assert main(command) == 0
    first = (tmp_path / "head.safetensors").read_bytes()
    capsys.readouterr()
    assert main([*command, "--dtype", "float32"]) == 1
    assert "--force" in _last_line(capsys)
    assert (tmp_path / "head.safetensors").read_bytes() == first
    assert main([*command, "--dtype", "float32", "--force"]) == 0
    assert "float32" in _last_line(capsys)


def test_unknown_types_are_a_usage_error(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The accepted ones are listed."""
    assert main([*command, "--dtype", "int8"]) == 2
    assert "'keep', 'float32', 'bfloat16', 'float16'" in _last_line(capsys)


class Payload:
    """Unpickled without care, this makes a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_pickled_code_is_one_line_and_not_run(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 1, and the trap has not sprung."""
    torch.save({"model": Payload(tmp_path / "trap")}, tmp_path / "en_retriever")
    assert main(command) == 1
    assert "en_retriever is refused: it asks for posix.mkdir" in _last_line(capsys)
    assert not (tmp_path / "trap").exists()
    assert not (tmp_path / "head.safetensors").exists()


def test_a_wrong_configuration_names_file_and_key(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it does in the library."""
    (tmp_path / "config.json").write_text('{"n_embd": 32}')
    assert main(command) == 1
    line = _last_line(capsys)
    assert f"{tmp_path}/config.json: unknown key 'n_embd'" in line
