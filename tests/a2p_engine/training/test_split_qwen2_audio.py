"""Splitting Qwen2-Audio, and training heads on what comes out, on a tiny random model."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2AudioForConditionalGeneration
from transformers.models.qwen2_audio import modeling_qwen2_audio as library

from a2p_engine.encoders import build_encoder
from a2p_engine.encoders.qwen2_audio import Qwen2AudioEncoder
from a2p_engine.errors import InputError, ModelError, TrainingError
from a2p_engine.retriever.attention import AttentionConfig
from a2p_engine.retriever.checkpoints import load_head
from a2p_engine.retriever.phoneme_ctc import CTCConfig, PhonemeCTC
from a2p_engine.training.config import (
    CurriculumConfig,
    OptimisationConfig,
    TrainingConfig,
    load_config,
)
from a2p_engine.training.data import FrameData
from a2p_engine.training.shards import Utterance, write_shard
from a2p_engine.training.split_qwen2_audio import split
from a2p_engine.training.train import train
from a2p_engine.training.vocabulary import load_vocabulary
from streaming.cli import main
from tests.a2p_engine.speech_llm import tiny

TOKENIZER = tiny.tokenizer()
CONFIGS = Path(__file__).parents[3] / "a2p_engine" / "training" / "configs"
WORDS = ("harbour", "garden", "kitchen", "window")


@pytest.fixture(scope="module")
def model() -> Qwen2AudioForConditionalGeneration:
    """The whole of it."""
    return tiny.qwen2_audio(TOKENIZER)


@pytest.fixture
def checkpoint(model: Qwen2AudioForConditionalGeneration, tmp_path: Path) -> Path:
    """Its directory, in several files as the published one is."""
    directory = tmp_path / "checkpoint"
    model.save_pretrained(directory, max_shard_size="40KB")
    assert len(list(directory.glob("*.safetensors"))) > 1
    TOKENIZER.save(str(directory / "tokenizer.json"))
    return directory


def _speech(samples: int = 20_000) -> np.ndarray:
    return np.random.default_rng(5).normal(0, 0.1, samples).astype(np.float32)


def test_the_encoder_of_a_split_hears_what_the_whole_model_hears(
    model: Qwen2AudioForConditionalGeneration,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command writes three files; frames and token table are the model's."""
    out = tmp_path / "models" / "qwen2-audio-encoder"
    assert main(["split", "qwen2-audio", str(checkpoint), "--out", str(out)]) == 0
    assert "audio_tower.safetensors" in capsys.readouterr().err
    monkeypatch.setenv("A2P_MODELS_DIR", str(tmp_path / "models"))
    encoder = build_encoder("qwen2-audio-encoder", "cpu", 1)
    inner = model.model
    whole = Qwen2AudioEncoder(inner.audio_tower, inner.multi_modal_projector, name="whole")
    np.testing.assert_array_equal(encoder.encode(_speech()).frames, whole.encode(_speech()).frames)
    table = load_vocabulary(out).table
    torch.testing.assert_close(table, model.get_input_embeddings().weight.detach())
    assert load_vocabulary(out).token_ids("inner") == tuple(TOKENIZER.encode("inner").ids)
    assert main(["split", "qwen2-audio", str(checkpoint), "--out", str(out)]) == 1
    assert "--force" in capsys.readouterr().err


def test_what_is_neither_a_directory_nor_a_repository_is_not_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt path is called one, and nobody is told to fetch it from the hub."""
    for name in (str(tmp_path / "nowhere"), "no such thing"):
        assert main(["split", "qwen2-audio", name, "--out", str(tmp_path / "none")]) == 1
        said = capsys.readouterr().err
        assert f"{name} is neither a directory nor the name of a repository" in said
        assert "hf download" not in said


def test_the_published_split_is_read_without_running_its_code(
    model: Qwen2AudioForConditionalGeneration, tmp_path: Path
) -> None:
    """Whole modules, as the published trainer loads them, and state dicts; anything else not."""
    published = tmp_path / "published"
    published.mkdir()
    torch.save(model.model.audio_tower, published / "audio_tower.pt")
    torch.save(model.model.multi_modal_projector.state_dict(), published / "projector.pt")
    torch.save(model.get_input_embeddings(), published / "embedding.pt")
    counts = split(published, tmp_path / "out")
    assert counts["embedding"] == model.get_input_embeddings().weight.numel()
    found = load_file(tmp_path / "out" / "audio_tower.safetensors")
    wanted = model.model.audio_tower.state_dict()
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor)

    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (ran,)

    (published / "embedding.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ModelError, match=r"embedding\.pt"):
        split(published, tmp_path / "out", overwrite=True)
    torch.save({"weight": Evil()}, published / "embedding.pt")
    with pytest.raises(ModelError, match=r"refused: it asks for .*was not run"):
        split(published, tmp_path / "out", overwrite=True)
    assert not ran.exists()
    (published / "embedding.pt").unlink()
    with pytest.raises(ModelError, match=r"embedding\.pt is missing"):
        split(published, tmp_path / "out", overwrite=True)


@pytest.mark.parametrize("name", ["Qwen2AudioSdpaAttention", "Qwen2AudioFlashAttention2"])
def test_modules_of_the_library_they_were_published_with_are_read(
    model: Qwen2AudioForConditionalGeneration,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    """Transformers 4.51 had an attention of its own for each way to compute it."""
    tower = model.model.audio_tower
    with monkeypatch.context() as older:
        attention = type(name, (library.Qwen2AudioAttention,), {"__module__": library.__name__})
        older.setattr(library, name, attention, raising=False)
        for layer in tower.layers:
            older.setattr(layer.self_attn, "__class__", attention)
        torch.save(tower, tmp_path / "audio_tower.pt")
    torch.save(model.model.multi_modal_projector, tmp_path / "projector.pt")
    torch.save(model.get_input_embeddings(), tmp_path / "embedding.pt")
    out = tmp_path / "out"
    assert main(["split", "qwen2-audio", str(tmp_path), "--out", str(out)]) == 0
    assert "config.json is missing" in capsys.readouterr().err
    found = load_file(out / "audio_tower.safetensors")
    for key, tensor in tower.state_dict().items():
        torch.testing.assert_close(found[key], tensor)


def test_checkpoints_of_other_models_are_refused(tmp_path: Path) -> None:
    """No files at all; tensors of something else; an output that is there."""
    with pytest.raises(ModelError, match="neither safetensors files nor"):
        split(tmp_path, tmp_path / "out")
    save_file({"weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"no Qwen2-Audio: audio_tower lacks conv1\.weight"):
        split(tmp_path, tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "projector.safetensors").touch()
    with pytest.raises(InputError, match="exists"):
        split(tmp_path, tmp_path / "out")


def _data(directory: Path, model: Qwen2AudioForConditionalGeneration, count: int) -> Path:
    """Frames of noise at 25 Hz with words listed for them."""
    inner = model.model
    encoder = Qwen2AudioEncoder(inner.audio_tower, inner.multi_modal_projector, name="x")
    frames, lines = [], []
    for number in range(count):
        word = WORDS[number % len(WORDS)]
        rows = encoder.encode(_speech(8_000 + 640 * number)).frames.astype(np.float16)
        lines.append(
            Utterance(
                id=f"u{number}",
                text=f"the {word}",
                phonemes="ðə ɡɑɹdən",
                voice="noise",
                seed=0,
                start=sum(map(len, frames)),
                frames=len(rows),
                terms=(word,),
                frame_rate_hz=25,
            )
        )
        frames.append(rows)
    directory.mkdir(parents=True)
    write_shard(directory / "shard", frames, lines)
    return directory


def test_both_heads_are_trained_on_its_frames(
    model: Qwen2AudioForConditionalGeneration, checkpoint: Path, tmp_path: Path
) -> None:
    """25 frames a second, of its own width, with its own tokens; the rate comes from the data."""
    parts = tmp_path / "parts"
    split(checkpoint, parts)
    data, dev = _data(tmp_path / "train", model, 24), _data(tmp_path / "dev", model, 4)
    assert FrameData([data]).pool == 1
    optimisation = OptimisationConfig(epochs=1, frames_per_batch=200, checkpoint_steps=50)
    config = TrainingConfig(
        head="a2p",
        optimisation=optimisation,
        attention=AttentionConfig(width=32, heads=4, fc=False, dropout=0.1),
        curriculum=CurriculumConfig(source="listed", level="word", label_smoothing=0.1),
    )
    head = load_head(train(config=config, data=[data], dev=dev, out=tmp_path / "a2p", model=parts))
    assert head.config.width == 32
    config = TrainingConfig(
        head="phoneme_ctc",
        optimisation=optimisation,
        ctc=CTCConfig(frame_width=32, width=16, groups=2, blocks=1),
    )
    path = train(config=config, data=[data], dev=dev, out=tmp_path / "ctc")
    trained = PhonemeCTC.load(path)
    assert trained.config.pool == 1
    assert trained(torch.zeros(1, 7, 32)).shape[1] == 7


def test_frames_of_two_rates_are_not_mixed(
    model: Qwen2AudioForConditionalGeneration, tmp_path: Path
) -> None:
    """The error names both."""
    data = _data(tmp_path / "train", model, 1)
    index = data / "shard.jsonl"
    index.write_text(index.read_text().replace('"frame_rate_hz": 25', '"frame_rate_hz": 40'))
    other = _data(tmp_path / "other", model, 1)
    with pytest.raises(TrainingError, match="25 and 40 a second"):
        FrameData([data, other])


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("qwen2_audio_*.toml")), ids=lambda p: p.stem)
def test_shipped_configurations_fit_the_model(path: Path) -> None:
    """Width 4096; the A2P head without audio_word_fc, as published."""
    config = load_config(path)
    if config.head == "a2p":
        shape = config.attention
        assert (shape.width, shape.heads, shape.merge, shape.fc) == (4096, 32, "add", False)
        assert config.curriculum.source == "listed"
    else:
        assert config.ctc.frame_width == 4096
