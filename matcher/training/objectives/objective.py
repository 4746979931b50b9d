"""The contract of an objective: a descriptor and a batch of photos in two views -> a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from matcher.models.descriptor import Descriptor
from matcher.training.photo_pairs import PairBatch


@dataclass(frozen=True, eq=False)
class Measured:
    """What a step found."""

    loss: Tensor  # scalar, to be minimised
    edited: Tensor  # (B, D) descriptors of the edited views, for the collapse alarm
    reference: Tensor  # (B, D) likewise
    terms: dict[str, Tensor] = field(default_factory=dict)  # what the loss is made of, for the curves


class Objective(nn.Module, ABC):
    """A loss with its own weights, which are trained with the model, and its own state, which a stopped training keeps."""

    takes_negatives: ClassVar[bool] = False  # are photos beside the batch of any use to it?
    several_devices: ClassVar[bool] = False  # does it measure the same when several processes share the batch?

    def prepare(self, model: Descriptor, *, photos: int, compiled: bool) -> None:
        """Before the first step: make what hangs on the model, or on how many photos there are. Random numbers are torch's own."""

    def callbacks(self) -> list[Callback]:
        """What has to happen between steps."""
        return []

    @abstractmethod
    def measure(self, model: Descriptor, batch: PairBatch) -> Measured:
        """A model in training mode and a batch -> the loss, in float32 whatever the model computes in."""


def stack(views: Sequence[Tensor]) -> Tensor:
    """Pictures (B, 3, S, S) each -> one batch of all, in the layout that convolutions like."""
    return torch.cat(list(views)).contiguous(memory_format=torch.channels_last)


def measured(loss: Tensor, z: Tensor, count: int, **terms: Tensor) -> Measured:
    """A loss, rows (2 * count or more, D) of edited and reference views in this order, and terms -> what the step found."""
    return Measured(loss, z[:count].detach(), z[count : 2 * count].detach(), terms)
