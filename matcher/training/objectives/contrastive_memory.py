"""Contrastive loss over a cross-batch memory, as lyakaap won the descriptor track (arXiv 2112.04323)."""

from __future__ import annotations

import torch
from pytorch_metric_learning.losses import ContrastiveLoss, CrossBatchMemory
from torch import Tensor

from matcher.errors import UsageError
from matcher.models.descriptor import Descriptor
from matcher.training.objectives.objective import Measured, Objective, measured, stack
from matcher.training.photo_pairs import PairBatch


class ContrastiveMemory(Objective):
    """Rows that show one photo are pulled together, others pushed to the margin: mean of (d - m+) + mean of (m- - d), where above 0.

    d is the Euclidean distance of unit rows (0 to 2). Each mean counts only pairs whose term is above 0. All views of a step are
    anchors, ``data.negatives`` too; they are first written to a queue and then compared with all of it, except with their own copies.
    Gradients reach the anchors only.

    The published negatives were references, labelled apart from all training photos. Ours are training photos and carry the label of
    their photo: nobody in their own step has it, and one that is an anchor later finds itself in the queue as a positive.

    Args:
        places: of the queue; more than the views of a step
        positive_margin: m+, copies are near enough at this distance
        negative_margin: m-, strangers are far enough at this distance
    """

    takes_negatives = True
    memory: ResumableMemory

    def __init__(self, places: int = 20_000, positive_margin: float = 0.0, negative_margin: float = 1.0) -> None:
        super().__init__()
        self.places, self.margins = places, (positive_margin, negative_margin)

    def prepare(self, model: Descriptor, *, photos: int, compiled: bool) -> None:
        positive, negative = self.margins
        if not 0 <= positive < negative <= 2:
            raise UsageError(f"objective: margins must be 0 to 2, positive below negative; they are {positive:g} and {negative:g}")
        self.memory = ResumableMemory(ContrastiveLoss(*self.margins), embedding_size=model.dim, memory_size=self.places)

    def measure(self, model: Descriptor, batch: PairBatch) -> Measured:
        views, label = [batch.edited, batch.reference], [batch.source, batch.source]
        if batch.negatives is not None and batch.negative_source is not None:
            views, label = [*views, batch.negatives], [*label, batch.negative_source]
        z = model(stack(views))
        if len(z) >= self.places:
            raise UsageError(
                f"objective.places is {self.places}, and a step alone brings {len(z)} views: raise it or lower data.batch_size"
            )
        with torch.autocast(z.device.type, enabled=False):
            loss = self.memory(z, torch.cat(label))
        return measured(loss, z, len(batch.source))


class ResumableMemory(CrossBatchMemory):
    """Rows (A, D) and labels (A,) -> the loss against the queue, written first: order and result of the library's own are the
    published ones. It forgets on saving where it stood in the queue; here that is part of the state.
    """

    def get_extra_state(self) -> Tensor:
        return torch.tensor([self.queue_idx, int(self.has_been_filled)])

    def set_extra_state(self, state: Tensor) -> None:
        self.queue_idx, filled = state.tolist()
        self.has_been_filled = bool(filled)
