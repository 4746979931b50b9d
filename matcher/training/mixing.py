"""Mixup and cutmix of the edited views: two photos in one picture, each a positive by its share."""

from __future__ import annotations

import torch
from torch import Tensor

BETA = 2.0  # of the Beta distribution of the shares, as in SSCD


def mix_views(pictures: Tensor, *, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pictures (B, 3, S, S) -> pictures of which about ``share`` are mixed, and how much of each photo they show (B, B).

    Half of the mixed ones are blends (mixup), half hold a box of another picture (cutmix); ``generator`` lies on the CPU.
    """
    count, side = len(pictures), pictures.shape[-1]
    chosen = torch.rand(count, generator=generator) < share
    blended = torch.rand(count, generator=generator) < 0.5
    partner = (torch.arange(count) + torch.randint(1, max(2, count), (count,), generator=generator)) % count
    kept = draw_beta(count, generator)
    box = draw_boxes(1 - kept, side, generator)
    kept = torch.where(blended, kept, 1 - box.float().mean(dim=(1, 2)))
    kept = torch.where(chosen, kept, 1.0)
    weight = torch.where(blended[:, None, None], kept[:, None, None], 1 - box.float() * chosen[:, None, None])
    weight = weight[:, None].to(pictures)
    mixed = weight * pictures + (1 - weight) * pictures[partner.to(pictures.device)]
    shares = torch.diag(kept)
    shares[torch.arange(count), partner] += 1 - kept
    return mixed, shares.to(pictures)


def draw_beta(count: int, generator: torch.Generator) -> Tensor:
    """How many -> numbers (count,) of Beta(2, 2): the middle one of three uniform numbers."""
    return torch.rand(count, 3, generator=generator).median(dim=1).values


def draw_boxes(area: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Areas (B,), 0 to 1 -> masks (B, side, side) bool of a box each, with about that area, wholly inside."""
    edge = (area.sqrt() * side).round()
    start = (torch.rand(len(area), 2, generator=generator) * (side - edge + 1)[:, None]).floor()
    pixels = torch.arange(side)
    inside = (pixels >= start[..., None]) & (pixels < (start + edge[:, None])[..., None])  # (B, 2, side)
    return inside[:, 1, :, None] & inside[:, 0, None, :]
