"""Training in several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from a2p_engine.training.data import FrameData
from tests.a2p_engine.training import two_processes as told

ROOT = Path(__file__).parents[3]


def _one_step_on_both_batches(directory: Path) -> dict[str, torch.Tensor]:
    """What one process makes of the mean of both batches' losses."""
    task, options = told.make_task(directory), told.OPTIMISATION
    optimizer = torch.optim.AdamW(
        task.module.parameters(),
        lr=options.learning_rate,
        betas=options.betas,
        weight_decay=options.weight_decay,
    )
    batches = FrameData([directory / "data"]).batches(
        frames_per_batch=options.frames_per_batch,
        utterances_per_batch=options.utterances_per_batch,
        epoch=0,
        seed=options.seed,
    )
    losses = [
        task.loss(task.module, batch, 0.0, (options.seed << 32) + process)
        for process, batch in enumerate(batches)
    ]
    assert len(losses) == 2
    (sum(losses[1:], losses[0]) / 2).backward()
    torch.nn.utils.clip_grad_norm_(task.module.parameters(), options.clip_norm)
    optimizer.step()
    return task.module.state_dict()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_processes_learn_from_a_batch_each_what_one_learns_from_both(tmp_path: Path) -> None:
    """Gradients are averaged: both end with the weights of one step on the mean loss."""
    told.write_data(tmp_path)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    command += ["2", "-m", "tests.a2p_engine.training.two_processes", str(tmp_path)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=380)
    first, second = (load_file(tmp_path / f"process-{n}.safetensors") for n in range(2))
    wanted, before = _one_step_on_both_batches(tmp_path), told.make_task(tmp_path).module
    for name, value in wanted.items():
        torch.testing.assert_close(first[name], value, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(second[name], first[name], atol=0, rtol=0)
    moved = before.state_dict()["head.time_words_proj.weight"]
    assert (first["head.time_words_proj.weight"] - moved).abs().max() > 1e-3
