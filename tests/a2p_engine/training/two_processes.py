"""One step of training, in as many processes as torchrun starts; each writes its weights.

torchrun --nproc_per_node 2 -m tests.a2p_engine.training.two_processes DIRECTORY
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from a2p_engine.retriever.attention import AttentionConfig
from a2p_engine.training.config import CurriculumConfig, OptimisationConfig
from a2p_engine.training.data import FrameData
from a2p_engine.training.retrieval_task import RetrievalTask
from a2p_engine.training.shards import Utterance, write_shard
from a2p_engine.training.train import Trainer

WIDTH, WORDS = 16, 10
OPTIMISATION = OptimisationConfig(
    epochs=1, utterances_per_batch=4, learning_rate=1e-2, warmup_steps=1
)


def write_data(directory: Path) -> None:
    """Eight utterances, two batches; each word is heard as its own embedding."""
    rng = np.random.default_rng(3)
    codes = rng.normal(0, 1, (WORDS, WIDTH)).astype(np.float32)
    frames, lines = [], []
    for number in range(2 * 4):
        said = rng.choice(WORDS, 2, replace=False)
        rows = np.repeat(codes[said], 20, axis=0) + rng.normal(0, 0.3, (40, WIDTH))
        frames.append(rows.astype(np.float16))
        terms = tuple(f"w{n}" for n in said)
        lines.append(
            Utterance(
                id=str(number),
                text=" ".join(terms),
                phonemes="",
                voice="",
                seed=0,
                start=40 * number,
                frames=40,
                terms=terms,
                seeds=True,
            )
        )
    (directory / "data").mkdir()
    write_shard(directory / "data" / "shard", frames, lines)
    tokenizer = Tokenizer(models.WordLevel({f"w{n}": n for n in range(WORDS)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(directory / "tokenizer.json"))
    save_file({"weight": torch.from_numpy(codes)}, directory / "embedding.safetensors")


def make_task(directory: Path) -> RetrievalTask:
    """The same untrained head wherever it is made."""
    torch.manual_seed(0)
    return RetrievalTask(
        AttentionConfig(width=WIDTH, heads=2, fc=False),
        CurriculumConfig(source="listed", level="word", positive_weight=1.0),
        model=directory,
        rare_words=[],
        data=FrameData([directory / "data"]),
    )


def main(directory: Path) -> None:
    """Train and write."""
    task, data = make_task(directory), FrameData([directory / "data"])
    trainer = Trainer(task, OPTIMISATION, data, data, directory / "out")
    trainer.run()
    state = {name: value.contiguous() for name, value in task.module.state_dict().items()}
    save_file(state, directory / f"process-{trainer.accelerator.process_index}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
