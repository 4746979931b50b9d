"""Trainings that stop and go on: a time limit, Ctrl-C, and a last.ckpt from which the same command continues exactly."""

from __future__ import annotations

import logging
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO

from matcher.storage.aside import write_aside

log = logging.getLogger("matcher")
LAST = "last.ckpt"
AGREE_EVERY = 10  # steps after which several processes ask each other whether to stop or to save
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class SaveAside(TorchCheckpointIO):
    """Writes checkpoints beside the one that they replace; Lightning's own begin in the system's temporary folder and are copied."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """MatcherError if the disk refuses; the one before is still there then."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with write_aside(path) as file:
            torch.save(checkpoint, file)


class Slices(Callback):
    """Saves the training state every few minutes and whenever it stops; stops after a time, or gently at Ctrl-C.

    Several processes stop and save after the same step: when one of them has to, every tenth step.

    Args:
        folder: where last.ckpt lies
        minutes: the training stops after this time and can go on later; None = at its last step
        every_minutes: between two saves
    """

    def __init__(self, folder: Path, *, minutes: float | None = None, every_minutes: float = 5.0) -> None:
        self.path, self.minutes, self.every_minutes = Path(folder) / LAST, minutes, every_minutes
        self.interrupted = False
        self.before: dict[int, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.started = self.saved = time.monotonic()  # decoding photos counts too
        trainer.strategy.checkpoint_io = SaveAside()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self.interrupt) for number in SIGNALS}

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """The first signal ends the training after this step, a second one at once."""
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        log.info("stopping after this step")

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        now, several = time.monotonic(), trainer.world_size > 1
        finished = trainer.global_step >= trainer.max_steps
        if several and not finished and trainer.global_step % AGREE_EVERY:
            return
        out_of_time = self.minutes is not None and now - self.started >= 60 * self.minutes
        stop, save = out_of_time or self.interrupted, now - self.saved >= 60 * self.every_minutes
        if several:  # one that stopped alone would leave the others waiting for its gradients
            stop, save = (trainer.strategy.reduce_boolean_decision(wish, all=False) for wish in (stop, save))
        if stop:
            trainer.should_stop = True
        if finished or trainer.should_stop or save:
            trainer.save_checkpoint(self.path)
            self.saved = time.monotonic()
        if trainer.should_stop and not finished:
            log.info("stopped after step %d of %d; the same command goes on from there", trainer.global_step, trainer.max_steps)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}
