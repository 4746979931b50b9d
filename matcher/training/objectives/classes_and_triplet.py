"""Classes and triplets with a distilled branch, as VisionForce came third (arXiv 2111.08004) and D2LV won (arXiv 2111.07090)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from matcher.errors import UsageError
from matcher.models.descriptor import Descriptor
from matcher.models.heads import NECK_LAYERS
from matcher.training.objectives.objective import Measured, Objective, measured, stack
from matcher.training.objectives.reading import Reader, Rows, reader
from matcher.training.photo_pairs import PairBatch
from matcher.training.wave_block import put_waves


class ClassesAndTriplet(Objective):
    """Each photo is a class for the neck and for the descriptor; the pooled rows of its views stay closer than the nearest stranger.

    loss = cross-entropy of the neck + triplet of the pooled rows + cross-entropy of the descriptor + distillation of it by the neck.
    The descriptor is the narrow branch behind ``model.neck``. Logits are plain linear maps without bias; the shifts of the batch
    norms before them stay 0. The published training code was withdrawn: smoothing, the weight 1 of every term and the way of
    distilling (``distill``) are ours; there were four views of each photo in a batch, ours has two.

    Args:
        smoothing: share of each label that all classes have in common
        temperature: of the distillation; softer with more
        waves: stages of the backbone's network after which rows of the map are multiplied in training (see ``WaveBlock``)
    """

    read: Reader

    def __init__(self, smoothing: float = 0.1, temperature: float = 4.0, waves: Sequence[str] = ("layer2", "layer3")) -> None:
        super().__init__()
        self.smoothing, self.temperature, self.waves = smoothing, temperature, tuple(waves)

    def prepare(self, model: Descriptor, *, photos: int, compiled: bool) -> None:
        if model.neck is None or model.head is None:
            raise UsageError("the objective ClassesAndTriplet needs a neck: set model.neck, published 8192")
        self.neck_classes = make_classifier(model.neck, photos)
        self.narrow_classes = make_classifier(model.dim, photos)
        for norm in (model.head[NECK_LAYERS - 1], model.head[-1]):
            norm.bias.requires_grad_(False)
        put_waves(model.backbone.network, self.waves)
        self.read = reader(compiled)

    def measure(self, model: Descriptor, batch: PairBatch) -> Measured:
        rows = self.read(model, stack([batch.edited, batch.reference]))
        terms = self.compare(rows, batch.source.repeat(2))
        return measured(sum(terms.values(), torch.zeros_like(rows.unit[0, 0])), rows.unit, len(batch.source), **terms)

    def compare(self, rows: Rows, label: Tensor) -> dict[str, Tensor]:
        """Rows of A views and their classes (A,) -> the terms of the loss."""
        with torch.autocast(label.device.type, enabled=False):
            exact = self.neck_classes.weight.dtype
            teacher, student = self.neck_classes(rows.neck.to(exact)), self.narrow_classes(rows.narrow.to(exact))
            return {
                "classes": cross_entropy(teacher, label, label_smoothing=self.smoothing),
                "triplet": hardest_triplets(rows.pooled.to(exact), label),
                "narrow_classes": cross_entropy(student, label, label_smoothing=self.smoothing),
                "distilled": distill(teacher.detach(), student, temperature=self.temperature),
            }


def make_classifier(width: int, classes: int) -> nn.Linear:
    """Numbers of a row, and of classes -> linear logits without bias, weights of deviation 0.001."""
    linear = nn.Linear(width, classes, bias=False)
    nn.init.normal_(linear.weight, std=0.001)
    return linear


def hardest_triplets(rows: Tensor, label: Tensor) -> Tensor:
    """Rows (A, C) as they are, classes (A,) -> mean of log(1 + e^(d+ - d-)), a scalar (arXiv 1703.07737).

    d+ is the Euclidean distance to the farthest row of the class, d- to the nearest of another; rows without either do not count.
    By the library's parts, with a plain mean: its usual one leaves out terms that are rounded to 0.
    """
    distance = LpDistance(normalize_embeddings=False)
    triplets = BatchHardMiner(distance=distance)(rows, label)
    return TripletMarginLoss(margin=0.0, smooth_loss=True, distance=distance, reducer=MeanReducer())(rows, label, triplets)


def distill(teacher: Tensor, student: Tensor, *, temperature: float) -> Tensor:
    """Logits (A, N) of both -> temperature^2 * KL(teacher's classes | student's), mean over rows (arXiv 1503.02531)."""
    expected, found = softmax(teacher / temperature, dim=1), log_softmax(student / temperature, dim=1)
    return temperature**2 * kl_div(found, expected, reduction="batchmean")
