"""How fast a training goes: views a second, and what share of the device's peak that is."""

from __future__ import annotations

import logging
import time
from typing import Any

import torch
from lightning.fabric.utilities.throughput import get_available_flops
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.flop_counter import FlopCounterMode

log = logging.getLogger("matcher")
PASSES = 3  # a training step costs about three forward passes: forward, and twice as much backward


class Pace(Callback):
    """Logs views a second (and the share of the peak on a GPU) every few steps; validation does not count.

    Args:
        every: steps between two lines
    """

    def __init__(self, every: int = 50) -> None:
        self.every = every
        self.views, self.steps, self.seconds, self.since = 0, 0, 0.0, 0.0
        self.flops_a_view: float | None = None
        self.peak: float | None = None
        self.reached: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        device = trainer.strategy.root_device
        if device.type == "cuda":
            peak = get_available_flops(device, computed_in(str(trainer.precision)))
            self.peak = peak * trainer.world_size if peak else None
            self.flops_a_view = count_flops(pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        now = time.perf_counter()
        if self.since:
            self.seconds += now - self.since
            self.views += getattr(batch, "views", 1) * len(batch.source)
            self.steps += 1
        self.since = now
        if self.steps >= self.every:
            self.report(trainer, pl_module)

    def report(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A line, two numbers for the curves, and a new start."""
        self.reached = {"views_per_second": self.views / self.seconds}
        if self.peak and self.flops_a_view:
            self.reached["share_of_peak"] = PASSES * self.flops_a_view * self.views / self.seconds / self.peak
        pl_module.log_dict(self.reached)
        loss = float(trainer.callback_metrics.get("train_loss", float("nan")))
        peak = f", {self.reached['share_of_peak']:.1%} of the peak" if "share_of_peak" in self.reached else ""
        log.info(
            "step %d of %d: loss %.3f, %.0f views/s%s", trainer.global_step, trainer.max_steps, loss, self.reached["views_per_second"], peak
        )
        self.views, self.steps, self.seconds = 0, 0, 0.0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.since = 0.0


def computed_in(precision: str) -> torch.dtype:
    """The trainer's precision -> what the large products are computed in."""
    return torch.bfloat16 if "bf16" in precision else torch.float16 if "16" in precision else torch.float32


def count_flops(pl_module: Any) -> float:
    """A training module -> floating point operations of one forward pass for one picture."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        pl_module(torch.zeros(1, 3, pl_module.size, pl_module.size, device=pl_module.device))
    return float(counter.get_total_flops())
