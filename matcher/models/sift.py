"""Keypoints: corners of a pyramid, or OpenCV's SIFT (Lowe 2004), as RootSIFT (Arandjelovic and Zisserman 2012); their mirror images.

Points live on the picture's unit square. Where geometry needs equal units in x and y, they are stretched to
*even units*: the longer side is 1 and the other one its share of it (:attr:`LocalFeatures.even`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from matcher.models import corners, gradients
from matcher.settings import SiftSettings

LOW_CONTRAST = 100  # levels of 255
SPARE = 1.3  # times the wanted number of keypoints are described, to choose from; that costs less than a second pyramid
CORNER = 5.0  # pixels of its level: the diameter of a corner, about a third of what describes it
LONGEST = 2000  # pixels; a picture as thin as a thread is not enlarged beyond this

# The descriptor is 4 rows x 4 columns of cells with 8 directions each, in the keypoint's own axes. Mirroring a picture
# turns the rows upside down and negates the directions.
MIRROR = np.array([((3 - row) * 4 + column) * 8 + (8 - bin_) % 8 for row in range(4) for column in range(4) for bin_ in range(8)])


@dataclass(frozen=True)
class LocalFeatures:
    """The keypoints of one picture."""

    point: NDArray[np.float32]  # (K, 2) on the unit square
    size: NDArray[np.float32]  # (K,) diameter in even units
    angle: NDArray[np.float32]  # (K,) degrees clockwise from the x axis
    rows: NDArray[np.uint8]  # (K, 128) RootSIFT x 255
    shape_wh: NDArray[np.float32]  # (2,) width and height in even units, the larger one is 1

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def even(self) -> NDArray[np.float32]:
        """Points (K, 2) in even units."""
        return self.point * self.shape_wh

    @cached_property
    def mirrored(self) -> LocalFeatures:
        """The keypoints of the picture flipped left to right, without a second extraction."""
        point = self.point * np.array([-1, 1], dtype=np.float32) + np.array([1, 0], dtype=np.float32)
        return LocalFeatures(point, self.size, (180 - self.angle) % 360, self.rows[:, MIRROR], self.shape_wh)

    @cached_property
    def unit_rows(self) -> NDArray[np.float32]:
        """Descriptors (K, 128) with unit norm."""
        rows = self.rows.astype(np.float32)
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1.0)

    def first(self, count: int) -> LocalFeatures:
        """The first ``count`` keypoints; :func:`extract` puts them in an order in which every prefix is a fair sample of the scales."""
        return LocalFeatures(self.point[:count], self.size[:count], self.angle[:count], self.rows[:count], self.shape_wh)


def extract(image: NDArray[np.uint8], settings: SiftSettings) -> LocalFeatures:
    """RGB (H, W, 3) or grey (H, W) uint8 -> keypoints; none (K = 0) in a picture without structure, or if none are wanted."""
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image, dtype=np.uint8)
    height, width = grey.shape
    shape_wh = np.array([width, height], dtype=np.float32) / max(width, height)
    grey = stretch(bring_to_size(grey, settings))
    points, sizes, angles, raw = (by_corners if settings.kind == "corners" else by_opencv)(grey, settings)
    order = np.random.default_rng(0).permutation(len(points))  # shuffled by a fixed seed, so that any prefix is a fair sample
    points = np.divide(points + np.float32(0.5), grey.shape[::-1], dtype=np.float32)
    sizes = np.divide(sizes, max(grey.shape), dtype=np.float32)
    angles = np.mod(angles, 360, dtype=np.float32)
    return LocalFeatures(points[order], sizes[order], angles[order], root_sift(raw[order]), shape_wh)


# Points (K, 2) in pixels, counted from the first pixel's centre; sizes (K,) in pixels; angles (K,) in degrees; raw rows (K, 128).
Found = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def by_corners(grey: NDArray[np.uint8], settings: SiftSettings) -> Found:
    """Grey (H, W) -> corners at many scales, and how gradients run around them."""
    levels = corners.pyramid(grey)
    places, of_level = corners.find(levels, settings.keypoints)
    angles, raw = gradients.describe(levels, places, of_level)
    scale = np.divide(grey.shape[::-1], [level.shape[::-1] for level in levels])[of_level]  # (K, 2)
    points = ((places + 0.5) * scale - 0.5).astype(np.float32)
    sizes = (CORNER * scale.mean(axis=1)).astype(np.float32)
    return points, sizes, np.rad2deg(angles), raw


def by_opencv(grey: NDArray[np.uint8], settings: SiftSettings) -> Found:
    """Grey (H, W) -> OpenCV's SIFT."""
    sift = cv2.SIFT.create(nfeatures=round(SPARE * settings.keypoints), contrastThreshold=settings.contrast, enable_precise_upscale=True)
    found, raw = sift.detectAndCompute(grey, None) if settings.keypoints else ((), None)
    chosen = choose(found, settings.keypoints)
    numbers = np.array([(*found[i].pt, found[i].size, found[i].angle) for i in chosen], dtype=np.float32).reshape(-1, 4)
    rows = np.empty((0, 128), np.float32) if raw is None else np.asarray(raw, dtype=np.float32)[chosen]
    return numbers[:, :2], numbers[:, 2], numbers[:, 3], rows


def stretch(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey (H, W) with its levels spread over 0 to 255 if all but a hundredth at either end lie within LOW_CONTRAST of each other."""
    share = np.cumsum(cv2.calcHist([grey], [0], None, [256], [0, 256]), dtype=np.float64) / grey.size
    low, high = int(np.searchsorted(share, 0.01)), int(np.searchsorted(share, 0.99))
    if high - low >= LOW_CONTRAST or high - low < 2:
        return grey
    return np.asarray(cv2.convertScaleAbs(np.maximum(grey, low) - np.uint8(low), alpha=255 / (high - low)), dtype=np.uint8)


def bring_to_size(grey: NDArray[np.uint8], settings: SiftSettings) -> NDArray[np.uint8]:
    """Grey (H, W) shrunk or enlarged until its short side is settings.short_side, within settings.enlarge and LONGEST."""
    height, width = grey.shape
    scale = min(settings.short_side / min(height, width), settings.enlarge, LONGEST / max(height, width))
    if abs(scale - 1) < 0.02:
        return grey
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), dtype=np.uint8)


def choose(keypoints: Sequence[cv2.KeyPoint], count: int) -> list[int]:
    """Rows of the best keypoints over all octaves, coarse ones first: every octave may take half of what is left.

    Fine keypoints are many and die of blur, pixelation and shrinking; without a share of their own the coarse ones,
    which survive these, would be crowded out.
    """
    octaves = np.array([(k.octave + 128) % 256 - 128 for k in keypoints], dtype=np.int64)  # signed byte: -1 is the doubled picture
    responses = np.array([k.response for k in keypoints])
    chosen: list[int] = []
    for octave in np.unique(octaves)[::-1]:
        members = np.flatnonzero(octaves == octave)
        left = count - len(chosen)
        share = left if octave == octaves.min() else left // 2
        chosen += members[np.argsort(-responses[members], kind="stable")][:share].tolist()
    return chosen


def root_sift(raw: NDArray[np.float32]) -> NDArray[np.uint8]:
    """SIFT descriptors (K, 128) -> uint8 (K, 128): square roots of the l1-normalised numbers, times 255; their l2 norm is about 255."""
    share = raw / np.maximum(raw.sum(axis=1, keepdims=True), 1e-7)
    return np.round(np.sqrt(share) * 255).astype(np.uint8)
