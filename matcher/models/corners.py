"""Grey picture -> corners at many scales, cheaper to find than the extrema of SIFT's scale space: no picture is doubled.

A pyramid shrinks by the square root of two from level to level. A pixel's cornerness is that of Förstner and Gülch (1987, also Noble
1988): determinant over trace of the gradients' products summed around it. Its maxima are the corners, to a fraction of a pixel. A
corner of a coarse level is a structure of the whole picture, one of the finest a detail.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from matcher.models.workspace import room

RATIO = 2**0.5  # between the sides of two levels
SMALLEST = 36  # pixels, the shorter side of the coarsest level
WINDOW = (5, 5)  # pixels, over which gradients are summed
APART = np.ones((5, 5), dtype=np.uint8)  # a corner is the maximum of so many pixels
MARGIN = 3  # pixels along the border that hold no corner
NOISE = np.float32(4)  # added to the trace: where there is hardly a gradient there is no corner
FAINTEST = 0.5  # cornerness of a corner, in squared differences of Sobel's filter
Levels = list[NDArray[np.uint8]]


def pyramid(grey: NDArray[np.uint8]) -> Levels:
    """Grey (H, W) uint8 -> its levels, the finest first; every level smooths the one before and samples it anew."""
    levels, (height, width) = [grey], grey.shape
    while True:
        scale = RATIO ** -len(levels)
        size = round(width * scale), round(height * scale)
        if min(size) < SMALLEST:
            return levels
        levels.append(np.asarray(cv2.resize(cv2.GaussianBlur(levels[-1], (3, 3), 0), size), dtype=np.uint8))


def find(levels: Levels, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Levels -> corners (K, 2) in pixels of their level, counted from the first pixel's centre, and their levels (K,); K <= ``count``.

    A level may have a share of what is left that goes with its side, the coarsest first, so that the few corners that survive blur
    and pixelation are all kept, and what it does not need is left to finer ones.
    """
    shares = RATIO ** -np.arange(len(levels), dtype=np.float64)
    points, of_level = [np.empty((0, 2), dtype=np.float32)], [np.empty(0, dtype=np.int64)]
    for number in reversed(range(len(levels))):
        share = round(count * shares[number] / shares[: number + 1].sum())
        found = peaks(cornerness(levels[number]), share)
        count -= len(found)
        points.append(found)
        of_level.append(np.full(len(found), number, dtype=np.int64))
    return np.concatenate(points), np.concatenate(of_level)


def cornerness(level: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Level (h, w) -> (h, w), valid until the thread asks again."""
    shape = level.shape
    dx = cv2.Sobel(level, cv2.CV_32F, 1, 0, dst=room("dx", shape))
    dy = cv2.Sobel(level, cv2.CV_32F, 0, 1, dst=room("dy", shape))
    product, xx, xy = room("product", shape), room("xx", shape), room("xy", shape)
    cv2.boxFilter(np.multiply(dx, dx, out=product), -1, WINDOW, dst=xx)
    cv2.boxFilter(np.multiply(dx, dy, out=product), -1, WINDOW, dst=xy)
    yy = room("dx", shape)
    cv2.boxFilter(np.multiply(dy, dy, out=product), -1, WINDOW, dst=yy)
    trace = np.add(xx, yy, out=product)
    trace += NOISE
    xx *= yy
    xy *= xy
    xx -= xy
    xx /= trace
    return xx


def peaks(cornerness: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Cornerness (h, w) -> at most ``count`` of its highest maxima (K, 2), x and y by parabolas through their neighbours."""
    top = cv2.compare(cornerness, cv2.dilate(cornerness, APART), cv2.CMP_GE)
    top[:MARGIN], top[-MARGIN:], top[:, :MARGIN], top[:, -MARGIN:] = 0, 0, 0, 0
    values, width = cornerness.ravel(), cornerness.shape[1]
    places = np.flatnonzero(top != 0)  # far faster of truth values than of numbers
    places = places[values[places] > FAINTEST]
    places = places[np.argsort(-values[places], kind="stable")[:count]]
    x, y = places % width + between(values, places, 1), places // width + between(values, places, width)
    return np.stack([x, y], axis=1).astype(np.float32)


def between(values: NDArray[np.float32], places: NDArray[np.int64], step: int) -> NDArray[np.float32]:
    """Where, from -0.5 to 0.5 steps beside a place, the parabola through it and its two neighbours is highest."""
    before, after = values[places - step], values[places + step]
    bend = before - 2 * values[places] + after
    return np.clip(np.divide(before - after, 2 * bend, out=np.zeros_like(bend), where=bend < 0), -0.5, 0.5)
