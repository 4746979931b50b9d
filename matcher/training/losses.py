"""Contrastive losses over a batch of views: InfoNCE with soft positives, and the KoLeo entropy term.

Letters in shapes: A views, S sources (photos of the batch), D descriptor numbers, M remembered views. All float32 or float64.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

NEVER = float("-inf")
NEAREST_SQUARED = 1e-6  # smallest squared distance whose logarithm is taken, as in SSCD


def overlap_of(shares: Tensor) -> Tensor:
    """What share of each source a view shows (A, S), rows sum to 1 -> how much of a source two views have in common (A, A), 0 to 1."""
    return shares @ shares.T


def info_nce(
    z: Tensor,
    overlap: Tensor,
    *,
    temperature: float,
    anchors: Tensor | None = None,
    memory: Tensor | None = None,
    related: Tensor | None = None,
) -> Tensor:
    """Unit rows (A, D) and what they have in common (A, A) -> InfoNCE (SSCD, arXiv 2202.10261, eq. 1), a scalar.

    -sum_j w_ij log(e^s_ij / (e^s_ij + sum_k e^s_ik)), averaged over the anchors i that have a positive. Positives j are the
    other views with any overlap, with weights in proportion to it; negatives k are the views without any.

    Args:
        temperature: similarities are divided by it
        anchors: (A,) bool, views that look for their positives; None = all
        memory: (M, D) unit rows of earlier steps, more negatives
        related: (A, M) bool, remembered views that show a source of the view: neither positive nor negative
    """
    similarity = z @ z.T / temperature
    own = torch.eye(len(z), dtype=torch.bool, device=z.device)
    weights = overlap.masked_fill(own, 0.0)
    negatives = similarity.masked_fill((overlap > 0) | own, NEVER)
    if memory is not None and related is not None:
        negatives = torch.cat([negatives, (z @ memory.T / temperature).masked_fill(related, NEVER)], dim=1)
    against = negatives.logsumexp(dim=1, keepdim=True)  # (A, 1), -inf where there is no negative
    losses = softplus(against - similarity)  # log(e^s + e^against) - s
    total = weights.sum(dim=1)
    each = (weights * losses).sum(dim=1) / total.clamp_min(torch.finfo(z.dtype).tiny)
    counted = (total > 0) if anchors is None else (total > 0) & anchors
    return (each * counted).sum() / counted.sum().clamp_min(1)


def koleo(z: Tensor, overlap: Tensor) -> Tensor:
    """Unit rows (A, D) and what they have in common (A, A) -> minus the mean log distance to the nearest unrelated view.

    The differential entropy term of SSCD (after Kozachenko and Leonenko): it spreads descriptors over the sphere. 0 if no
    view has an unrelated one.
    """
    own = torch.eye(len(z), dtype=torch.bool, device=z.device)
    nearest = (z @ z.T).masked_fill((overlap > 0) | own, NEVER).amax(dim=1)
    alone = nearest.isneginf()
    squared = (2 - 2 * nearest.masked_fill(alone, 0.5)).clamp_min(NEAREST_SQUARED)  # a lonely view counts as distance 1: log 0
    return -0.5 * squared.log().mean()
