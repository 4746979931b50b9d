"""Frames in batches: homographies (B, 3, 3) between unit squares, as in matcher.geometry, on any device."""

from __future__ import annotations

import torch
from torch import Tensor


def identity(count: int, device: torch.device) -> Tensor:
    """(B, 3, 3)."""
    return torch.eye(3, device=device).repeat(count, 1, 1)


def affine(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> Tensor:
    """x' = a x + b y + c, y' = d x + e y + f; six (B,) -> (B, 3, 3)."""
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    return torch.stack([a, b, c, d, e, f, zero, zero, one], dim=-1).unflatten(-1, (3, 3))


def from_box(box: Tensor) -> Tensor:
    """Boxes (..., 4) x0, y0, x1, y1 -> frames (..., 3, 3) from the unit square to them."""
    x0, y0, x1, y1 = box.unbind(-1)
    zero = torch.zeros_like(x0)
    return affine(x1 - x0, zero, x0, zero, y1 - y0, y0)


def scaling(x: Tensor, y: Tensor) -> Tensor:
    """Around the origin; (B,), (B,) -> (B, 3, 3)."""
    zero = torch.zeros_like(x)
    return affine(x, zero, zero, zero, y, zero)


def rotation(radians: Tensor) -> Tensor:
    """Clockwise on the screen around the origin: (B,) -> (B, 3, 3)."""
    cos, sin, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    return affine(cos, -sin, zero, sin, cos, zero)


def shift(x: Tensor, y: Tensor) -> Tensor:
    """(B,), (B,) -> (B, 3, 3)."""
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return affine(one, zero, x, zero, one, y)


def centred(frame: Tensor) -> Tensor:
    """A frame around the origin -> the same around the middle of the unit square: (B, 3, 3)."""
    half = torch.full_like(frame[:, 0, 0], 0.5)
    return shift(half, half) @ frame @ shift(-half, -half)


def turned_in_place(frame: Tensor, radians: Tensor, aspect: Tensor) -> Tensor:
    """Frames (B, 3, 3) on canvases of ``aspect`` (B,), turned clockwise around the middle of what they show."""
    middle = apply(frame, torch.full((1, 2), 0.5, device=frame.device))[:, 0]
    turn = scaling(aspect.rsqrt(), aspect.sqrt()) @ rotation(radians) @ scaling(aspect.sqrt(), aspect.rsqrt())
    return shift(middle[:, 0], middle[:, 1]) @ turn @ shift(-middle[:, 0], -middle[:, 1]) @ frame


def to_corners(corners: Tensor) -> Tensor:
    """Four points (B, 4, 2), clockwise from the top left -> the frames (B, 3, 3) that send the unit square there (Heckbert 1989)."""
    p0, p1, p2, p3 = corners.unbind(1)
    d1, d2, s = p1 - p2, p3 - p2, p0 - p1 + p2 - p3
    det = d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0]
    g = (s[:, 0] * d2[:, 1] - s[:, 1] * d2[:, 0]) / det
    h = (d1[:, 0] * s[:, 1] - d1[:, 1] * s[:, 0]) / det
    x = p1 - p0 + g[:, None] * p1
    y = p3 - p0 + h[:, None] * p3
    one = torch.ones_like(g)
    return torch.stack([x[:, 0], y[:, 0], p0[:, 0], x[:, 1], y[:, 1], p0[:, 1], g, h, one], dim=-1).unflatten(-1, (3, 3))


def apply(frame: Tensor, points: Tensor) -> Tensor:
    """Frames (..., 3, 3), points (N, 2) or (..., N, 2) -> points (..., N, 2); NaN behind the horizon."""
    moved = points @ frame[..., :2, :2].mT + frame[..., None, :2, 2]
    depth = points @ frame[..., 2, :2, None] + frame[..., 2, 2, None, None]
    return moved / depth.where(depth > 1e-6, torch.nan)


def inverse(frame: Tensor) -> Tensor:
    """By cofactors, which needs no solver: (..., 3, 3), scaled so that what lies before the horizon keeps a positive depth."""
    a, b, c = frame.unbind(-2)
    cofactors = torch.stack([b.cross(c, dim=-1), c.cross(a, dim=-1), a.cross(b, dim=-1)], dim=-1)
    return cofactors / (a * b.cross(c, dim=-1)).sum(-1)[..., None, None]


def raster(frame: Tensor, side: int, lines: Tensor | None = None, *, affine: bool = False) -> tuple[Tensor, Tensor]:
    """Where frames (B, 3, 3) send the middles of pixels, NaN behind the horizon: x, y (B, L, S).

    The unit square has ``side`` x ``side`` pixels; ``lines`` (B, L) int64 chooses some of its lines for each frame.
    ``affine`` says that the last row of every frame is 0, 0, 1.
    """
    across = (torch.arange(side, device=frame.device) + 0.5) / side
    down = across.expand(len(frame), -1) if lines is None else (lines + 0.5) / side
    fast = frame[:, :, 0, None, None] * across  # (B, 3, 1, S)
    slow = frame[:, :, 1, None, None] * down[:, None, :, None] + frame[:, :, 2, None, None]  # (B, 3, L, 1)
    x, y = fast[:, 0] + slow[:, 0], fast[:, 1] + slow[:, 1]
    if affine:
        return x, y
    depth = fast[:, 2] + slow[:, 2]
    depth = depth.where(depth > 1e-6, torch.nan)
    return x / depth, y / depth


def inside(x: Tensor, y: Tensor, box: Tensor) -> Tensor:
    """Which of the points x, y (B, L, S) lie in the boxes (B, 4): (B, L, S) bool; NaN does not."""
    x0, y0, x1, y1 = box[:, :, None, None].unbind(1)
    return (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
