"""Boxes found in a picture -> views, by rules of size, shape and certainty (settings.BoxRules)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from matcher.geometry import from_box
from matcher.settings import BoxRules
from matcher.types import Views


def box_views(image_id: str, boxes: ArrayLike, *, confidence: ArrayLike, kind: str, size_hw: tuple[int, int], rules: BoxRules) -> Views:
    """Id of a picture of ``size_hw`` pixels, boxes (K, 4) on its unit square, confidence (K,) -> views of the boxes that the rules keep."""
    found, sure = np.asarray(boxes, dtype=np.float64).reshape(-1, 4), np.asarray(confidence, dtype=np.float32)
    rows = thin_out(found, sure, rows=allowed(found, sure, size_hw=size_hw, rules=rules), rules=rules)
    return Views(
        image_id=np.array([image_id] * len(rows), dtype=np.str_),
        frame=np.array([from_box(*box) for box in found[rows].tolist()]).reshape(-1, 3, 3),
        kind=np.array([kind] * len(rows), dtype=np.str_),
        confidence=sure[rows],
    )


def allowed(boxes: NDArray[np.float64], confidence: NDArray[np.float32], *, size_hw: tuple[int, int], rules: BoxRules) -> NDArray[np.int64]:
    """Boxes (K, 4) and confidence (K,) -> rows of those whose size, shape and confidence the rules allow. None without area is."""
    sides = boxes[:, 2:] - boxes[:, :2]
    share, pixels = sides.prod(axis=1), sides * (size_hw[1], size_hw[0])
    shorter, longer = pixels.min(axis=1), pixels.max(axis=1)
    good = (sides > 0).all(axis=1) & (confidence >= rules.confidence) & (shorter >= rules.shorter_side)
    good &= (share >= rules.least_share) & (share < rules.largest_share)
    if rules.aspect is not None:
        good &= longer <= rules.aspect * shorter
    return np.flatnonzero(good)


def thin_out(boxes: NDArray[np.float64], confidence: NDArray[np.float32], *, rows: NDArray[np.int64], rules: BoxRules) -> list[int]:
    """Boxes (K, 4), confidence (K,) and rows of them -> the rows kept, the most certain first, none much like one before it."""
    kept: list[int] = []
    for row in rows[np.argsort(-confidence[rows], kind="stable")].tolist():
        if len(kept) == rules.most:
            break
        if (overlaps(boxes[row], boxes[kept]) <= rules.overlap).all():
            kept.append(row)
    return kept


def overlaps(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """A box (4,) and others (K, 4), all with an area -> their intersection over union (K,)."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = (high - low).clip(0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    return common / ((box[2:] - box[:2]).prod() + areas - common)
