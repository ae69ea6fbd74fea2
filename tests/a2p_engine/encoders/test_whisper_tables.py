"""The token embedding table, read from CTranslate2's file."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from a2p_engine import models
from a2p_engine.encoders.whisper_tables import token_embeddings
from a2p_engine.errors import ModelError

NAME = "decoder/embeddings/weight"


def _text(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def _file(directory: Path, name: str, table: np.ndarray, kind: int) -> None:
    """A model.bin with another variable before the wanted one."""
    data = table.tobytes()
    parts = [struct.pack("<I", 6), _text("WhisperSpec"), struct.pack("<II", 3, 2)]
    parts += [_text("other"), struct.pack("<BBI", 0, 1, 1), b"\x05"]
    parts += [_text(name), struct.pack("<BIIBI", 2, *table.shape, kind, len(data)), data]
    (directory / "model.bin").write_bytes(b"".join(parts))


@pytest.mark.parametrize(("kind", "number_type"), [(0, "<f4"), (4, "<f2")])
def test_reads_float_tables(tmp_path: Path, kind: int, number_type: str) -> None:
    """Whichever float the file holds, float32 comes out."""
    table = np.arange(12).reshape(4, 3).astype(number_type)
    _file(tmp_path, NAME, table, kind)
    found = token_embeddings(tmp_path)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, table.astype(np.float32))


def test_unusable_files_are_model_errors(tmp_path: Path) -> None:
    """Missing file, missing table, integers, a file that stops in the middle."""
    with pytest.raises(ModelError, match="cannot read"):
        token_embeddings(tmp_path)
    _file(tmp_path, "something else", np.zeros((2, 2), "<f4"), 0)
    with pytest.raises(ModelError, match="no variable"):
        token_embeddings(tmp_path)
    _file(tmp_path, NAME, np.zeros((2, 2), "i1"), 1)
    with pytest.raises(ModelError, match="type 1"):
        token_embeddings(tmp_path)
    _file(tmp_path, NAME, np.zeros((20, 2), "<f4"), 0)
    whole = (tmp_path / "model.bin").read_bytes()
    (tmp_path / "model.bin").write_bytes(whole[:-9])
    with pytest.raises(ModelError, match="cannot read"):
        token_embeddings(tmp_path)


def test_whisper_base_has_its_table() -> None:
    """The real file: 51,865 tokens of width 512, all different from zero."""
    table = token_embeddings(models.find("whisper-base"))
    assert table.shape == (51_865, 512)
    assert np.isfinite(table).all()
    assert (np.abs(table).sum(1) > 0).all()
