"""Pictures changed by at most a little in every pixel, so that a model says what an attacker wants. All changes stay within a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Pictures = Sequence[Tensor]  # each (3, H, W) float32, 0 to 1, of its own size
Score = Callable[[Pictures], Tensor]  # pictures -> (N,); differentiable for follow_gradient

BLOCKS = (4, 8, 16)  # a proposal of the search changes a square of 1/4, 1/8 or 1/16 of the shorter side


def follow_gradient(pictures: Pictures, score: Score, *, budget: float, steps: int, sign: Tensor) -> list[Tensor]:
    """N pictures -> N pictures within ``budget`` (0 to 1) of them, whose score is higher where ``sign`` (N,) is 1, lower where it is -1.

    Who attacks knows the weights: projected steps along the sign of the gradient, 2.5 budgets in all, from the picture itself
    (Madry et al. 2018, arXiv 1706.06083).
    """
    changes = [torch.zeros_like(picture) for picture in pictures]
    for _ in range(steps):
        tried = [(picture + change).requires_grad_(True) for picture, change in zip(pictures, changes, strict=True)]
        gradients = torch.autograd.grad((sign * score(tried)).sum(), tried)
        moved = [change + 2.5 * budget / steps * gradient.sign() for change, gradient in zip(changes, gradients, strict=True)]
        changes = [limit(picture, change, budget) for picture, change in zip(pictures, moved, strict=True)]
    return [picture + change for picture, change in zip(pictures, changes, strict=True)]


@torch.no_grad()
def search(pictures: Pictures, score: Score, *, budget: float, steps: int, sign: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Likewise, by scores alone: squares are shifted by the budget at random, and kept where the score gets better.

    After the square attack (Andriushchenko et al. 2020, arXiv 1912.00049). ``steps`` changed pictures are scored for each picture.
    """
    kept, best = list(pictures), sign * score(pictures)
    for step in range(steps):
        side = BLOCKS[min(step * len(BLOCKS) // steps, len(BLOCKS) - 1)]
        if step == 0:
            tried = [picture + limit(picture, stripes(picture, budget, generator), budget) for picture in pictures]
        else:
            tried = [shift(now, picture, budget, side, generator) for now, picture in zip(kept, pictures, strict=True)]
        found = sign * score(tried)
        kept = [new if better else old for new, old, better in zip(tried, kept, (found > best).tolist(), strict=True)]
        best = torch.maximum(found, best)
    return kept


def limit(picture: Tensor, change: Tensor, budget: float) -> Tensor:
    """A change -> the part of it that stays within the budget, and leaves a picture of 0 to 1."""
    return (picture + change.clamp(-budget, budget)).clamp(0, 1) - picture


def stripes(picture: Tensor, budget: float, generator: torch.Generator) -> Tensor:
    """A picture (3, H, W) -> a change of its size: columns of plus or minus the budget."""
    return budget * (2.0 * torch.randint(0, 2, (3, 1, picture.shape[2]), generator=generator) - 1).expand_as(picture)


def shift(now: Tensor, picture: Tensor, budget: float, side: int, generator: torch.Generator) -> Tensor:
    """A changed picture and the one it was -> it with another shift in one random square."""
    _, height, width = picture.shape
    square = max(1, min(height, width) // side)
    top = int(torch.randint(0, height - square + 1, (), generator=generator))
    left = int(torch.randint(0, width - square + 1, (), generator=generator))
    where = (slice(None), slice(top, top + square), slice(left, left + square))
    moved = now.clone()
    moved[where] = picture[where] + budget * (2.0 * torch.randint(0, 2, (3, 1, 1), generator=generator) - 1)
    return moved.clamp(0, 1)
