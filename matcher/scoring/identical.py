"""A pair -> whether both are the same whole picture: the same file, the same pixels, or the same but re-saved or resized."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from matcher import geometry
from matcher.features import THUMBNAIL
from matcher.scoring.agreement import pixel_agreement
from matcher.types import Pictures

CLOSE = 3.0  # root mean square difference of thumbnails, in levels of 255
SAME_SHAPE = 0.03  # allowed difference of the natural logs of width / height
AGREE = 0.9  # median correlation of the pixels; pictures without texture have none and must be closer still
PLAIN = 2.0  # JPEG moves a flat colour by one level or two


def is_identical(query: Pictures, reference: Pictures) -> bool:
    """Pictures of one row each: equal files or equal decoded pixels."""
    return bool(query.file_key[0] == reference.file_key[0] or query.pixel_key[0] == reference.pixel_key[0])


def could_be_untouched(query: Pictures, reference: Pictures) -> bool:
    """Whether thumbnails and shapes are so alike that the pixels are worth a look."""
    shapes = [np.log(p.width[0] / p.height[0]) for p in (query, reference)]
    return bool(abs(shapes[0] - shapes[1]) < SAME_SHAPE and excess(query, reference) < CLOSE)


def is_untouched(query: Pictures, reference: Pictures, images: tuple[NDArray[np.uint8], NDArray[np.uint8]], *, side: int) -> bool:
    """Whether pictures with alike thumbnails also agree pixel by pixel when laid over each other."""
    correlation, _ = pixel_agreement(*images, geometry.identity(), side=side)
    return bool(correlation > AGREE) if np.isfinite(correlation) else distance(query, reference) < PLAIN


def distance(query: Pictures, reference: Pictures) -> float:
    """Root mean square difference of the two thumbnails, in levels of 255."""
    difference = query.thumbnail[0].astype(np.float32) - reference.thumbnail[0].astype(np.float32)
    return float(np.sqrt((difference**2).mean()))


def excess(query: Pictures, reference: Pictures) -> float:
    """Root mean square of what the query's thumbnail exceeds the reference's range over 3 x 3 cells by, in levels of 255.

    Small pictures and sharp drawings, resized, differ much where an edge falls between two cells, but not by this.
    """
    here, there = (p.thumbnail[0].reshape(THUMBNAIL, THUMBNAIL, 3) for p in (query, reference))
    around = np.ones((3, 3), np.uint8)
    beyond = cv2.subtract(here, cv2.dilate(there, around)), cv2.subtract(cv2.erode(there, around), here)
    return float(np.sqrt((np.maximum(*beyond).astype(np.float32) ** 2).mean()))
