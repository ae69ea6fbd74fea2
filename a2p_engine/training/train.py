"""The training loop: any number of processes and devices through accelerate, resumed exactly."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from tqdm import tqdm

from a2p_engine.errors import TrainingError
from a2p_engine.retriever.phoneme_ctc import PhonemeCTC
from a2p_engine.training.config import OptimisationConfig, TrainingConfig, load_config
from a2p_engine.training.curves import draw
from a2p_engine.training.data import Batch, FrameData
from a2p_engine.training.terms import SPOKEN_WORDS, write_spoken_words
from a2p_engine.training.texts import read_lines

log = logging.getLogger(__name__)


class Task(Protocol):
    """One head and what makes it better.

    Attributes:
        module: what is trained.
        quality_name: what ``quality`` measures.
    """

    module: nn.Module
    quality_name: str

    def loss(self, module: nn.Module, batch: Batch, progress: float, seed: int) -> Tensor:
        """Scalar loss of a batch.

        Args:
            module: ``self.module`` as accelerate wrapped it.
            batch: on the module's device.
            progress: share of the training that is over.
            seed: for everything random that is not in the module.
        """
        ...

    def quality(self, module: nn.Module, data: FrameData) -> float:
        """How good the module is on development data."""
        ...

    def save(self, path: Path) -> None:
        """Write the head as it is shipped."""
        ...


@dataclass
class Progress:
    """Where the training stands; saved with each checkpoint."""

    step: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list)
    qualities: list[tuple[int, float]] = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        """For accelerate."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """For accelerate."""
        self.step, self.losses, self.qualities = state["step"], state["losses"], state["qualities"]


def train(
    *,
    config: Path | TrainingConfig,
    data: Sequence[Path],
    dev: Path,
    out: Path,
    model: Path | None = None,
    rare_words: Path | None = None,
    phoneme_head: Path | None = None,
    start: Path | None = None,
    resume: bool = True,
    stop_after_steps: int | None = None,
) -> Path:
    """Train a head.

    Args:
        config: TOML file or what it says.
        data: directories of shards, as ``synthesize`` makes them.
        dev: directory of development shards.
        out: directory for checkpoints, log, curves and the trained head; made if need be.
        model: directory of the Whisper weights or of a split Qwen2-Audio, for the token embeddings
            of the A2P head.
        rare_words: file of words for the A2P head's negatives.
        phoneme_head: trained phoneme head that shows the A2P head where words are; None leaves
            it to find out, which takes several times as long.
        start: trained A2P head to go on from, as one stage of a recipe follows another.
        resume: go on from the newest checkpoint in ``out``, if there is one.
        stop_after_steps: leave after so many steps of this call, as if interrupted.

    Returns:
        The trained head's file in ``out``; the words it was trained on lie beside it.

    Raises:
        TrainingError: data, configuration or checkpoint is unusable.
    """
    settings = config if isinstance(config, TrainingConfig) else load_config(config)
    set_seed(settings.optimisation.seed)
    spoken = FrameData(data)
    task = make_task(
        settings,
        spoken,
        model=model,
        rare_words=rare_words,
        phoneme_head=phoneme_head,
        start=start,
    )
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(task, settings.optimisation, spoken, FrameData([dev]), out)
    if resume:
        trainer.resume()
    trainer.run(stop_after_steps)
    path = out / f"{'a2p_head' if settings.head == 'a2p' else 'phoneme_ctc'}.safetensors"
    if trainer.accelerator.is_main_process:
        task.save(path)
        write_spoken_words(out / SPOKEN_WORDS, (u.text for u in spoken.utterances))
    return path


def make_task(
    settings: TrainingConfig,
    data: FrameData,
    *,
    model: Path | None,
    rare_words: Path | None,
    phoneme_head: Path | None,
    start: Path | None = None,
) -> Task:
    """The task a configuration names; see ``train`` for the arguments.

    Raises:
        TrainingError: the A2P head lacks its model directory, or another head is to go on.
    """
    if settings.head == "phoneme_ctc":
        if start is not None:
            raise TrainingError("only the A2P head can go on from a trained one")
        from a2p_engine.training.ctc_task import CTCTask

        return CTCTask(replace(settings.ctc, pool=data.pool))
    from a2p_engine.training.alignment import Aligner
    from a2p_engine.training.retrieval_task import RetrievalTask

    if model is None:
        raise TrainingError("training the A2P head needs the directory of the speech model")
    return RetrievalTask(
        settings.attention,
        settings.curriculum,
        model=model,
        rare_words=read_lines(rare_words) if rare_words else (),
        data=data,
        aligner=Aligner(PhonemeCTC.load(phoneme_head)) if phoneme_head else None,
        start=start,
    )


class Trainer:
    """Steps, checkpoints and records."""

    def __init__(
        self, task: Task, config: OptimisationConfig, data: FrameData, dev: FrameData, out: Path
    ) -> None:
        """Make optimizer and schedule, and hand all to accelerate.

        Args:
            task: the head.
            config: how long and how fast.
            data: what to learn from.
            dev: what to watch.
            out: directory for checkpoints and records.
        """
        self.accelerator = Accelerator()
        self._task, self._config, self._data, self._dev, self._out = task, config, data, dev, out
        self.progress = Progress()
        self._epoch_steps = [len(self._batches(epoch)) for epoch in range(config.epochs)]
        self.total_steps = sum(self._epoch_steps)
        optimizer = torch.optim.AdamW(
            task.module.parameters(),
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
        )
        # accelerate steps the schedule once per process; the count of steps here is already
        # per process, so the schedule is kept out of its hands and registered instead.
        self._module, self._optimizer = self.accelerator.prepare(task.module, optimizer)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        self.accelerator.register_for_checkpointing(self.progress, self._schedule)

    def _batches(self, epoch: int, skip: int = 0) -> Any:
        """This process's share of an epoch: all processes have the same number of batches."""
        batches = self._data.batches(
            frames_per_batch=self._config.frames_per_batch,
            utterances_per_batch=self._config.utterances_per_batch,
            epoch=epoch,
            seed=self._config.seed,
        )
        ranks, rank = self.accelerator.num_processes, self.accelerator.process_index
        usable = len(batches.plan) - len(batches.plan) % ranks
        if usable == 0:
            raise TrainingError(f"too little data for {ranks} processes")
        batches.plan[:] = batches.plan[rank:usable:ranks][skip:]
        return batches

    def _rate(self, step: int) -> float:
        steps, share = self._config.warmup_steps, self._config.warmup
        warm = max(1, round(share * self.total_steps) if steps is None else steps)
        if step < warm:
            start = self._config.initial_learning_rate / self._config.learning_rate
            return start + (1 - start) * (step + 1) / warm
        share = (step - warm) / max(1, self.total_steps - warm)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))

    def run(self, stop_after_steps: int | None = None) -> None:
        """Train to the end, or so many steps."""
        last = self.total_steps
        if stop_after_steps is not None:
            last = min(last, self.progress.step + stop_after_steps)
        bar = tqdm(
            total=self.total_steps,
            initial=self.progress.step,
            desc="steps",
            disable=not self.accelerator.is_main_process,
        )
        while self.progress.step < last:
            epoch, skip = self._position()
            for batch in self._batches(epoch, skip):
                loss = self._step(batch)
                bar.update()
                bar.set_postfix(epoch=epoch, loss=f"{loss:.3f}")
                if self.progress.step % self._config.checkpoint_steps == 0:
                    self.checkpoint()
                if self.progress.step >= last:
                    break
        bar.close()
        self.checkpoint()

    def _position(self) -> tuple[int, int]:
        """Epoch and batch within it of the next step."""
        step = self.progress.step
        for epoch, steps in enumerate(self._epoch_steps):
            if step < steps:
                return epoch, step
            step -= steps
        raise TrainingError("the training is over")

    def _step(self, batch: Batch) -> float:
        device = self.accelerator.device
        self._module.train()
        moved = Batch(
            frames=batch.frames.to(device),
            lengths=batch.lengths.to(device),
            utterances=batch.utterances,
        )
        done = self.progress.step
        seed = (self._config.seed << 32) + done * self.accelerator.num_processes
        loss = self._task.loss(
            self._module, moved, done / self.total_steps, seed + self.accelerator.process_index
        )
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self._module.parameters(), self._config.clip_norm)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._schedule.step()
        self.progress.step += 1
        self.progress.losses.append((self.progress.step, value := float(loss.detach())))
        return value

    def checkpoint(self) -> None:
        """Measure, save everything, draw; the last checkpoint goes when the new one is whole."""
        self._module.eval()
        if self.accelerator.is_main_process:
            quality = self._task.quality(self.accelerator.unwrap_model(self._module), self._dev)
            self.progress.qualities.append((self.progress.step, quality))
            tqdm.write(f"step {self.progress.step}: {self._task.quality_name} {quality:.4f}")
        self.accelerator.wait_for_everyone()
        partial = self._out / "checkpoint.partial"
        self.accelerator.save_state(str(partial))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            final = self._out / f"checkpoint-{self.progress.step:07d}"
            old = [path for path in self._out.glob("checkpoint-*") if path != final]
            shutil.rmtree(final, ignore_errors=True)
            os.replace(partial, final)
            for path in old:
                shutil.rmtree(path)
            (self._out / "progress.json").write_text(json.dumps(self.progress.state_dict()))
            draw(
                self.progress.losses,
                self.progress.qualities,
                quality_name=self._task.quality_name,
                path=self._out / "curves.png",
            )
        self.accelerator.wait_for_everyone()

    def resume(self) -> None:
        """Go on from the newest checkpoint, if there is one.

        Raises:
            TrainingError: it does not fit this configuration.
        """
        found = sorted(self._out.glob("checkpoint-*"))
        if not found:
            return
        try:
            self.accelerator.load_state(str(found[-1]))
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise TrainingError(f"cannot resume from {found[-1]}: {error}") from error
        log.info("resumed at step %d", self.progress.step)
