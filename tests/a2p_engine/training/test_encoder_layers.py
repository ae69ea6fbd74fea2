"""A copy of Whisper with fewer encoder layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from a2p_engine import models
from a2p_engine.encoders import build_encoder
from a2p_engine.errors import ModelError
from a2p_engine.training.encoder_layers import keep_encoder_layers, main


def test_the_copy_hears_with_the_layers_that_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All layers are the model byte by byte; five give other frames of the same shape."""
    base = models.find("whisper-base")
    assert keep_encoder_layers(base, 6, tmp_path / "all") == 6
    assert (tmp_path / "all" / "model.bin").read_bytes() == (base / "model.bin").read_bytes()
    assert main([str(base), "5", str(tmp_path / "whisper-base")]) == 0
    assert "the first 5 of 6 encoder layers" in capsys.readouterr().out
    speech = np.random.default_rng(3).normal(0, 0.1, 16_000).astype(np.float32)
    every = build_encoder("whisper-base", "cpu", 1).encode(speech).frames
    monkeypatch.setenv("A2P_MODELS_DIR", str(tmp_path))
    five = build_encoder("whisper-base", "cpu", 1).encode(speech).frames
    assert every.shape == five.shape
    assert np.isfinite(five).all()
    assert not np.allclose(every, five, atol=0.1)


def test_what_cannot_be_cut_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No model, another format, a torn file, no layers and too many."""
    base = models.find("whisper-base")
    with pytest.raises(ModelError, match="holds no model in CTranslate2's format"):
        keep_encoder_layers(tmp_path, 3, tmp_path / "out")
    for keep in (0, 7):
        with pytest.raises(ModelError, match=f"{keep} of 6 encoder layers cannot be kept"):
            keep_encoder_layers(base, keep, tmp_path / "out")
    with pytest.raises(ModelError, match="holds a model already"):
        keep_encoder_layers(base, 3, base)
    whole = (base / "model.bin").read_bytes()
    (tmp_path / "model.bin").write_bytes(whole[:1_000_000])
    with pytest.raises(ModelError, match=r"model\.bin ends early"):
        keep_encoder_layers(tmp_path, 3, tmp_path / "out")
    (tmp_path / "model.bin").write_bytes(b"\x07" + whole[1:1000])
    assert main([str(tmp_path), "3", str(tmp_path / "out")]) == 2
    assert "is not in format 6" in capsys.readouterr().err
    assert main([str(base), "three", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
