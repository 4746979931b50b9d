"""Corners of a pyramid -> their angles and descriptors, after Lowe (2004, sections 5 and 6), all corners of a picture at once.

A descriptor is a histogram of gradient directions in 4 x 4 cells around the corner, turned by its angle. A gradient counts for a
direction with the cube of the cosine between them, which needs no angle and no table: powers of four projections give eight
directions, and two products of matrices gather them in cells.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from matcher.models.corners import Levels
from matcher.models.workspace import room

BORDER = 16  # pixels around a level that repeat its edge: patches reach beyond it
SIDE = 16  # pixels of a patch, with one pixel on either side for differences
TURN_SIDE = 17  # likewise of the window that tells the angle; odd, a corner lies in its middle
TURN_BINS = 36
CAP = 0.2  # no number of a descriptor counts for more than this share of its norm
ROWS = 48  # of a product at once: BLAS computes so few on one thread, and their number goes well with its kernels
REMAPPED = 2**14  # keypoints at once: OpenCV takes fewer than 2**15 rows
FLAT = 1e-3  # squared gradient below which there is no direction
DIAGONAL = 0.5**1.5  # the cube of the projection of (x, y) on a diagonal is this times that of x + y
Floats = NDArray[np.float32]


class Atlas(NamedTuple):
    """All levels, one below the other, slightly smoothed."""

    image: NDArray[np.uint8]  # (H, W)
    top: NDArray[np.int64]  # (levels,) rows where the levels' own pixels begin; they begin at column BORDER


def lay_out(levels: Levels) -> Atlas:
    """Levels -> one picture, so that one call samples the patches of all."""
    heights = np.array([level.shape[0] + 2 * BORDER for level in levels])
    top = np.cumsum(heights) - heights
    image = np.zeros((int(heights.sum()), levels[0].shape[1] + 2 * BORDER), dtype=np.uint8)
    for level, start in zip(levels, top.tolist(), strict=True):
        framed = cv2.copyMakeBorder(cv2.GaussianBlur(level, (3, 3), 0), BORDER, BORDER, BORDER, BORDER, cv2.BORDER_REPLICATE)
        image[start : start + framed.shape[0], : framed.shape[1]] = framed
    return Atlas(image, top + BORDER)


def describe(levels: Levels, points: Floats, of_level: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Corners (K, 2) and their levels (K,) -> angles (K,) in radians, clockwise from the x axis, and raw descriptors (K, 128) >= 0."""
    if not len(points):
        return np.empty(0, dtype=np.float32), np.empty((0, 128), dtype=np.float32)
    atlas = lay_out(levels)
    places = points + np.stack([np.full(len(points), BORDER), atlas.top[of_level]], axis=1).astype(np.float32)
    angles = turns(atlas.image, places)
    return angles, histograms(atlas.image, places, angles)


def turns(image: NDArray[np.uint8], places: Floats) -> Floats:
    """The direction (K,) that most gradients around each place have, by the highest of 36 bins and a parabola through its neighbours."""
    (weight, across, down), smooth = turn_tables()
    step, (x, y) = image.shape[1], np.rint(places).astype(np.int64).T
    above = ((y - 1) * step + x)[:, None] + (down * step + across)  # of each pixel of the windows, the one above it
    upper, left, right, lower = (
        np.take(image.ravel()[start:], above, out=room(name, above.shape, np.uint8), mode="clip")
        for name, start in (("upper", 0), ("left", step - 1), ("right", step + 1), ("lower", 2 * step))
    )
    dx, dy = np.subtract(right, left, dtype=np.float32), np.subtract(lower, upper, dtype=np.float32)
    length, angle = cv2.cartToPolar(dx, dy)
    length *= weight
    angle *= np.float32(TURN_BINS / (2 * np.pi))
    angle += np.float32(0.5)  # the first bin lies around 0; the last half of it is told apart and added to it
    bins = angle.astype(np.int64)
    bins += np.arange(len(places))[:, None] * (TURN_BINS + 1)
    counts = np.bincount(bins.ravel(), weights=length.ravel(), minlength=len(places) * (TURN_BINS + 1)).reshape(-1, TURN_BINS + 1)
    counts[:, 0] += counts[:, TURN_BINS]
    smoothed = product(counts[:, :TURN_BINS], smooth)
    every, best = np.arange(len(places)), smoothed.argmax(axis=1)
    before, peak, after = smoothed[every, best - 1], smoothed[every, best], smoothed[every, (best + 1) % TURN_BINS]
    bend = before - 2 * peak + after
    beside = np.divide(before - after, 2 * bend, out=np.zeros_like(bend), where=bend < 0)
    return ((best + beside) * (2 * np.pi / TURN_BINS)).astype(np.float32)


def histograms(image: NDArray[np.uint8], places: Floats, angles: Floats) -> Floats:
    """Places (K, 2) and angles (K,) -> (K, 128): 4 rows x 4 columns of cells, 8 directions each, in the axes that the angle turns."""
    grid, cells = patch_tables()
    count, shape = len(places), (len(places), SIDE * SIDE)
    cosine, sine, (x, y) = np.cos(angles), np.sin(angles), places.T
    across = product(np.stack([x, cosine, -sine], axis=1), grid, out=room("xx", shape))
    down = product(np.stack([y, sine, cosine], axis=1), grid, out=room("xy", shape))
    patches, levels = room("patches", shape), room("bytes", shape, np.uint8)
    for start in range(0, count, REMAPPED):
        some = slice(start, start + REMAPPED)
        patches[some] = cv2.remap(image, across[some], down[some], cv2.INTER_LINEAR, dst=levels[some])
    dx, dy = differences(patches, SIDE)
    power, inverse = room("product", shape), np.multiply(dx, dx, out=room("patches", shape))
    inverse += np.multiply(dy, dy, out=power)
    inverse += np.float32(FLAT)
    np.divide(1, inverse, out=inverse)
    rising, falling = np.add(dx, dy, out=room("xx", shape)), np.subtract(dy, dx, out=room("xy", shape))
    found = np.empty((count, 16, 8), dtype=np.float32)
    for number, (projection, scale) in enumerate([(dx, 0.5), (rising, 0.5 * DIAGONAL), (dy, 0.5), (falling, 0.5 * DIAGONAL)]):
        np.multiply(projection, projection, out=power)
        power *= projection
        power *= inverse
        signed = product(power, cells)
        either = product(np.abs(power, out=power), cells)
        found[:, :, number], found[:, :, number + 4] = (either + signed) * np.float32(scale), (either - signed) * np.float32(scale)
    rows = found.reshape(count, 128)
    return np.minimum(rows, CAP * np.linalg.norm(rows, axis=1, keepdims=True))


def product(left: NDArray[Any], right: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Matrices (K, N) and (N, M) -> (K, M), with the same bits on any number of BLAS's threads: it shares out larger products, and what
    lies along the edges of the shares is summed in another order."""
    found = np.empty((len(left), right.shape[1]), dtype=left.dtype) if out is None else out
    whole = len(left) // ROWS * ROWS
    np.matmul(left[:whole].reshape(-1, ROWS, len(right)), right, out=found[:whole].reshape(-1, ROWS, right.shape[1]))
    np.matmul(left[whole:], right, out=found[whole:])
    return found


def differences(patches: Floats, side: int) -> tuple[Floats, Floats]:
    """Patches (K, side * side) -> differences between the neighbours of every pixel, across and down; meaningless along the border."""
    flat, dx, dy = patches.reshape(-1), room("dx", patches.shape), room("dy", patches.shape)
    for difference, step in ((dx.reshape(-1), 1), (dy.reshape(-1), side)):
        difference[:step] = difference[len(flat) - step :] = 0
        np.subtract(flat[2 * step :], flat[: -2 * step], out=difference[step:-step])
    return dx, dy


@lru_cache
def turn_tables() -> tuple[tuple[Floats, NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]:
    """Weights (N,) of the pixels around a corner their places across and down; (36, 36), which smooths a histogram twice by thirds."""
    beside = np.arange(TURN_SIDE) - TURN_SIDE // 2
    radius, squared = TURN_SIDE // 2 - 0.5, beside**2 + beside[:, None] ** 2
    down, across = np.nonzero(squared <= radius**2)
    weight = np.exp(-squared[down, across] / (2 * (2 * radius / 4.5) ** 2))
    once = np.sum([np.roll(np.eye(TURN_BINS), shift, axis=1) for shift in (-1, 0, 1)], axis=0) / 3
    return (weight.astype(np.float32), beside[across], beside[down]), once @ once


@lru_cache
def patch_tables() -> tuple[Floats, Floats]:
    """What 1, x and y are on a patch (3, SIDE ** 2), and how much its pixels belong to each of 4 x 4 cells (SIDE ** 2, 16)."""
    beside = np.arange(SIDE) - (SIDE - 1) / 2
    x, y = np.meshgrid(beside, beside)
    scaled = beside / ((SIDE - 2) / 4)  # in cells
    near = np.maximum(1 - np.abs(scaled[:, None] - (np.arange(4) - 1.5)), 0) * np.exp(-(scaled**2) / 8)[:, None]
    near[[0, -1]] = 0
    cells = np.einsum("yr,xc->yxrc", near, near).reshape(SIDE * SIDE, 16)
    return np.stack([np.ones(SIDE * SIDE), x.ravel(), y.ravel()]).astype(np.float32), cells.astype(np.float32)
