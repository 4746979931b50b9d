"""A descriptor learns to tell copies from two views of each photo; the objective says how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from matcher.errors import UsageError
from matcher.models.cards import find_checkpoint
from matcher.models.checkpoint import load
from matcher.models.descriptor import Descriptor
from matcher.training.collapse import CollapseAlarm
from matcher.training.losses import info_nce, overlap_of
from matcher.training.model_training import ModelTraining
from matcher.training.objectives import InfoNCE, Objective
from matcher.training.photo_pairs import PairBatch
from matcher.training.settings import AlarmSettings, LossSettings, OptimiserSettings


class DescriptorTraining(ModelTraining):
    """Trains a Descriptor on PhotoPairs.

    Args:
        backbone: "timm:NAME", "transformers:NAME" or a local folder
        weights: start from the backbone's trained weights; false = from random ones
        size: side of the square input in pixels; null = what the backbone asks for
        pooling: how the features of places become one row: backbone (its own way), cls, mean, gem or gem3 (its power stays 3)
        dim: numbers in a descriptor
        neck: numbers of a wide layer before it (see ``make_head``); null = none
        start: a descriptor to go on from instead: a checkpoint file, or the bare name of one in checkpoints/descriptor
        start_size: side in pixels that the start goes on at, for networks of convolutions; null = as it was trained
        seed: of the random weights
        loss: settings of InfoNCE, which is the objective unless another is named
        objective: what the training minimises instead: a class of matcher.training.objectives
        optimiser: how the weights follow it
        alarm: when collapsed descriptors end the training
        compiled: compile the network (worth it on a GPU)
        frozen: modules of the backbone's network that keep the weights they start from, as in [conv_stem, bn1, blocks.0]
    """

    model: Descriptor

    def __init__(
        self,
        *,
        backbone: str = "timm:mobilenetv4_conv_small",
        weights: bool = False,
        size: int | None = 128,
        pooling: str = "mean",
        dim: int = 256,
        neck: int | None = None,
        start: str | None = None,
        start_size: int | None = None,
        seed: int = 0,
        loss: LossSettings = LossSettings(),
        objective: Objective | None = None,
        optimiser: OptimiserSettings = OptimiserSettings(),
        alarm: AlarmSettings = AlarmSettings(),
        compiled: bool = False,
        frozen: Sequence[str] = (),
    ) -> None:
        if start is None and start_size is not None:
            raise UsageError(f"model.start_size {start_size} is for a start: name one, or set model.size")
        if start is None:
            model = Descriptor.build(backbone, size=size, dim=dim, neck=neck, pooling=pooling, weights=weights, seed=seed)
        else:
            model = load_start(start, start_size)
        super().__init__(model.to(memory_format=torch.channels_last), optimiser, compiled=compiled, frozen=frozen)
        self.objective = InfoNCE(loss) if objective is None else objective
        self.loss, self.alarm, self.seed = loss, alarm, seed

    @property
    def trained(self) -> nn.Module:
        return nn.ModuleList([self.model, self.objective])

    def setup(self, stage: str) -> None:
        """For a fit, makes what the objective needs. UsageError for settings that it has no use for."""
        super().setup(stage)
        if stage != "fit":
            return
        data, named = self.trainer.datamodule, type(self.objective).__name__
        if self.loss not in (LossSettings(), getattr(self.objective, "settings", None)):
            raise UsageError(f"model.loss is for InfoNCE; the objective {named} has its own settings")
        if data.negatives and not self.objective.takes_negatives:
            raise UsageError(f"data.negatives: the objective {named} has no use for more negatives")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.objective.prepare(self.model, photos=len(data.bank), compiled=self.compiled)

    def check_devices(self, count: int) -> None:
        if count > 1 and not self.objective.several_devices:
            named = type(self.objective).__name__
            raise UsageError(f"the objective {named} works on one device, only InfoNCE on several: set trainer.devices to 1")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Only a fit has use for the objective's state; trainings of older versions kept their memory beside it."""
        moved = {("objective." + name if name.startswith("memory.") else name): value for name, value in checkpoint["state_dict"].items()}
        own = self.state_dict().keys()
        checkpoint["state_dict"] = {n: value for n, value in moved.items() if n in own or not n.startswith("objective.")}
        super().on_load_checkpoint(checkpoint)

    def configure_callbacks(self) -> list[Callback]:
        return [CollapseAlarm(self.alarm), *self.objective.callbacks()]

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, size, size), 0 to 1 -> unit rows (B, dim) float32, by the result."""
        return self.result(pictures)

    def training_step(self, batch: PairBatch, batch_idx: int) -> dict[str, Tensor]:
        """Two views of photos -> their loss, and the rows of both for the alarm."""
        torch.manual_seed(batch.seed + self.global_rank)  # dropout and stochastic depth: a run that goes on draws what it would have drawn
        found = self.objective.measure(self.model, batch)
        curves = {f"train_{name}": value for name, value in {"loss": found.loss, **found.terms}.items()}
        self.log_dict(curves, batch_size=len(batch.source))
        return {"loss": found.loss, "edited": found.edited, "reference": found.reference}

    def validation_step(self, batch: PairBatch, batch_idx: int) -> None:
        """InfoNCE of the result on held-out photos, whatever the objective: trainings can be compared by it."""
        count = len(batch.source)
        z = self(torch.cat([batch.edited, batch.reference]))
        with torch.autocast(z.device.type, enabled=False):
            overlap = overlap_of(torch.eye(count, device=z.device).repeat(2, 1))
            self.log("val_contrast", info_nce(z, overlap, temperature=self.loss.temperature), batch_size=count)

    def test_step(self, batch: PairBatch, batch_idx: int) -> None:
        """Nothing for each batch: RetrievalCheck measures at the end."""

    def predict_step(self, batch: list[int], batch_idx: int) -> None:
        """Likewise: WriteDescriptors describes."""


def load_start(name: str, size: int | None) -> Descriptor:
    """A checkpoint file or the bare name of one, and a side in pixels -> its descriptor, to be trained on. UsageError if there is none."""
    path = find_checkpoint(name)
    if path is None:
        raise UsageError(f"model.start {name!r} is neither a checkpoint file nor one in checkpoints/descriptor")
    model = load(path, kind="Descriptor")
    assert isinstance(model, Descriptor)
    return (model if size is None else model.at_size(size)).requires_grad_(True).train()
