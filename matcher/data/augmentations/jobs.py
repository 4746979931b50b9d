"""A plan -> the list of what is to be drawn: each layer in bundles of rows that are shown at one level of detail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from matcher.data.augmentations import homography
from matcher.data.augmentations.plan import Layer, Plan

COARSEST = 4  # textures are halved this many times at most
SQUARE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))


@dataclass(frozen=True, eq=False)
class Band:
    """Some lines of some rows of the batch: where a layer is drawn. Canvas tensors are (B, S lines, ...)."""

    rows: Tensor  # (R,) int64
    lines: Tensor  # (R, L) int64, one after the other

    def of(self, canvas: Tensor) -> Tensor:
        """(B, S, ...) -> (R, L, ...)."""
        return canvas[self.rows[:, None], self.lines]

    def put(self, canvas: Tensor, values: Tensor) -> None:
        """Write (R, L, ...) into (B, S, ...)."""
        canvas[self.rows[:, None], self.lines] = values


@dataclass(frozen=True, eq=False)
class Job:
    """One layer, drawn on one band.

    Attributes:
        number: the place of the layer in the plan, 0 is the lowest
        layer: what is drawn
        above_source: whether it lies above the source
        band: where
        back: (R, 3, 3), from the output's unit square to -1..1 on the layer
        affine: whether the last row of every ``back`` is 0, 0, 1
        halvings: how often its texture is halved first
    """

    number: int
    layer: Layer
    above_source: bool
    band: Band
    back: Tensor
    affine: bool
    halvings: int


def jobs_of(plan: Plan, texels: dict[str, int], side: int) -> Iterator[Job]:
    """Jobs from the lowest layer to the highest; ``texels`` of a texture, by kind."""
    frames = plan.sheet @ torch.stack([layer.frame for layer in plan.layers])  # (L, B, 3, 3)
    windows, on = (torch.stack([getattr(layer, name) for layer in plan.layers]) for name in ("window", "on"))
    back, is_affine = backwards(frames)
    low, high, area = extents(frames, windows, side)
    sizes = torch.tensor([texels[layer.kind] for layer in plan.layers], device=on.device)
    halvings = ((sizes[:, None] / area).log2() / 2 + 0.2).floor().clamp(0, COARSEST)
    table = torch.stack([on & (high > low), low, high, halvings, is_affine]).cpu().numpy().astype(np.int64)  # the only wait for the device
    source = plan.layers.index(plan.source)
    for number, layer in enumerate(plan.layers):
        there, lows, highs, levels, flat = table[:, number]
        for level in np.unique(levels[there > 0]).tolist():
            rows = np.flatnonzero((there > 0) & (levels == level))
            height = min(side, int((highs[rows] - lows[rows]).max()))
            lines = np.minimum(lows[rows], side - height)[:, None] + np.arange(height)
            band = Band(torch.from_numpy(rows).to(on.device), torch.from_numpy(lines).to(on.device))
            yield Job(number, layer, number > source, band, back[number, band.rows], bool(flat[rows].all()), level)


def backwards(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Frames (..., 3, 3) -> the ways back to -1..1, and which of them are affine; those end in 0, 0, 1."""
    around = torch.tensor([[2.0, 0.0, -1.0], [0.0, 2.0, -1.0], [0.0, 0.0, 1.0]], device=frames.device)
    back = around @ homography.inverse(frames)
    is_affine = back[..., 2, :2].abs().amax(-1) < 1e-6 * back[..., 2, 2].abs()
    return torch.where(is_affine[..., None, None], back / back[..., 2:, 2:], back), is_affine


def extents(frames: Tensor, windows: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Frames (L, B, 3, 3) and windows (L, B, 4) -> first line and one behind the last, and the whole layer's area in pixels; (L, B) each.

    What reaches behind the horizon gets all lines.
    """
    square = torch.tensor(SQUARE, device=frames.device)
    shown = windows[..., None, :2] + square * (windows[..., None, 2:] - windows[..., None, :2])
    y = homography.apply(frames, shown)[..., 1] * side
    low, high = y.amin(-1).nan_to_num(0.0).clamp(0, side).floor(), y.amax(-1).nan_to_num(side).clamp(0, side).ceil()
    corners = (homography.apply(frames, square) * side).nan_to_num(10.0 * side)
    across, down = (corners[..., 2, :] - corners[..., 0, :]).unbind(-1), (corners[..., 3, :] - corners[..., 1, :]).unbind(-1)
    area = 0.5 * (across[0] * down[1] - across[1] * down[0]).abs().clamp(min=1e-2)
    return low, high, area
