"""A pair of pictures and the frame between them -> how well their pixels agree where both show the same.

Keypoints cannot tell another photo of the same scene, or the same template around another picture, from a copy; pixels can.
Local normalised correlation forgives changes of brightness, contrast and colour, and its median what was pasted over.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from matcher.geometry import Array, compose, from_box, invert, region
from matcher.views.render import render_with_mask

BLOCK = 15  # pixels a side of the window that is correlated
TEXTURE = 20.0  # grey-level variance below which a window says nothing
AGREES = 0.7  # correlation from which a window counts as agreeing


def pixel_agreement(query: NDArray[np.uint8], reference: NDArray[np.uint8], frame: Array, *, side: int) -> tuple[float, float]:
    """RGB pictures and frame query -> reference: median correlation (-1 to 1) and the share (0 to 1) of windows that agree.

    NaN, NaN where they have no common region of any size, or it has no texture.
    """
    seen = region(frame)
    if len(seen) < 3 or (np.ptp(seen, axis=0) < 0.02).any():
        return np.nan, np.nan
    box = from_box(*seen.min(axis=0), *seen.max(axis=0))
    even_wh = np.ptp(seen, axis=0) * reference.shape[1::-1]
    width, height = np.maximum(np.round(side * even_wh / even_wh.max()), 8).astype(int)
    first, first_valid = render_with_mask(query, compose(invert(frame), box), (height, width))
    second, second_valid = render_with_mask(reference, box, (height, width))
    return correlate(grey(first), grey(second), (first_valid & second_valid).astype(np.float32))


def grey(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """RGB -> slightly smoothed luminance (h, w), so that half a pixel of misalignment does not matter."""
    luminance = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(luminance, (0, 0), 1.2), dtype=np.float32)


def correlate(first: NDArray[np.float32], second: NDArray[np.float32], valid: NDArray[np.float32]) -> tuple[float, float]:
    """Correlation of every window of two grey pictures (h, w), over its valid pixels: median, and share above AGREES."""

    def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return cv2.boxFilter(values * valid, -1, (BLOCK, BLOCK)) / count

    count = cv2.boxFilter(valid, -1, (BLOCK, BLOCK)) + 1e-6
    mean_first, mean_second = mean(first), mean(second)
    variance_first, variance_second = mean(first * first) - mean_first**2, mean(second * second) - mean_second**2
    covariance = mean(first * second) - mean_first * mean_second
    telling = (variance_second > TEXTURE) & (count > 0.5) & (valid > 0)
    if np.count_nonzero(telling) < 30:
        return np.nan, np.nan
    both = np.sqrt(np.maximum(variance_first[telling], 4) * np.maximum(variance_second[telling], 4))
    values = covariance[telling] / both
    return float(np.median(values)), float((values > AGREES).mean())
