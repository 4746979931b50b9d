"""A descriptor learns to tell copies: InfoNCE over two views of each photo, with an entropy term."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.pytorch import Callback
from torch import Tensor

from matcher.errors import UsageError
from matcher.models.cards import find_checkpoint
from matcher.models.checkpoint import load
from matcher.models.descriptor import Descriptor
from matcher.training.collapse import CollapseAlarm
from matcher.training.losses import info_nce, koleo, overlap_of
from matcher.training.memory import Memory
from matcher.training.mixing import mix_views
from matcher.training.model_training import ModelTraining
from matcher.training.photo_pairs import PairBatch
from matcher.training.settings import AlarmSettings, LossSettings, OptimiserSettings


class DescriptorTraining(ModelTraining):
    """Trains a Descriptor on PhotoPairs.

    Args:
        backbone: "timm:NAME", "transformers:NAME" or a local folder
        weights: start from the backbone's trained weights; false = from random ones
        size: side of the square input in pixels; null = what the backbone asks for
        pooling: how the features of places become one row: backbone (its own way), cls, mean or gem
        dim: numbers in a descriptor
        start: a descriptor to go on from instead: a checkpoint file, or the bare name of one in checkpoints/descriptor
        seed: of the random weights
        loss: the contrastive loss
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
        start: str | None = None,
        seed: int = 0,
        loss: LossSettings = LossSettings(),
        optimiser: OptimiserSettings = OptimiserSettings(),
        alarm: AlarmSettings = AlarmSettings(),
        compiled: bool = False,
        frozen: Sequence[str] = (),
    ) -> None:
        if start is None:
            model = Descriptor.build(backbone, size=size, dim=dim, pooling=pooling, weights=weights, seed=seed)
        else:
            model = load_start(start)
        super().__init__(model.to(memory_format=torch.channels_last), optimiser, compiled=compiled, frozen=frozen)
        self.memory = Memory(loss.memory, model.dim) if loss.memory else None
        self.loss, self.alarm = loss, alarm

    def configure_callbacks(self) -> list[Callback]:
        return [CollapseAlarm(self.alarm)]

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, size, size), 0 to 1 -> unit rows (B, dim) float32, by the result."""
        return self.result(pictures)

    def training_step(self, batch: PairBatch, batch_idx: int) -> dict[str, Tensor]:
        """Two views of photos -> their loss, and the rows of both for the alarm."""
        torch.manual_seed(batch.seed)  # dropout and stochastic depth: a run that goes on draws what it would have drawn
        count = len(batch.source)
        edited, shares = self.mix(batch)
        pictures = torch.cat([edited, batch.reference]).contiguous(memory_format=torch.channels_last)
        z = self.model(pictures)  # (2B, D), edited views first
        contrast, entropy = self.measure_loss(z, torch.cat([shares, torch.eye(count, device=z.device)]), batch.source)
        loss = contrast + self.loss.entropy * entropy
        self.log_dict({"train_loss": loss, "train_contrast": contrast, "train_entropy": entropy}, batch_size=count)
        return {"loss": loss, "edited": z[:count].detach(), "reference": z[count:].detach()}

    def mix(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        """A batch -> the edited views, some of them mixed, and how much of each photo they show (B, B)."""
        if not self.loss.mixed:
            return batch.edited, torch.eye(len(batch.source), device=batch.edited.device)
        return mix_views(batch.edited, share=self.loss.mixed, generator=torch.Generator().manual_seed(batch.seed))

    def measure_loss(self, z: Tensor, shares: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """Unit rows (2B, D), edited views first, the shares that they show (2B, B), photos (B,) -> InfoNCE and KoLeo, in float32."""
        with torch.autocast(z.device.type, enabled=False):
            overlap = overlap_of(shares)
            anchors = None if self.loss.both_ways else torch.arange(len(z), device=z.device) < len(source)
            kept = {} if self.memory is None else {"memory": self.memory.rows.clone(), "related": self.memory.related(shares, source)}
            contrast = info_nce(z, overlap, temperature=self.loss.temperature, anchors=anchors, **kept)
            entropy = koleo(z, overlap)
        if self.memory is not None:
            self.memory.add(z[len(source) :].detach(), source)
        return contrast, entropy

    def validation_step(self, batch: PairBatch, batch_idx: int) -> None:
        """The contrastive loss of the result on held-out photos."""
        count = len(batch.source)
        z = self(torch.cat([batch.edited, batch.reference]))
        with torch.autocast(z.device.type, enabled=False):
            overlap = overlap_of(torch.eye(count, device=z.device).repeat(2, 1))
            self.log("val_contrast", info_nce(z, overlap, temperature=self.loss.temperature), batch_size=count)

    def test_step(self, batch: PairBatch, batch_idx: int) -> None:
        """Nothing for each batch: RetrievalCheck measures at the end."""

    def predict_step(self, batch: list[int], batch_idx: int) -> None:
        """Likewise: WriteDescriptors describes."""


def load_start(name: str) -> Descriptor:
    """A checkpoint file or the bare name of one -> its descriptor, to be trained on. UsageError if there is none."""
    path = find_checkpoint(name)
    if path is None:
        raise UsageError(f"model.start {name!r} is neither a checkpoint file nor one in checkpoints/descriptor")
    return load(path, kind="Descriptor").requires_grad_(True).train()
