"""A frame and a picture -> the pixels of that view. The only place where pixels are cut.

Pixel i of a row covers [i, i + 1) in continuous coordinates, its centre is i + 0.5; OpenCV counts from the centre
of pixel 0, hence the shift by half a pixel in :func:`warp`. Where a view shrinks the picture, the picture is first
averaged over areas down to twice the view's resolution, warped at that, and each 2x2 block averaged: an area filter for
every frame. Where it does not, it is one bilinear warp, exact where pixels fall on pixels. A warp that only turns and
flips is a slice, and what a picture was averaged down to serves all its views that ask for the same: the whole, its turns and its flips.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from matcher.geometry import Array, corners, to_pixels

Pixels = NDArray[np.uint8]
Shrunk = dict[tuple[int, ...], NDArray[Any]]  # the part of a picture that was averaged down last: its edges, width and height -> pixels
GREY = (128, 128, 128)
STILL = 1e-9  # a map that differs from whole numbers by less sends pixels onto pixels


def render(image: Pixels, frame: ArrayLike, size_hw: tuple[int, int], *, fill: tuple[int, int, int] = GREY) -> Pixels:
    """Picture (H, W, 3) and the frame (3, 3) of a view -> the view (h, w, 3) uint8, ``fill`` where it leaves the picture."""
    return render_with_mask(image, frame, size_hw, fill=fill)[0]


def render_many(image: Pixels, frames: Array | Sequence[Array], size_hw: tuple[int, int], *, fill: tuple[int, int, int] = GREY) -> Pixels:
    """Picture (H, W, 3) and frames (V, 3, 3) -> the views (V, h, w, 3) uint8, all of one size."""
    views = np.empty((len(frames), *size_hw, 3), dtype=np.uint8)
    shrunk: Shrunk = {}
    for view, frame in zip(views, frames, strict=True):
        view[:] = cut(image, frame, size_hw, fill=fill, shrunk=shrunk)[0]
    return views


def render_with_mask(
    image: Pixels, frame: ArrayLike, size_hw: tuple[int, int], *, fill: tuple[int, int, int] = GREY
) -> tuple[Pixels, NDArray[np.bool_]]:
    """Picture (H, W, 3) and frame (3, 3) -> the view (h, w, 3) uint8, and True (h, w) where a pixel's centre lies in the picture.

    ValueError if the picture is not uint8 RGB, or frame or size cannot be used.
    """
    return cut(image, frame, size_hw, fill=fill, shrunk={})


def cut(
    image: Pixels, frame: ArrayLike, size_hw: tuple[int, int], *, fill: tuple[int, int, int], shrunk: Shrunk
) -> tuple[Pixels, NDArray[np.bool_]]:
    """As :func:`render_with_mask`; ``shrunk`` belongs to the picture."""
    frame = np.asarray(frame, dtype=np.float64)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"render needs a uint8 picture (H, W, 3), got {image.dtype} {image.shape}")
    if frame.shape != (3, 3) or not np.isfinite(frame).all() or min(size_hw) < 1:
        raise ValueError(f"render needs a finite frame (3, 3) and a size of at least 1x1, got {frame.tolist()} and {size_hw}")
    inside = mask(frame, size_hw)
    if not inside.any():
        return np.full((*size_hw, 3), fill, dtype=np.uint8), inside
    view = resample(image, frame, size_hw, shrunk)
    if not inside.all():
        view[~inside] = fill
    return view, inside


def mask(frame: Array, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Frame (3, 3) -> True (h, w) where the centre of the view's pixel lies inside the picture and before the horizon."""
    slack = 1e-9
    if (frame[2] == (0, 0, 1)).all() and ((points := corners(frame)) >= -slack).all() and (points <= 1 + slack).all():
        return np.ones(size_hw, dtype=bool)
    h, w = size_hw
    x, y = (np.arange(w) + 0.5)[None, :] / w, (np.arange(h) + 0.5)[:, None] / h
    across, down, depth = (row[0] * x + row[1] * y + row[2] for row in frame)
    limit = depth * (1 + slack)
    return (depth > 1e-9) & (across >= -slack) & (across <= limit) & (down >= -slack) & (down <= limit)


def resample(image: Pixels, frame: Array, size_hw: tuple[int, int], shrunk: Shrunk) -> Pixels:
    """The warp of :func:`cut`, edge pixels repeated outside the picture: (h, w, 3)."""
    h, w = size_hw
    across, down = footprint(frame, image.shape[:2], size_hw)
    if max(across, down) <= 1 + 1e-6:
        left, top, right, bottom = window(frame, image.shape[:2], margin_xy=(2.0, 2.0))
        return warp(image[top:bottom, left:right], shift(-left, -top) @ to_pixels(frame, size_hw, image.shape[:2]), size_hw)
    left, top, right, bottom = window(frame, image.shape[:2], margin_xy=(across + 2, down + 2))
    part: NDArray[Any] = image[top:bottom, left:right]
    small_w = max(1, round(part.shape[1] / max(1.0, across / 2)))
    small_h = max(1, round(part.shape[0] / max(1.0, down / 2)))
    shrink = np.diag([small_w / part.shape[1], small_h / part.shape[0], 1.0])
    if (small_h, small_w) != part.shape[:2]:
        key = left, top, right, bottom, small_w, small_h
        if key not in shrunk:
            shrunk.clear()  # views that share a part follow each other
            shrunk[key] = cv2.resize(part, (small_w, small_h), interpolation=cv2.INTER_AREA)
        part = shrunk[key]
    doubled_hw = (2 * h, 2 * w)
    doubled = warp(part, shrink @ shift(-left, -top) @ to_pixels(frame, doubled_hw, image.shape[:2]), doubled_hw)
    return np.asarray(cv2.resize(doubled, (w, h), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def warp(image: NDArray[Any], view_to_image: Array, size_hw: tuple[int, int]) -> Pixels:
    """Picture and a map (3, 3) between continuous pixel coordinates -> bilinear samples (h, w, 3) at the view's pixel centres."""
    if (picked := pick(image, view_to_image, size_hw)) is not None:
        return picked
    centred = shift(-0.5, -0.5) @ view_to_image @ shift(0.5, 0.5)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpPerspective(image, centred, size_hw[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE), dtype=np.uint8)


def pick(image: NDArray[Any], view_to_image: Array, size_hw: tuple[int, int]) -> Pixels | None:
    """What :func:`warp` gives where the map only moves, turns and flips pixels within the picture, as a copy; None for other maps."""
    whole = np.rint(view_to_image)
    (right, down), corner = whole[:2, :2].T, whole[:2, 2]
    turns = sorted([tuple(np.abs(right)), tuple(np.abs(down))]) == [(0, 1), (1, 0)] and tuple(whole[2]) == (0, 0, 1)
    if not turns or np.abs(view_to_image - whole).max() > STILL:
        return None
    far = corner + right * size_hw[1] + down * size_hw[0]
    (x0, y0), (x1, y1) = (np.minimum(corner, far).astype(int), np.maximum(corner, far).astype(int))
    if min(x0, y0) < 0 or x1 > image.shape[1] or y1 > image.shape[0]:
        return None
    part: NDArray[Any] = image[y0:y1, x0:x1].copy() if right[0] else cv2.transpose(image[y0:y1, x0:x1])
    if right.sum() < 0:
        part = cv2.flip(part, 1)
    return np.asarray(cv2.flip(part, 0) if down.sum() < 0 else part, dtype=np.uint8)


def shift(x: float, y: float) -> Array:
    """Translation (3, 3)."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def footprint(frame: Array, image_hw: tuple[int, ...], size_hw: tuple[int, int]) -> tuple[float, float]:
    """How many picture pixels, across and down, one pixel in the middle of the view spans."""
    matrix = to_pixels(frame, size_hw, (image_hw[0], image_hw[1]))
    middle = np.array([size_hw[1] / 2, size_hw[0] / 2, 1.0])
    x, y, depth = matrix @ middle
    if abs(depth) < 1e-9:
        return 1.0, 1.0
    slopes = (matrix[:2, :2] - np.outer([x, y], matrix[2, :2]) / depth) / depth
    across, down = np.linalg.norm(slopes, axis=1)
    return float(across), float(down)


def window(frame: Array, image_hw: tuple[int, ...], *, margin_xy: tuple[float, float]) -> tuple[int, int, int, int]:
    """The picture's pixels that the view needs, with a margin: left, top, right, bottom; all of them if the horizon is in view."""
    h, w = image_hw[0], image_hw[1]
    if min(frame[2] @ (x, y, 1.0) for x, y in ((0, 0), (1, 0), (1, 1), (0, 1))) <= 1e-9:
        return 0, 0, w, h
    points = corners(frame) * (w, h)
    low, high = points.min(axis=0) - margin_xy, points.max(axis=0) + margin_xy
    left, right = (int(np.clip(v, 0, w)) for v in (np.floor(low[0]), np.ceil(high[0])))
    top, bottom = (int(np.clip(v, 0, h)) for v in (np.floor(low[1]), np.ceil(high[1])))
    return left, top, right, bottom
