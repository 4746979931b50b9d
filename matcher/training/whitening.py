"""A trained descriptor -> the same one whose numbers do not vary together: PCA whitening, folded into its head."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from matcher.data.photo_bank import PhotoBank
from matcher.errors import MatcherError
from matcher.models import checkpoint
from matcher.models.cards import CARD_KEYS, SUFFIX
from matcher.models.descriptor import Descriptor, evaluating
from matcher.storage.aside import check_output

BATCH = 64


def whiten(
    descriptor: str | PathLike[str],
    photos: str | PathLike[str],
    output: str | PathLike[str],
    *,
    size: int | None = None,
    pictures: int = 4000,
    seed: int = 0,
) -> Path:
    """Checkpoint of a descriptor and photographs that it was trained on -> the whitened checkpoint, in half precision.

    ``size``: side in pixels of the pictures that it takes from now on; null = as in training.
    MatcherError if the descriptor has no head of its own, or there are fewer photographs than twice its numbers.
    """
    check_output(output, SUFFIX, descriptor)
    model = checkpoint.load(Path(descriptor), kind="Descriptor")
    assert isinstance(model, Descriptor)
    trained_at, model = model.size, model if size is None else model.at_size(size)
    bank = PhotoBank.load(Path(photos), side=model.size, cache=None)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(bank))[:pictures])
    if model.head is None or len(chosen) < 2 * model.dim:
        raise MatcherError(f"{descriptor} cannot be whitened with {len(chosen)} photographs: it needs a head, and {2 * model.dim} of them")
    fold(model.head[-2:], covariance_root(outputs(model, bank.pixels[torch.from_numpy(chosen)])))
    card: dict[str, Any] = {key: model.card[key] for key in CARD_KEYS if key in model.card}
    card["training"] = {**(card.get("training") or {}), "whitened_on": len(chosen), "whitened_seed": seed, "trained_at": trained_at}
    checkpoint.save(Path(output), model, card, half=True)
    return Path(output)


@torch.inference_mode()
def outputs(model: Descriptor, pixels: Tensor) -> Tensor:
    """Pictures (N, 3, size, size) uint8 -> what the head gives before it is scaled to the unit sphere: (N, dim) float64."""
    found: list[Tensor] = []
    assert model.head is not None
    hook = model.head.register_forward_hook(lambda module, inputs, result: found.append(result.double()))
    with evaluating(model):
        for start in range(0, len(pixels), BATCH):
            model(pixels[start : start + BATCH].float() / 255)
    hook.remove()
    return torch.cat(found)


def covariance_root(rows: Tensor, *, shrinkage: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Rows (N, D) -> matrix (D, D) and mean (D,): (row - mean) @ matrix has the identity as its covariance, nearly.

    ``shrinkage``: share of the mean variance that is added to every one, so that directions of mere rounding stay small.
    """
    mean = rows.mean(dim=0)
    variances, axes = torch.linalg.eigh(torch.cov(rows.T))
    return axes * (variances + shrinkage * variances.mean()).rsqrt(), mean


def fold(head: nn.Sequential, whitening: tuple[Tensor, Tensor]) -> None:
    """The last layers of a head (linear, batch norm) in eval mode, and a matrix and mean -> the same, followed by them."""
    (matrix, mean), (linear, norm) = whitening, head
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = norm.bias.double() - scale * norm.running_mean.double()
    with torch.no_grad():
        linear.weight.copy_(matrix.T @ (scale[:, None] * linear.weight.double()))
        norm.bias.copy_((shift - mean) @ matrix)
        norm.weight.fill_(1.0)
        norm.running_mean.zero_()
        norm.running_var.fill_(1.0 - norm.eps)
