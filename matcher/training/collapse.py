"""Are the descriptors still spread over the sphere? The alarm for trainings that are going nowhere."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from matcher.errors import MatcherError
from matcher.training.settings import AlarmSettings

log = logging.getLogger("matcher")
ADVICE = (
    "lower the learning rate, lengthen the warm-up, start with milder edits (data.hardness.start), or raise InfoNCE's model.loss.entropy"
)


@dataclass(frozen=True)
class Spread:
    """How descriptors lie on the sphere."""

    spread: float  # standard deviation, 1 = all over the sphere
    negative_distance: float  # mean distance of views of different photos, 0 to 2
    positive_distance: float  # mean distance of the two views of a photo
    dimensions: float  # (sum of variances)^2 / sum of squared covariances: how many numbers vary by themselves

    @classmethod
    @torch.no_grad()
    def measure(cls, reference: Tensor, edited: Tensor) -> Spread:
        """Unit rows of both views (B, D) -> spread."""
        z = torch.cat([reference, edited]).float()
        covariance = torch.cov(z.T)
        distance = torch.cdist(edited.float(), reference.float())  # (B, B)
        positive = distance.diagonal().mean()
        negative = (distance.sum() - distance.diagonal().sum()) / (distance.numel() - len(distance))
        variance = covariance.trace()
        dimensions = variance**2 / covariance.square().sum().clamp_min(1e-20)
        return cls(*torch.stack([variance.sqrt(), negative, positive, dimensions]).tolist())

    def fault(self, settings: AlarmSettings) -> str:
        """What is wrong; empty if nothing is."""
        if self.spread < settings.least_spread:
            return f"the spread of the descriptors is {self.spread:.3f} (1 = all over the sphere)"
        if self.negative_distance < settings.least_distance:
            return f"views of different photos lie {self.negative_distance:.3f} apart (1.41 = unrelated)"
        if self.dimensions < settings.least_dimensions:
            return f"only {self.dimensions:.1f} numbers of the descriptor vary by themselves"
        if self.positive_distance > (1 - settings.least_gain) * self.negative_distance:
            return f"copies are no closer ({self.positive_distance:.3f}) than strangers ({self.negative_distance:.3f})"
        return ""


class CollapseAlarm(Callback):
    """Measures the spread every few steps, logs it, and ends the training with a MatcherError when it stays bad."""

    def __init__(self, settings: AlarmSettings) -> None:
        self.settings = settings
        self.bad = 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step % self.settings.every:
            return
        if not outputs["loss"].isfinite():
            raise MatcherError(f"the loss at step {trainer.global_step:,} is {outputs['loss'].item()}; {ADVICE}")
        spread = Spread.measure(outputs["reference"], outputs["edited"])
        pl_module.log_dict({f"train_{name}": value for name, value in asdict(spread).items()}, batch_size=len(outputs["edited"]))
        fault = spread.fault(self.settings)
        self.bad = self.bad + 1 if fault else 0
        if self.bad >= self.settings.patience:
            raise MatcherError(f"the descriptors collapsed: at step {trainer.global_step:,} {fault}, {self.bad} looks in a row; {ADVICE}")
        if self.bad == 1:
            log.warning("step %d: %s", trainer.global_step, fault)

    def state_dict(self) -> dict[str, Any]:
        return {"bad": self.bad}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.bad = state_dict["bad"]
