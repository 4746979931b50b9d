"""Where the copy is: the found region against the true one.

A found frame maps the query's unit square to the reference's; a true frame, as in edits.csv, the reference's to the query's.
The region in the query is the part of it that shows the reference, the region in the reference the part that the query shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from matcher import geometry
from matcher.metrics.ranking import Array, Integers, share

GRID = 16
EDGE = 1e-6  # a point this far outside of the unit square still belongs to it


@dataclass(frozen=True, eq=False)
class Overlaps:
    """True pairs that were found with a frame (M,): how well the frame lies. NaN = one of the two frames is absent."""

    query_iou: Array  # (M,) intersection over union of the regions in the query
    reference_iou: Array  # (M,) likewise in the reference
    iou: Array  # (M,) mean of the two
    point_error: Array  # (M,) see point_error


def measure_overlaps(found: ArrayLike, true: ArrayLike) -> Overlaps:
    """Found frames query -> reference and true frames reference -> query, (M, 3, 3) each -> their overlaps (M,)."""
    found, true = np.asarray(found, dtype=np.float64).reshape(-1, 3, 3), np.asarray(true, dtype=np.float64).reshape(-1, 3, 3)
    rows = np.array([measure_overlap(f, t) for f, t in zip(found, true, strict=True)]).reshape(-1, 3)
    return Overlaps(query_iou=rows[:, 0], reference_iou=rows[:, 1], iou=rows[:, :2].mean(axis=1), point_error=rows[:, 2])


def measure_overlap(found: Array, true: Array) -> tuple[float, float, float]:
    """Found frame query -> reference, true frame reference -> query -> IoU in the query, IoU in the reference, point error."""
    if np.isnan(found).any() or np.isnan(true).any():
        return np.nan, np.nan, np.nan
    try:
        found_back, true_forth = geometry.invert(found), geometry.invert(true)
    except np.linalg.LinAlgError:
        return 0.0, 0.0, np.nan
    in_query = shown_region(found_back, found), shown_region(true, true_forth)
    in_reference = shown_region(found, found_back), shown_region(true_forth, true)
    shared = common_part(*in_query)
    error = point_error(found, true_forth, shared)
    return polygon_iou(*in_query, shared), polygon_iou(*in_reference, common_part(*in_reference)), error


def shown_region(frame: Array, back: Array) -> Array:
    """A frame and its inverse -> the part (N, 2) of the image that the view shows.

    Where the view's plane passes the horizon inside the view, the part of the view that the image fills is mapped instead.
    """
    region = geometry.region(frame)
    if len(region):
        return region
    seen = geometry.region(back)
    return geometry.apply(frame, seen) if len(seen) else region


def common_part(first: Array, second: Array) -> Array:
    """The common part of two convex polygons (N, 2): (K, 2), K = 0 where one has no area."""
    return geometry.clip(first, second) if min(geometry.area(first), geometry.area(second)) > 0 else np.empty((0, 2))


def polygon_iou(first: Array, second: Array, common: Array) -> float:
    """Two convex polygons (N, 2) and their common part -> intersection over union, 0 to 1."""
    shared = geometry.area(common)
    return shared / (geometry.area(first) + geometry.area(second) - shared) if shared > 0 else 0.0


def point_error(found: Array, true: Array, common: Array) -> float:
    """Mean distance, in sides of the reference's unit square, between where two frames query -> reference put the same points.

    The points are a grid of 16 x 16 over ``common`` (N, 2), the part of the query that both frames call copied. A region in the
    right place with the wrong scale, turn or flip has a high IoU and a high point error. NaN where there is no such part.
    """
    if geometry.area(common) <= 0:
        return np.nan
    steps = (np.arange(GRID) + 0.5) / GRID
    grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    points = common.min(axis=0) + grid * np.ptp(common, axis=0)
    pair = geometry.apply(found, points), geometry.apply(true, points)
    inside = np.logical_and.reduce([((p >= -EDGE) & (p <= 1 + EDGE)).all(axis=1) for p in pair])
    return float(np.linalg.norm(pair[0] - pair[1], axis=1)[inside].mean()) if inside.any() else np.nan


def counted_median(values: ArrayLike, query: Integers, counts: Integers) -> Array:
    """Median (...) of ``values`` (M,), each as often as its query counts in ``counts`` (..., Q); NaN values are left out."""
    values = np.asarray(values, dtype=np.float64)
    order = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]
    upto = np.cumsum(counts[..., query[order]], axis=-1)
    if not len(order):
        return np.full(counts.shape[:-1], np.nan)
    total = upto[..., -1:]
    middle = [values[order][(upto > np.maximum(place, 0)).argmax(-1)] for place in ((total - 1) // 2, total // 2)]
    return np.where(total[..., 0] > 0, (middle[0] + middle[1]) / 2, np.nan)


def counted_share(hits: ArrayLike, query: Integers, counts: Integers) -> Array:
    """Share (...) of the rows (M,) that are hits, each row as often as its query counts; NaN without any."""
    rows = counts[..., query]
    return share((rows * np.asarray(hits, dtype=bool)).sum(-1), rows.sum(-1))
