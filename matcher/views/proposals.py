"""A picture -> boxes around what stands out in it: selective search (Uijlings et al., IJCV 2013), one hierarchy on a small picture.

The picture is cut into segments (views.segments); the two neighbours that are most alike become one region, again and
again, until one is left. Alike is the sum of four numbers between 0 and 1, as in the paper: common part of the colour
histograms (Lab) and of the texture histograms, how small both are, how well they fill the box around both. Everything is
counted in whole numbers and divided once, so the order of sums decides nothing.

The paper leaves open how sure a box is. Here: the share of its box that a region fills, times the square root of the box's
share of the picture, both 0 to 1: a picture pasted onto another one is a large region that fills its box.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from matcher.settings import ProposalRules
from matcher.types import Views
from matcher.views.boxes import box_views
from matcher.views.render import Pixels
from matcher.views.segments import segment

KIND = "proposal"
LEAST = 300  # a segment has at least the 300th part of the pixels, so there are at most 300
SHADES = 16  # levels of each Lab channel in a colour histogram
STRENGTHS = (8, 24, 64)  # limits between four strengths of the gradient

Counts = NDArray[np.int64]


def proposal_views(image_id: str, image: Pixels, *, rules: ProposalRules) -> Views:
    """Id and picture (H, W, 3) of full size -> a view for each region that the rules keep, the most certain first."""
    boxes, confidence = propose(image, side=rules.side)
    return box_views(image_id, boxes, confidence=confidence, kind=KIND, size_hw=(image.shape[0], image.shape[1]), rules=rules)


def propose(image: Pixels, *, side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Picture (H, W, 3) -> boxes (K, 4) on its unit square around all regions of all sizes, and how sure each is (K,), 0 to 1."""
    pixels = shrink(image, side)
    height, width = pixels.shape[:2]
    boxes, sizes = group(Regions.of(pixels, segment(pixels, least=height * width // LEAST)))
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return boxes / (width, height, width, height), sizes / areas * np.sqrt(areas / (height * width))


def shrink(image: Pixels, side: int) -> Pixels:
    """Picture (H, W, 3) -> the same with a longer side of at most ``side``."""
    scale = min(1.0, side / max(image.shape[:2]))
    height, width = (max(1, round(length * scale)) for length in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def group(regions: Regions) -> tuple[Counts, Counts]:
    """Segments (K,) -> box (2 K - 1, 4) in pixels and size (2 K - 1,) in pixels of each and of every region that they grow into."""
    count = len(regions.size)
    boxes, sizes = [*regions.box.copy()], [*regions.size.copy()]
    alike = np.full((count, count), -1.0)
    first, second = np.nonzero(regions.near)
    alike[first, second] = regions.likeness(first, second)
    for _ in range(count - 1):
        one, other = divmod(int(alike.argmax()), count)
        regions.join(one, other)
        boxes.append(regions.box[one].copy())
        sizes.append(regions.size[one].copy())
        alike[[one, other]] = alike[:, [one, other]] = -1.0
        others = np.flatnonzero(regions.near[one])
        alike[one, others] = alike[others, one] = regions.likeness(one, others)
    return np.array(boxes), np.array(sizes)


@dataclass(frozen=True, eq=False)
class Regions:
    """Regions of one picture (K,), joined in place: the first of two becomes both, the other one has no neighbours any more."""

    size: Counts  # (K,) pixels
    box: Counts  # (K, 4) x0, y0, x1, y1 in pixels
    colour: Counts  # (K, 3 x SHADES) pixels of each shade of each Lab channel
    texture: Counts  # (K, 32) pixels of each direction and strength of the gradient
    near: NDArray[np.bool_]  # (K, K) which ones touch
    pixels: int  # of the picture

    @classmethod
    def of(cls, pixels: Pixels, labels: NDArray[np.int64]) -> Regions:
        """Picture (h, w, 3) and the segment (h, w) of each pixel -> its segments."""
        count, lab = int(labels.max()) + 1, np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB), dtype=np.uint8)
        shades = [histogram(labels, lab[..., channel] // (256 // SHADES), bins=SHADES) for channel in range(3)]
        texture = histogram(labels, gradients(lab[..., 0]), bins=8 * (len(STRENGTHS) + 1))
        near = np.zeros((count, count), dtype=bool)
        for first, second in ((labels[:, 1:], labels[:, :-1]), (labels[1:], labels[:-1])):
            border = first != second
            near[first[border], second[border]] = near[second[border], first[border]] = True
        return cls(np.bincount(labels.ravel()), outlines(labels), np.concatenate(shades, axis=1), texture, near, labels.size)

    def likeness(self, one: int | Counts, others: Counts) -> NDArray[np.float64]:
        """A region, or regions (M,), and others (M,) -> how much like it each of them is (M,), 0 to 4."""
        size, sizes = self.size[one, None], self.size[others, None]
        colour = np.minimum(self.colour[one] * sizes, self.colour[others] * size).sum(axis=1)
        texture = np.minimum(self.texture[one] * sizes, self.texture[others] * size).sum(axis=1)
        low, high = np.minimum(self.box[one, :2], self.box[others, :2]), np.maximum(self.box[one, 2:], self.box[others, 2:])
        small_and_full = 2 * self.pixels - (high - low).prod(axis=1)  # (1 - size of both) + (1 - rest of their box)
        return (colour + 3 * texture) / (3 * size * sizes)[:, 0] + small_and_full / self.pixels

    def join(self, one: int, other: int) -> None:
        """Two regions become one."""
        for counts in (self.size, self.colour, self.texture):
            counts[one] += counts[other]
        self.box[one, :2] = np.minimum(self.box[one, :2], self.box[other, :2])
        self.box[one, 2:] = np.maximum(self.box[one, 2:], self.box[other, 2:])
        self.near[one] |= self.near[other]
        self.near[other] = False
        self.near[one, [one, other]] = False
        self.near[:, one], self.near[:, other] = self.near[one], False


def histogram(labels: NDArray[np.int64], values: NDArray[np.integer], *, bins: int) -> Counts:
    """Segment (h, w) and value (h, w) of each pixel, 0 to bins - 1 -> how many pixels of each segment have each value, (K, bins)."""
    count = int(labels.max()) + 1
    return np.bincount((labels * bins + values).ravel(), minlength=count * bins).reshape(count, bins)


def gradients(light: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Lightness (h, w) -> direction (one of eight) and strength (one of four) of its gradient as one number (h, w), 0 to 31."""
    wide = np.pad(light.astype(np.int64), 1, mode="edge")
    across, down = wide[1:-1, 2:] - wide[1:-1, :-2], wide[2:, 1:-1] - wide[:-2, 1:-1]
    direction = (across > 0) + 2 * (down > 0) + 4 * (np.abs(across) > np.abs(down))
    return direction * (len(STRENGTHS) + 1) + np.digitize(np.abs(across) + np.abs(down), STRENGTHS)


def outlines(labels: NDArray[np.int64]) -> Counts:
    """The segment (h, w) of each pixel -> the box around each segment (K, 4): x0, y0, x1, y1 in pixels."""
    count, (height, width) = int(labels.max()) + 1, labels.shape
    box = np.tile([width, height, 0, 0], (count, 1))
    y, x = np.indices(labels.shape)
    for column, places, extreme in ((0, x, np.minimum), (1, y, np.minimum), (2, x + 1, np.maximum), (3, y + 1, np.maximum)):
        extreme.at(box[:, column], labels.ravel(), places.ravel())
    return box
