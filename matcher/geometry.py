"""Frames: 3x3 matrices between unit squares.

A frame maps points of a view's unit square to points of the image's unit square, as column vectors
``image_point ~ frame @ (x, y, 1)``; x runs right, y runs down, (0, 0) is the outer corner of the top left pixel
and (1, 1) that of the bottom right one. A crop of a crop is a product, mapping evidence back is the inverse.
All functions take and give float64; those marked ``(..., 3, 3)`` work on stacks of frames.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
SQUARE: Array = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])  # clockwise on the screen


def identity() -> Array:
    """The whole image as one view: (3, 3)."""
    return np.eye(3)


def from_box(x0: float, y0: float, x1: float, y1: float) -> Array:
    """Box in the image's unit square -> frame (3, 3). ValueError if the box has no area."""
    if not (x1 > x0 and y1 > y0):
        raise ValueError(f"a box needs x0 < x1 and y0 < y1, got ({x0}, {y0}, {x1}, {y1})")
    return np.array([[x1 - x0, 0.0, x0], [0.0, y1 - y0, y0], [0.0, 0.0, 1.0]])


def to_box(frame: ArrayLike) -> Array:
    """Frame (..., 3, 3) -> the axis-parallel box around its region, (..., 4) as x0, y0, x1, y1."""
    points = corners(frame)
    return np.concatenate([points.min(axis=-2), points.max(axis=-2)], axis=-1)


def turn(quarters: int) -> Array:
    """A view that shows the image turned clockwise by ``quarters`` x 90 degrees: (3, 3)."""
    once = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    return np.linalg.matrix_power(once, quarters % 4)


def flip() -> Array:
    """A view that shows the image mirrored left to right: (3, 3)."""
    return np.array([[-1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def compose(outer: ArrayLike, inner: ArrayLike) -> Array:
    """The frame of a view ``inner`` taken inside the view ``outer``, both (..., 3, 3)."""
    return normalise(np.asarray(outer, dtype=np.float64) @ np.asarray(inner, dtype=np.float64))


def invert(frame: ArrayLike) -> Array:
    """The frame read backwards, image to view: (..., 3, 3). LinAlgError if it is singular."""
    return normalise(np.linalg.inv(np.asarray(frame, dtype=np.float64)))


def normalise(frame: ArrayLike) -> Array:
    """The same projective map with its last number 1 (left alone where that number is 0): (..., 3, 3)."""
    array = np.asarray(frame, dtype=np.float64)
    last = array[..., 2:, 2:]
    return array / np.where(np.abs(last) > 1e-12, last, 1.0)


def apply(frame: ArrayLike, points: ArrayLike) -> Array:
    """Points (..., N, 2) of the view -> points (..., N, 2) of the image; points at infinity become inf or NaN."""
    array, xy = np.asarray(frame, dtype=np.float64), np.asarray(points, dtype=np.float64)
    moved = xy @ np.swapaxes(array[..., :2, :2], -1, -2) + array[..., None, :2, 2]
    depth = (xy * array[..., None, 2, :2]).sum(-1) + array[..., 2, 2, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        return moved / depth[..., None]


def corners(frame: ArrayLike) -> Array:
    """The view's corners in the image, (..., 4, 2): top left, top right, bottom right, bottom left of the view."""
    return apply(frame, SQUARE)


def is_mirrored(frame: ArrayLike) -> NDArray[np.bool_]:
    """True where the frame turns left into right (negative determinant): (...)."""
    return np.linalg.det(np.asarray(frame, dtype=np.float64)) < 0


def from_pixels(frame_px: ArrayLike, from_size_hw: tuple[int, int], to_size_hw: tuple[int, int]) -> Array:
    """A map between continuous pixel coordinates (0 = outer corner) of two pictures -> the map between their unit squares."""
    (from_h, from_w), (to_h, to_w) = from_size_hw, to_size_hw
    return normalise(np.diag([1 / to_w, 1 / to_h, 1.0]) @ np.asarray(frame_px, dtype=np.float64) @ np.diag([from_w, from_h, 1.0]))


def to_pixels(frame: ArrayLike, from_size_hw: tuple[int, int], to_size_hw: tuple[int, int]) -> Array:
    """The inverse of :func:`from_pixels`: a map between unit squares -> the map between pixel coordinates."""
    (from_h, from_w), (to_h, to_w) = from_size_hw, to_size_hw
    return normalise(np.diag([to_w, to_h, 1.0]) @ np.asarray(frame, dtype=np.float64) @ np.diag([1 / from_w, 1 / from_h, 1.0]))


def region(frame: ArrayLike) -> Array:
    """The part of the image that the view shows: a convex polygon (N, 2) inside the unit square, N = 0 if there is none.

    Where the horizon of a perspective frame passes through the view, the image's square is looked up in the view
    instead; a frame whose horizon passes through both shows no region.
    """
    array = np.asarray(frame, dtype=np.float64)
    if not np.isfinite(array).all():
        return np.empty((0, 2))
    if _one_sided(array):
        return clip(corners(array), SQUARE)
    if abs(np.linalg.det(array)) > 1e-12 and _one_sided(back := invert(array)):
        return apply(array, clip(corners(back), SQUARE))
    return np.empty((0, 2))


def _one_sided(frame: Array) -> bool:
    """Whether all of the unit square lies on one side of the frame's horizon."""
    depths = SQUARE @ frame[2, :2] + frame[2, 2]
    return bool(np.all(depths > 1e-9) or np.all(depths < -1e-9))


def clip(polygon: Array, window: Array) -> Array:
    """The common part of two convex polygons (N, 2), (M, 2), in any orientation (Sutherland-Hodgman): (K, 2)."""
    points: list[list[float]] = polygon.tolist()
    around: list[list[float]] = (window if signed_area(window) > 0 else window[::-1]).tolist()
    for (x0, y0), (x1, y1) in zip(around, around[1:] + around[:1], strict=True):
        if abs(x1 - x0) + abs(y1 - y0) < 1e-9:  # two corners in one place: which way their edge runs is rounding
            continue
        side = [(x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) for x, y in points]
        kept = []
        for i, (x, y) in enumerate(points):
            following, a, b = points[i + 1 - len(points)], side[i], side[i + 1 - len(points)]
            if a >= 0:
                kept.append([x, y])
            if (a > 0 > b) or (a < 0 < b):
                kept.append([x + (following[0] - x) * (a / (a - b)), y + (following[1] - y) * (a / (a - b))])
        points = kept
    return np.array(points, dtype=np.float64).reshape(-1, 2)


def signed_area(polygon: Array) -> float:
    """Shoelace area of a polygon (N, 2): positive where it runs clockwise on the screen (y down)."""
    x, y = polygon[:, 0], polygon[:, 1]
    following_x, following_y = np.concatenate([x[1:], x[:1]]), np.concatenate([y[1:], y[:1]])
    return float(0.5 * (x @ following_y - y @ following_x)) if len(polygon) > 2 else 0.0


def area(polygon: Array) -> float:
    """Area of a polygon (N, 2), >= 0; of the unit square it is a share."""
    return abs(signed_area(polygon))


def covered_share(frame: ArrayLike) -> float:
    """Share of the image, 0 to 1, that the view shows."""
    return area(region(frame))


def iou(first: ArrayLike, second: ArrayLike) -> float:
    """Intersection over union, 0 to 1, of the regions that two frames show in the same image."""
    a, b = region(first), region(second)
    if len(a) < 3 or len(b) < 3:
        return 0.0
    common = area(clip(a, b))
    union = area(a) + area(b) - common
    return common / union if union > 0 else 0.0
