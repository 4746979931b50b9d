"""Pictures that are settled before anything is matched: the same bytes, the same pixels, or the whole picture saved again or resized."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from matcher.features import THUMBNAIL
from matcher.types import Pictures

CLOSE = 6.0  # root mean square difference of thumbnails, in levels of 255
SAME_SHAPE = 0.03  # allowed difference of the natural logs of width / height, besides the rounding of sides to pixels
LONGEST = 768  # both pictures are compared at the size of the smaller one, and at most at this longer side
WINDOW = 16  # side of the windows they are compared in, in pixels; smaller in small pictures
STRUCTURE = 6.0**2  # variance of a window, in squared levels, from which it says something
PLAIN = 2.0**2  # squared difference that saving again may make in soft gradients
STRONG = 15.0**2  # and from which JPEG cannot have destroyed it
DIFFERENT = 0.2  # squared difference over variance, summed over all windows with structure, from which they show different things
APART = 0.6  # the same of one window
FEW = 0.05  # share of the strong windows that may be apart


def is_identical(query: Pictures, reference: Pictures) -> bool:
    """Rows (1,) of both sides -> same bytes or same decoded pixels."""
    return bool(query.file_key[0] == reference.file_key[0] or query.pixel_key[0] == reference.pixel_key[0])


def could_be_untouched(query: Pictures, reference: Pictures) -> bool:
    """Whether thumbnails and shapes are so alike that the pixels are worth a look."""
    shapes = [np.log(p.width[0] / p.height[0]) for p in (query, reference)]
    rounding = max(0.5 / p.width[0] + 0.5 / p.height[0] for p in (query, reference))
    return bool(abs(shapes[0] - shapes[1]) < SAME_SHAPE + rounding and excess(query, reference) < CLOSE)


def is_untouched(query: NDArray[np.uint8], reference: NDArray[np.uint8]) -> bool:
    """RGB (H, W, 3) of pictures that could be untouched -> whether one is the whole other one, saved again or resized.

    Blank pages of one colour and shape are all the same picture: of them nobody can say more.
    """
    first, second = bring_together(query, reference)
    window = int(np.clip(min(first.shape[:2]) // 6, 2, WINDOW))
    structure = np.maximum(variance(first, window), variance(second, window))
    difference = tiles((first - second) ** 2, window)
    telling, strong = structure > STRUCTURE, structure > STRONG
    if not telling.any():  # flat colours and soft gradients
        return bool(difference.mean() < PLAIN)
    if difference[telling].sum() > DIFFERENT * structure[telling].sum():
        return False
    return bool(np.count_nonzero(difference[strong] > APART * structure[strong]) <= FEW * np.count_nonzero(strong))


def bring_together(*images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Two RGB pictures -> the luminance (h, w) of both at the size of the smaller one, smoothed a little: resizing has many ways."""
    height, width = min((image.shape[:2] for image in images), key=lambda size: size[0] * size[1])
    scale = min(1.0, LONGEST / max(height, width))
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    grey = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) for image in images)
    small = (cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in grey)
    return [np.asarray(cv2.GaussianBlur(image, (0, 0), 0.8), dtype=np.float32) for image in small]


def tiles(values: NDArray[np.float32], window: int) -> NDArray[np.float32]:
    """(H, W) -> means over windows that overlap by half: (h, w)."""
    means = cv2.boxFilter(values, -1, (window, window), borderType=cv2.BORDER_REFLECT)
    return np.asarray(means[:: max(window // 2, 1), :: max(window // 2, 1)])


def variance(image: NDArray[np.float32], window: int) -> NDArray[np.float32]:
    """(H, W) -> variance of the values in each window: (h, w)."""
    mean = cv2.boxFilter(image, -1, (window, window), borderType=cv2.BORDER_REFLECT)
    return tiles((image - mean) ** 2, window)


def excess(query: Pictures, reference: Pictures) -> float:
    """Root mean square of what the query's thumbnail exceeds the reference's range over 3 x 3 cells by, in levels of 255.

    Small pictures and sharp drawings, resized, differ much where an edge falls between two cells, but not by this.
    """
    here, there = (p.thumbnail[0].reshape(THUMBNAIL, THUMBNAIL, 3) for p in (query, reference))
    around = np.ones((3, 3), np.uint8)
    beyond = cv2.subtract(here, cv2.dilate(there, around)), cv2.subtract(cv2.erode(there, around), here)
    return float(np.sqrt((np.maximum(*beyond).astype(np.float32) ** 2).mean()))
