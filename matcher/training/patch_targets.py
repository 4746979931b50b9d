"""Where each patch of an edited view lies in its reference, and the other way round, from the frame and mask of the edit."""

from __future__ import annotations

import torch
from torch import Tensor

from matcher.data.augmentations import homography

POINTS = 4  # looked up in a patch, across and down


def patch_targets(frame: Tensor, visible: Tensor, *, grid: int) -> tuple[Tensor, Tensor]:
    """Frames reference -> query (B, 3, 3) and masks (B, 1, S, S) of query pixels that show the reference -> shares (B, T, T + 1), twice.

    First for the patches of the query: which share of each patch (POINTS x POINTS points of it) shows which patch of the reference;
    the last column is "nowhere": covered, outside or foreign. Then likewise for the patches of the reference. Rows add up to 1.
    """
    side = grid * POINTS
    across = (torch.arange(side, device=frame.device) + 0.5) / side
    points = torch.stack(torch.meshgrid(across, across, indexing="xy"), dim=-1).reshape(1, -1, 2)  # row by row
    places = points.expand(len(frame), -1, -1)
    sources, images = homography.apply(homography.inverse(frame), points), homography.apply(frame, points)
    return (
        count_cells(points, sources, seen_at(visible, places), grid),
        count_cells(points, images, seen_at(visible, images), grid),
    )


def seen_at(visible: Tensor, points: Tensor) -> Tensor:
    """Masks (B, 1, S, S) and points (B, N, 2) on the query's unit square -> which of them show the reference: (B, N) bool."""
    side = visible.shape[-1]
    inside = ((points >= 0) & (points < 1)).all(-1)
    cell = (points.nan_to_num(0.0) * side).long().clamp(0, side - 1)
    return inside & visible.flatten(1).gather(1, cell[..., 1] * side + cell[..., 0])


def count_cells(here: Tensor, there: Tensor, seen: Tensor, grid: int) -> Tensor:
    """Points here (1, N, 2) and there (B, N, 2), and which count (B, N) -> share of each patch here that lies in each patch there."""
    count = grid**2
    seen = seen & ((there >= 0) & (there < 1)).all(-1)
    cell = (there.nan_to_num(0.0) * grid).long().clamp(0, grid - 1)
    goal = torch.where(seen, cell[..., 1] * grid + cell[..., 0], count)
    own = (here * grid).long().clamp(0, grid - 1)
    patch = (own[..., 1] * grid + own[..., 0]).expand_as(goal)
    shares = torch.zeros(len(there), count * (count + 1), device=there.device)
    shares.scatter_add_(1, patch * (count + 1) + goal, torch.full_like(seen, 1 / POINTS**2, dtype=shares.dtype))
    return shares.unflatten(1, (count, count + 1))
