"""A pair model learns to tell copies from look-alikes, and to say where each patch went."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy_of

from matcher.errors import MatcherError
from matcher.metrics.ranking import micro_ap, rank_predictions, recall_at_precision
from matcher.models.concat_vit import Canvas, ConcatViT
from matcher.models.pair_model import Judgement, PairModel
from matcher.models.token_fusion import TokenFusion
from matcher.training.devices import own_part, process
from matcher.training.model_training import ModelTraining
from matcher.training.pair_groups import GroupBatch
from matcher.training.patch_targets import patch_targets
from matcher.training.settings import OptimiserSettings

log = logging.getLogger("matcher")


class PairTraining(ModelTraining):
    """Trains a pair model on PairGroups; subclasses make the model.

    The loss is binary cross-entropy over all pairs, and, for a model that tells where patches lie, the cross-entropy of their places
    ("nowhere" is one of them, so it is that of the mask, too), the mean of those of copies and of strangers.

    Args:
        model: in training mode
        optimiser: how the weights follow the loss
        places: weight of the patches' loss
        compiled: compile the network (worth it on a GPU)
        frozen: modules of the backbone's network that keep the weights they start from
    """

    model: PairModel

    def __init__(self, model: PairModel, optimiser: OptimiserSettings, *, places: float, compiled: bool, frozen: Sequence[str]) -> None:
        super().__init__(model, optimiser, compiled=compiled, frozen=frozen)
        self.places = places
        self.judged: list[tuple[Tensor, Tensor, Tensor]] = []  # of validation: queries, logits, labels

    def forward(self, batch: GroupBatch) -> Judgement:
        """The result's judgement on all pairs of a batch."""
        return judge_batch(self.result, batch)

    def training_step(self, batch: GroupBatch, batch_idx: int) -> Tensor:
        torch.manual_seed(batch.seed + self.global_rank)  # dropout: a run that goes on draws what it would have drawn
        own = own_pairs(batch)
        said = judge_batch(self.model, own)
        terms = {"train_verdict": verdict_loss(said.logit, own.label) * weight(own.label >= 0, batch.label >= 0)}
        if said.to_reference is not None and self.places:
            terms["train_places"] = places_loss(said, own, grid=round(said.to_reference.shape[1] ** 0.5), all_labels=batch.label)
        loss = terms["train_verdict"] + self.places * terms.get("train_places", 0.0)
        if self.trainer.global_step % self.trainer.log_every_n_steps == 0 and not loss.isfinite():
            raise MatcherError(f"the loss is {loss.item()} at step {self.trainer.global_step:,}: lower the learning rate")
        self.log_dict({"train_loss": loss, **terms}, batch_size=len(batch.label), sync_dist=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        self.judged = []

    def validation_step(self, batch: GroupBatch, batch_idx: int) -> None:
        """The result's logits on held-out groups."""
        logit = self(batch).logit
        self.log("val_verdict", verdict_loss(logit, batch.label), batch_size=len(batch.label))
        queries = batch.pairs[:, 0] + batch_idx * len(batch.source)
        self.judged.append((queries, logit, batch.label))

    def on_validation_epoch_end(self) -> None:
        """Logs uAP and recall at precision 0.9 over all held-out pairs."""
        queries, logit, label = (torch.cat(column).cpu().numpy() for column in zip(*self.judged, strict=True))
        positives = np.bincount(queries[label > 0], minlength=queries.max() + 1)
        ranking = rank_predictions(queries, logit, label > 0, positives=positives)
        found = {"val_pair_ap": float(micro_ap(ranking)), "val_pair_recall_at_p90": float(recall_at_precision(ranking)[0])}
        self.log_dict(found)
        log.info("step %d: %s", self.trainer.global_step, ", ".join(f"{name} {value:.3f}" for name, value in found.items()))

    def predict_step(self, batch: list[int], batch_idx: int) -> None:
        """Nothing: WritePairScores scores at the end."""

    def test_step(self, batch: GroupBatch, batch_idx: int) -> None:
        """Nothing for each batch: RetrievalCheck measures at the end."""


class TokenFusionTraining(PairTraining):
    """Trains a TokenFusion on PairGroups.

    Args:
        backbone: "timm:NAME", a local folder, or a descriptor's checkpoint: what the tower is made of
        weights: start from the backbone's trained weights; false = from random ones
        size: side of the square views in pixels; null = what the backbone asks for
        depth: blocks of a ViT, or stages of another network, in the tower
        width: numbers in a token of the joint blocks; null = as many as the tower's
        joint: joint blocks; null = those of the ViT that the tower leaves
        heads: of each joint block's attention
        seed: of the random weights
        places: weight of the loss of where patches lie
        optimiser: how the weights follow the loss
        compiled: compile the network (worth it on a GPU)
        frozen: modules of the backbone's network that keep the weights they start from, as in [conv_stem, bn1, blocks.0]
    """

    def __init__(
        self,
        *,
        backbone: str = "timm:vit_tiny_patch16_224",
        weights: bool = False,
        size: int | None = 128,
        depth: int = 9,
        width: int | None = None,
        joint: int | None = None,
        heads: int = 3,
        seed: int = 0,
        places: float = 0.3,
        optimiser: OptimiserSettings = OptimiserSettings(),
        compiled: bool = False,
        frozen: Sequence[str] = (),
    ) -> None:
        model = TokenFusion.build(backbone, depth=depth, size=size, width=width, joint=joint, heads=heads, weights=weights, seed=seed)
        super().__init__(model, optimiser, places=places, compiled=compiled, frozen=frozen)


class ConcatViTTraining(PairTraining):
    """Trains a ConcatViT on PairGroups.

    Args:
        backbone: "timm:NAME" or a local folder of a ViT
        weights: start from the backbone's trained weights; false = from random ones
        size: side of the square views in pixels; null = what the backbone asks for
        canvas: "square" = each picture squashed to half the width, as published; "wide" = each keeps size x size
        symmetric: judge both orders
        seed: of the random weights
        optimiser: how the weights follow the loss
        compiled: compile the network (worth it on a GPU)
        frozen: modules of the backbone's network that keep the weights they start from
    """

    def __init__(
        self,
        *,
        backbone: str = "timm:vit_tiny_patch16_224",
        weights: bool = False,
        size: int | None = 128,
        canvas: Canvas = "square",
        symmetric: bool = False,
        seed: int = 0,
        optimiser: OptimiserSettings = OptimiserSettings(),
        compiled: bool = False,
        frozen: Sequence[str] = (),
    ) -> None:
        model = ConcatViT.build(backbone, size=size, canvas=canvas, symmetric=symmetric, weights=weights, seed=seed)
        super().__init__(model, optimiser, places=0.0, compiled=compiled, frozen=frozen)


def judge_batch(model: PairModel, batch: GroupBatch) -> Judgement:
    """A model and a batch -> its judgement on all pairs; every view that a pair has is encoded once."""
    (edited, first), (reference, second) = (rows.unique(return_inverse=True) for rows in batch.pairs.T)
    views = torch.cat([batch.edited[edited], batch.reference[reference]]).contiguous(memory_format=torch.channels_last)
    encoded = model.encode(views).split([len(edited), len(reference)])
    return model.judge(encoded[0][first], encoded[1][second])


def own_pairs(batch: GroupBatch) -> GroupBatch:
    """A batch -> the same with the pairs of this process: those of the edited views of its groups."""
    rows = own_part(len(batch.source))
    own = (batch.pairs[:, 0] >= rows.start) & (batch.pairs[:, 0] < rows.stop)
    return replace(batch, pairs=batch.pairs[own], label=batch.label[own])


def weight(own: Tensor, of_all: Tensor) -> Tensor:
    """Which pairs count here, and which of all processes' -> a factor: with it the processes' means have the mean of all pairs; 1 alone."""
    return process()[1] * own.sum() / of_all.sum()


def verdict_loss(logit: Tensor, label: Tensor) -> Tensor:
    """Logits and labels (P,) -> mean binary cross-entropy, in float32, unweighted as in "separate"."""
    return cross_entropy_of(logit.float(), label)


def places_loss(said: Judgement, batch: GroupBatch, *, grid: int, all_labels: Tensor) -> Tensor:
    """A judgement that tells where patches lie -> mean cross-entropy against the truth, copies and strangers weighing the same.

    ``all_labels``: those of the pairs of all processes.
    """
    assert said.to_reference is not None and said.to_query is not None
    copies = batch.label > 0
    truth = patch_targets(batch.frame, batch.visible, grid=grid)
    weights = weight(copies, all_labels > 0), weight(~copies, all_labels == 0)
    total = said.logit.new_zeros(())
    for logits, target in zip((said.to_reference, said.to_query), truth, strict=True):
        of_pairs = logits.float().log_softmax(-1)
        of_copies = -(target[batch.pairs[copies, 0]] * of_pairs[copies]).sum(-1).mean()
        of_strangers = -of_pairs[~copies][..., -1].mean()
        total = total + (weights[0] * of_copies + weights[1] * of_strangers) / 4
    return total
