"""Training: it learns, it resumes exactly, it refuses bad configurations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from a2p_engine.errors import TrainingError
from a2p_engine.retriever.phoneme_ctc import CTCConfig, PhonemeCTC
from a2p_engine.training import ctc_task
from a2p_engine.training.alignment import Aligner
from a2p_engine.training.config import OptimisationConfig, TrainingConfig, load_config
from a2p_engine.training.ctc_task import CTCTask
from a2p_engine.training.data import FrameData
from a2p_engine.training.shards import Utterance, write_shard
from a2p_engine.training.train import Trainer, train

# Frames in which every phoneme has a code of its own.
WORDS = {
    "harbour": "hɑɹbəɹ", "garden": "ɡɑɹdən", "kitchen": "kɪʧən", "window": "wɪndO",
    "candle": "kændəl", "market": "mɑɹkət", "river": "ɹɪvəɹ", "feather": "fɛðəɹ",
}  # fmt: skip
WIDTH = 24
CONFIG = TrainingConfig(
    head="phoneme_ctc",
    optimisation=OptimisationConfig(
        epochs=6, frames_per_batch=800, learning_rate=5e-3, checkpoint_steps=30
    ),
    ctc=CTCConfig(frame_width=WIDTH, width=32, groups=4, blocks=1, dropout=0.1),
)


def write_data(directory: Path, utterances: int, *, seed: int) -> None:
    """Frames that are noisy codes of the phonemes being said, four frames each."""
    codes = np.random.default_rng(99).normal(0, 1, (0x300, WIDTH))
    rng = np.random.default_rng(seed)
    frames, lines, start = [], [], 0
    for number in range(utterances):
        words = rng.choice(sorted(WORDS), size=int(rng.integers(2, 5)), replace=False)
        said = [ord(symbol) for word in words for symbol in WORDS[word]]
        rows = np.repeat(codes[said], 4, axis=0)
        rows = np.pad(rows, ((4, 4), (0, 0))) + rng.normal(0, 0.1, (len(said) * 4 + 8, WIDTH))
        frames.append(rows.astype(np.float16))
        lines.append(
            Utterance(
                id=f"u{number}",
                text=" ".join(words),
                phonemes=" ".join(WORDS[word] for word in words),
                voice="code",
                seed=seed,
                start=start,
                frames=len(rows),
            )
        )
        start += len(rows)
    directory.mkdir(parents=True, exist_ok=True)
    write_shard(directory / "shard", frames, lines)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directories ``train`` and ``dev``."""
    root = tmp_path_factory.mktemp("data")
    write_data(root / "train", 150, seed=1)
    write_data(root / "dev", 10, seed=2)
    return root


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phoneme head trained without interruption."""
    out = tmp_path_factory.mktemp("whole")
    return train(config=CONFIG, data=[data / "train"], dev=data / "dev", out=out)


def test_the_phoneme_head_learns(trained: Path) -> None:
    """Error falls, and the record, the curves and the words are written."""
    progress = json.loads((trained.parent / "progress.json").read_text())
    assert progress["qualities"][-1][1] < 0.1
    assert progress["losses"][-1][1] < 0.3 * progress["losses"][0][1]
    assert (trained.parent / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (trained.parent / "spoken_words.txt.gz").stat().st_size > 0


def test_a_trained_head_is_measured_on_other_data(
    trained: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As training did at its end; what cannot be measured is told."""
    quality = json.loads((trained.parent / "progress.json").read_text())["qualities"][-1][1]
    assert ctc_task.main([str(trained), str(data / "dev")]) == 0
    said = f"{data / 'dev'}: phoneme error rate {quality:.4f}, 10 utterances\n"
    assert capsys.readouterr().out == said
    assert ctc_task.main([str(trained)]) == 2
    assert ctc_task.main([str(trained), str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_an_interrupted_training_ends_in_the_same_weights(
    trained: Path, data: Path, tmp_path: Path
) -> None:
    """Optimizer, schedule, order and dropout all go on where they were left."""
    for steps in (17, None):  # 17 is in mid-epoch
        again = train(
            config=CONFIG,
            data=[data / "train"],
            dev=data / "dev",
            out=tmp_path,
            stop_after_steps=steps,
        )
    for name, value in load_file(trained).items():
        assert torch.equal(value, load_file(again)[name]), name


def test_the_rate_rises_and_falls_as_configured(data: Path, tmp_path: Path) -> None:
    """From the initial one, over so many steps, then along a cosine; the optimizer's betas too."""
    rates = replace(
        CONFIG.optimisation, initial_learning_rate=1e-3, warmup_steps=4, betas=(0.8, 0.9)
    )
    frames = FrameData([data / "train"])
    trainer = Trainer(CTCTask(CONFIG.ctc), rates, frames, FrameData([data / "dev"]), tmp_path)
    found = [5e-3 * trainer._rate(step) for step in range(5)]
    np.testing.assert_allclose(found, [2e-3, 3e-3, 4e-3, 5e-3, 5e-3], rtol=1e-6)
    assert trainer._rate(trainer.total_steps) == pytest.approx(0.01)
    assert trainer._optimizer.param_groups[0]["betas"] == (0.8, 0.9)


def test_a_checkpoint_of_another_shape_is_refused(trained: Path, data: Path) -> None:
    """The error names the checkpoint."""
    other = replace(CONFIG, ctc=replace(CONFIG.ctc, width=16))
    with pytest.raises(TrainingError, match="checkpoint-"):
        train(config=other, data=[data / "train"], dev=data / "dev", out=trained.parent)


def test_words_are_found_where_they_were_said(trained: Path, data: Path) -> None:
    """Alignment puts each word on its own frames, within the margin and a frame more."""
    dev = FrameData([data / "dev"])
    for row, spans in enumerate(Aligner(PhonemeCTC.load(trained)).spans(dev.collate(range(10)))):
        words = dev.utterances[row].text.split()
        assert [word for word, _ in spans] == words
        begin = 2  # four frames of silence at 50 Hz
        for word, (start, end) in spans:
            length = 2 * len(WORDS[word])
            assert abs(start - begin) <= 3
            assert abs(end - begin - length) <= 3
            begin += length


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("head = 'ctc'", "head must be"),
        ("head = 'a2p'", "optimisation"),
        ("head = 'a2p'\n[optimisation]\nepochs = 1\nlearningrate = 1", "learningrate"),
        ("head = 'a2p'\n[optimiser]\nepochs = 1", "optimiser"),
        ("head = 'a2p'\n[optimisation]\nseed = 1", "epochs"),
        ("head = 'a2p'\n[optimisation]\nepochs = 1\n[attention]\nwidth = 5\nheads = 2", "heads"),
        ("head =", "cannot read"),
    ],
)
def test_a_bad_configuration_is_named(tmp_path: Path, text: str, message: str) -> None:
    """Unknown, missing and impossible values."""
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(TrainingError, match=message):
        load_config(path)


def test_the_shipped_configurations_load() -> None:
    """Both heads have one."""
    folder = Path(load_config.__code__.co_filename).parent / "configs"
    assert {load_config(path).head for path in folder.glob("*.toml")} == {"phoneme_ctc", "a2p"}
