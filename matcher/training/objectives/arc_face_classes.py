"""ArcFace with one class a photo, as S-square came second (arXiv 2112.03415), over a set of classes that grows."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from pytorch_metric_learning.losses import ArcFaceLoss
from torch import Tensor

from matcher.models.descriptor import Descriptor
from matcher.training.objectives.class_starts import start_classes
from matcher.training.objectives.objective import Measured, Objective, measured, stack
from matcher.training.photo_pairs import PairBatch

log = logging.getLogger("matcher")
NEAREST_COSINE = 1 - 1e-7  # beyond it the angle has no gradient that a computer could hold


class ArcFaceClasses(Objective):
    """Cross-entropy of scale * cos over all classes, in which the angle to the row's own class is larger by the margin.

    Where angle + margin would pass 180 degrees, cos - margin * sin(margin) takes its place. The classes are the photos that
    ``data.known`` lets in; those that come later begin where the model puts them (``start_classes``), the first ones at random.
    Published: a new training for each enlargement, when the loss is below 2; ours goes on with its optimiser.

    Args:
        scale: of the cosines
        margin: radians
        references: unedited views are classified too; the published trainings mostly saw edited ones only
    """

    head: GrowingArcFace

    def __init__(self, scale: float = 40.0, margin: float = 0.4, references: bool = False) -> None:
        super().__init__()
        self.scale, self.margin, self.references = scale, margin, references

    def prepare(self, model: Descriptor, *, photos: int, compiled: bool) -> None:
        self.head = GrowingArcFace(photos, model.dim, margin=math.degrees(self.margin), scale=self.scale)
        self.head.num_classes = 0

    def callbacks(self) -> list[Callback]:
        return [EnlargeClasses()]

    def measure(self, model: Descriptor, batch: PairBatch) -> Measured:
        count = len(batch.source)
        z = model(stack([batch.edited, batch.reference]))
        used = 2 * count if self.references else count
        with torch.autocast(z.device.type, enabled=False):
            loss = self.head(z[:used], batch.source.repeat(2)[:used])
        return measured(loss, z, count)


class GrowingArcFace(ArcFaceLoss):
    """Rows (A, D), classes (A,) -> ArcFace over the first ``num_classes`` of all columns of W (D, N).

    The library's result equals the formula; its gradient is not finite where a row equals its column, as new columns may: here the
    angle stops just short of that.
    """

    def get_cosine(self, embeddings: Tensor) -> Tensor:
        return self.distance(embeddings, self.W.t()[: self.num_classes])

    def get_angles(self, cosine_of_target_classes: Tensor) -> Tensor:
        return torch.acos(cosine_of_target_classes.clamp(-NEAREST_COSINE, NEAREST_COSINE))

    @torch.no_grad()
    def add_classes(self, columns: Tensor) -> None:
        """Unit rows (N, D) for the classes that come next."""
        self.W[:, self.num_classes : self.num_classes + len(columns)] = columns.T
        self.num_classes += len(columns)

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.num_classes)

    def set_extra_state(self, state: Tensor) -> None:
        self.num_classes = int(state)


class EnlargeClasses(Callback):
    """Before a step that may draw photos for the first time: they become classes."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        head, data = pl_module.objective.head, trainer.datamodule
        before, now = head.num_classes, data.known_at(trainer.global_step)
        if before == 0:
            head.num_classes = now
        elif now > before:
            hardness = data.hardness.at(trainer.global_step / trainer.max_steps)
            head.add_classes(start_classes(pl_module.model, data, range(before, now), hardness=hardness))
            log.info("step %d: %d classes instead of %d", trainer.global_step, now, before)
