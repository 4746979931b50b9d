"""Barlow Twins: pre-training in which the two views of a photo agree, and no number of a row tells what another tells."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from matcher.models.descriptor import Descriptor
from matcher.training.objectives.objective import Measured, Objective, measured, stack
from matcher.training.objectives.reading import Reader, reader
from matcher.training.photo_pairs import PairBatch


class BarlowTwins(Objective):
    """Redundancy reduction (arXiv 2103.03230, eq. 1) on what a projector makes of the pooled rows.

    Only the backbone and the pooling learn: the descriptor's head stays random until a training with another objective goes on
    from here (``model.start``). The projector is thrown away. pytorch-metric-learning has no such loss (its VICReg is another one).

    Args:
        redundancy: the weight lambda of what two numbers have in common; the checkpoint that VisionForce took has 0.0051 in its name
        width: numbers of the projector's three layers
    """

    read: Reader

    def __init__(self, redundancy: float = 0.0051, width: int = 8192) -> None:
        super().__init__()
        self.redundancy, self.width = redundancy, width

    def prepare(self, model: Descriptor, *, photos: int, compiled: bool) -> None:
        self.projector = make_projector(model.width, self.width)
        self.read = reader(compiled)

    def measure(self, model: Descriptor, batch: PairBatch) -> Measured:
        count = len(batch.source)
        rows = self.read(model, stack([batch.edited, batch.reference]))
        projected = self.projector(rows.pooled)
        with torch.autocast(projected.device.type, enabled=False):
            loss = barlow_twins(projected[:count].float(), projected[count:].float(), redundancy=self.redundancy)
        return measured(loss, rows.unit, count)


def make_projector(width: int, projected: int) -> nn.Sequential:
    """Numbers of a pooled row and of a projected one -> three linear layers, batch norm and ReLU after the first two."""
    layers: list[nn.Module] = []
    for wide in (width, projected):
        layers += [nn.Linear(wide, projected, bias=False), nn.BatchNorm1d(projected), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(projected, projected, bias=False))


def barlow_twins(first: Tensor, second: Tensor, *, redundancy: float) -> Tensor:
    """Rows (B, P) of the two views -> sum of (1 - C_ii)^2 + redundancy * sum of C_ij^2, a scalar.

    C (P, P) is the correlation over the batch of number i of the first view with number j of the second.
    """
    views = [batch_norm(rows, None, None, training=True) for rows in (first, second)]
    correlation = views[0].T @ views[1] / len(first)
    diagonal = correlation.diagonal()
    return (1 - diagonal).square().sum() + redundancy * (correlation.square().sum() - diagonal.square().sum())
