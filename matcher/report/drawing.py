"""Outlines of a found region: the same part in both pictures, with numbered marks at matching corners."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from matcher import geometry
from matcher.metrics.location import common_part, shown_region

Array = NDArray[np.float64]
PUSH = 5.0  # thumbnail pixels by which marks stand outside the outline
APART = 0.2  # share of the smaller of two regions: with less in common they are different parts
SMALLEST = 1e-6  # share of a picture below which there is nothing to outline


@dataclass(frozen=True)
class Outline:
    """A polygon in thumbnail pixels, as SVG ``points``, and its marks: (number, x, y). ``is_learned``: a pair model found it."""

    points: str
    marks: tuple[tuple[int, str, str], ...]
    is_learned: bool = False


def outline_pair(frame: Array, query_size: tuple[int, int], reference_size: tuple[int, int]) -> tuple[Outline | None, Outline | None]:
    """Frame query -> reference (3, 3) and thumbnail sizes (width, height) -> outlines in the query and in the reference.

    The query's outline is where the reference is seen, the reference's is the part that the query shows. The corners of the
    one are the corners of the other under the frame; up to four are numbered clockwise as they lie in the reference, from its
    top left, so a turned copy starts elsewhere and a mirrored one runs backwards. (None, None) without a usable frame.
    """
    if not np.isfinite(frame).all() or abs(np.linalg.det(frame)) < 1e-12:
        return None, None
    backwards = geometry.invert(frame)
    in_query, in_reference = shown_region(backwards, frame), shown_region(frame, backwards)
    if min(geometry.area(in_query), geometry.area(in_reference)) < SMALLEST:
        return None, None
    marks = choose_corners(in_reference)
    return draw_outline(in_query, geometry.apply(backwards, marks), query_size), draw_outline(in_reference, marks, reference_size)


def are_apart(frame: Array, other: Array) -> bool:
    """Frames of one query to two references (3, 3; NaN = none) -> whether they are seen in different parts of it."""
    regions = []
    for one in (frame, other):
        if not np.isfinite(one).all() or abs(np.linalg.det(one)) < 1e-12:
            return False
        regions.append(shown_region(geometry.invert(one), one))
    smaller = min(map(geometry.area, regions))
    return smaller > 0 and geometry.area(common_part(*regions)) < APART * smaller


def choose_corners(polygon: Array) -> Array:
    """Convex polygon (N, 2) -> its up to four corners that span the largest area, clockwise from the top left one."""
    corners = polygon[[np.abs(polygon[:i] - point).max(initial=0, axis=1).min(initial=1) > 1e-6 for i, point in enumerate(polygon)]]
    if len(corners) > 4:
        corners = corners[list(max(combinations(range(len(corners)), 4), key=lambda four: geometry.area(corners[list(four)])))]
    if geometry.signed_area(corners) < 0:
        corners = corners[::-1]
    return np.roll(corners, -int(np.argmin(corners.sum(axis=1))), axis=0)


def draw_outline(polygon: Array, marks: Array, size: tuple[int, int]) -> Outline:
    """Polygon (N, 2) and marks (M, 2) on the unit square, thumbnail size (width, height) -> an outline in pixels."""
    scaled, placed = polygon * size, marks * size
    away = placed - scaled.mean(axis=0)
    placed = placed + PUSH * away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)
    return Outline(
        " ".join(f"{number(x)},{number(y)}" for x, y in scaled),
        tuple((i, number(x), number(y)) for i, (x, y) in enumerate(np.clip(placed, -PUSH, np.add(size, PUSH)), 1)),
    )


def number(value: float) -> str:
    """A coordinate with at most one decimal: 12.3, 12, 0."""
    return f"{round(float(value), 1) + 0.0:.1f}".removesuffix(".0")
