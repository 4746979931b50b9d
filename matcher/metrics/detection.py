"""Boxes found in pictures, held against the true ones: which are right, and what share is found at a precision.

A found box is right if it overlaps a true box of its picture enough that no more certain one has taken (as COCO does it).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from matcher.metrics.ranking import Ranking, rank_predictions

Array = NDArray[np.float64]


def rank_boxes(found: Sequence[ArrayLike], confidence: Sequence[ArrayLike], truth: Sequence[ArrayLike], *, iou: float = 0.5) -> Ranking:
    """Found boxes (K, 4), their confidence (K,) and true boxes (M, 4) of each picture -> the ranking of all found boxes.

    ``recall_at_precision`` and ``micro_ap`` of metrics.ranking read it; true boxes that nobody found count against us.
    """
    right = [match_boxes(f, c, t, iou=iou) for f, c, t in zip(found, confidence, truth, strict=True)]
    picture = np.repeat(np.arange(len(right)), [len(rows) for rows in right])
    positives = np.array([len(np.asarray(boxes).reshape(-1, 4)) for boxes in truth], dtype=np.int64)
    score = np.concatenate([np.empty(0), *(np.asarray(c, dtype=np.float64).reshape(-1) for c in confidence)])
    return rank_predictions(picture, score, np.concatenate([np.empty(0, bool), *right]), positives=positives)


def match_boxes(found: ArrayLike, confidence: ArrayLike, truth: ArrayLike, *, iou: float = 0.5) -> NDArray[np.bool_]:
    """Found boxes (K, 4) of one picture, their confidence (K,), true boxes (M, 4) -> which of the found ones are right (K,).

    The most certain box takes the true one that it overlaps most, among those that are free; of equals, the first one.
    """
    overlap = box_iou(found, truth)
    right = np.zeros(len(overlap), dtype=bool)
    if not overlap.size:
        return right
    for row in np.argsort(-np.asarray(confidence, dtype=np.float64), kind="stable"):
        best = int(overlap[row].argmax())
        if overlap[row, best] >= iou:
            right[row] = True
            overlap[:, best] = -1.0
    return right


def box_iou(first: ArrayLike, second: ArrayLike) -> Array:
    """Boxes (N, 4) and (M, 4), x0, y0, x1, y1 -> intersection over union (N, M), 0 where both are empty."""
    a, b = (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) for boxes in (first, second))
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = (high - low).clip(0).prod(axis=-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=-1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1][None, :] - common
    return common / np.where(union > 0, union, 1.0)
