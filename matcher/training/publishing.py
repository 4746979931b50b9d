"""Writes what a training reached as a safetensors checkpoint with its card, when it ends and whenever it stops."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from matcher.models.cards import read_card
from matcher.models.checkpoint import save
from matcher.training.card import describe_device, describe_sources, read_commit
from matcher.training.pace import Pace

log = logging.getLogger("matcher")
WEIGHTS = "model.safetensors"


class Publish(Callback):
    """Saves ``module.result`` to FOLDER/model.safetensors, half precision, with a card; of several processes, the first one does.

    Args:
        folder: of the training
        config: as it was parsed; the card holds it
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.path, self.config = Path(folder) / WEIGHTS, config
        self.minutes, self.since = 0.0, math.nan
        self.written = False
        self.numbers: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.since = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        found = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val_")}
        self.numbers |= {name: round(value, 4) for name, value in found.items() if math.isfinite(value)} | {"at_step": trainer.global_step}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.written = True
        if trainer.is_global_zero:
            save(self.path, pl_module.result, self.make_card(trainer), half=True)
            log.info("wrote %s (step %d of %d)", self.path, trainer.global_step, trainer.max_steps)

    def is_late(self, trainer: Trainer) -> bool:
        """Whether a training that was done before it was started again had been ended before it wrote its weights."""
        if self.written or trainer.global_step < trainer.max_steps:  # where other processes trained, this one is at step 0
            return False
        late = not self.path.is_file() or read_card(self.path).get("training", {}).get("steps") != trainer.global_step
        if not late:
            log.info("%s is of step %d of %d already", self.path, trainer.global_step, trainer.max_steps)
        return late

    def make_card(self, trainer: Trainer) -> dict[str, Any]:
        """What a checkpoint says beside class, arguments and preprocessing."""
        data = trainer.datamodule
        sources = describe_sources(Path(data.photos), data.bank.ids)
        pace: dict[str, float] = next((callback.reached for callback in trainer.callbacks if isinstance(callback, Pace)), {})
        how = {"steps": trainer.global_step, "of_steps": trainer.max_steps, "minutes": round(self.spent(), 1)}
        where = {"device": describe_device(trainer.strategy.root_device), "torch": torch.__version__, "lightning": lightning.__version__}
        return {
            "training": {**how, **where, **{name: round(value, 3) for name, value in pace.items()}, "config": self.config},
            "data": {"photos": len(data.bank), "held_out": len(data.held_out), "sources": sources},
            "licences": sorted({source["licence"] for source in sources.values()}),
            "commit": read_commit(),
            "numbers": dict(self.numbers),
        }

    def spent(self) -> float:
        """Minutes of training, all slices together."""
        return self.minutes + (0.0 if math.isnan(self.since) else (time.monotonic() - self.since) / 60)

    def state_dict(self) -> dict[str, Any]:
        return {"minutes": self.spent(), "numbers": self.numbers}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.minutes, self.numbers = state_dict["minutes"], state_dict["numbers"]
