"""The phoneme head: shapes, look-ahead, padding, files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from a2p_engine.errors import ModelError
from a2p_engine.retriever.phoneme_ctc import (
    BOUNDARY,
    SYMBOLS,
    CTCConfig,
    PhonemeCTC,
    to_symbols,
    with_boundaries,
)

SMALL = CTCConfig(frame_width=12, width=16, groups=2, dropout=0.0)


def _head() -> PhonemeCTC:
    torch.manual_seed(1)
    return PhonemeCTC(SMALL).eval()


def test_symbols_drop_stress_and_punctuation_and_fold_variants() -> None:
    """A flap is a t, reduced vowels are vowels, unknown characters are left out."""
    assert "".join(to_symbols("bˈɛTəɹ, ðᵻ ˌæksᵊnt?! 7")) == "bɛtəɹðɪæksənt"
    assert to_symbols("ˈ .") == []


def test_boundaries_stand_around_each_word_once() -> None:
    """Neighbours share one; what has no phoneme is no word."""
    assert "".join(with_boundaries("ðə , ˈaɹt!")) == " ðə æɹt "
    assert with_boundaries(" ˈ . ") == []
    assert BOUNDARY in SYMBOLS and BOUNDARY not in to_symbols("ðə kˈæt")


def test_symbols_are_unique_and_begin_with_the_blank() -> None:
    """Column numbers mean one thing each."""
    assert SYMBOLS[0] == ""
    assert len(set(SYMBOLS)) == len(SYMBOLS)


@pytest.mark.parametrize("frames", [1, 2, 7, 50])
def test_two_frames_make_one_output(frames: int) -> None:
    """Outputs are log-probabilities at half the rate, rounded up."""
    out = _head()(torch.randn(3, frames, 12))
    assert out.shape == (3, (frames + 1) // 2, len(SYMBOLS))
    torch.testing.assert_close(out.exp().sum(-1), torch.ones(3, (frames + 1) // 2))


@torch.no_grad()
def test_an_output_depends_on_no_more_than_the_lookahead() -> None:
    """Frames further away than stated change nothing, the last one within does."""
    head, frames = _head(), torch.randn(1, 60, 12)
    before = head(frames)[0, 10]
    reach = 2 * (10 + head.lookahead_frames) + 1  # the last frame that matters
    for first, same in ((reach + 1, True), (reach, False)):
        changed = frames.clone()
        changed[0, first:] += 5.0
        assert torch.equal(before, head(changed)[0, 10]) is same


@torch.no_grad()
def test_padding_changes_nothing() -> None:
    """A row gives the same numbers alone and in a batch, odd lengths included."""
    head, rows = _head(), [torch.randn(n, 12) for n in (9, 24, 31)]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=7.0)
    together = head(padded, torch.tensor([len(row) for row in rows]))
    for number, row in enumerate(rows):
        alone = head(row[None])[0]
        torch.testing.assert_close(together[number, : len(alone)], alone, atol=1e-5, rtol=1e-5)


def test_saved_heads_come_back(tmp_path: Path) -> None:
    """Weights, shape and symbols are in the file, in half precision."""
    head, frames = _head(), torch.randn(1, 20, 12)
    head.save(tmp_path / "head.safetensors")
    again = PhonemeCTC.load(tmp_path / "head.safetensors")
    assert again.symbols == head.symbols
    assert again.config == head.config
    assert not again.training
    torch.testing.assert_close(again(frames), head(frames), atol=2e-2, rtol=2e-2)


def test_an_unusable_file_is_a_model_error(tmp_path: Path) -> None:
    """Missing, damaged: one line that names the file."""
    (tmp_path / "bad").write_bytes(b"not a file of tensors")
    for name in ("absent", "bad"):
        with pytest.raises(ModelError, match=name):
            PhonemeCTC.load(tmp_path / name)
