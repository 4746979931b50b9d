"""Keypoints of a pair -> how many match, without geometry: imgFp's score (Sun et al. 2021). Evidence, and no frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from matcher.models.sift import LocalFeatures
from matcher.settings import MatchCountSettings

NAMES = ("match_count",)
Ints = NDArray[np.int64]


def judge(looks: Sequence[LocalFeatures], reference: LocalFeatures, settings: MatchCountSettings) -> dict[str, float]:
    """Keypoints of the query and of its crop, if it has one, and those of the reference -> evidence by name.

    match_count: matches, summed over the looks at the query.
    """
    return {"match_count": float(sum(count_matches(look, reference, settings) for look in looks))}


def count_matches(query: LocalFeatures, reference: LocalFeatures, settings: MatchCountSettings) -> int:
    """Keypoints of a pair -> matches of the query or of its mirror image, whichever has more."""
    places = cells(query, settings.cells), cells(reference, settings.cells)
    return max(count_places(*find_matches(rows, reference.rows, settings.distinct), *places) for rows in (query.rows, query.mirrored.rows))


def find_matches(query: NDArray[np.uint8], reference: NDArray[np.uint8], distinct: float) -> tuple[Ints, Ints]:
    """Descriptors (Q, 128), (R, 128) -> the matches (M,), the closest first, as rows of the query and of the reference.

    Every reference keypoint is held against its two nearest query keypoints (Lowe 2004, section 7.1). Sums of products of uint8
    stay below 2 ** 24, so float32 holds them exactly.
    """
    if len(query) < 2 or not len(reference):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    here, there = query.astype(np.float32), reference.astype(np.float32)
    squared = (there**2).sum(1)[:, None] + (here**2).sum(1) - 2 * (there @ here.T)  # (R, Q)
    nearest = squared.argmin(axis=1)
    first, second = np.partition(squared, 1, axis=1)[:, :2].T.astype(np.float64)
    found = np.flatnonzero(distinct * first < second)
    found = found[np.argsort(first[found], kind="stable")]
    return nearest[found], found


def count_places(query_rows: Ints, reference_rows: Ints, query_cells: Ints, reference_cells: Ints) -> int:
    """Matches (M,) and the cells of all keypoints -> how many are left when each place in the reference, then in the query, counts once."""
    _, first = np.unique(reference_cells[reference_rows], return_index=True)
    return len(np.unique(query_cells[query_rows[first]]))


def cells(features: LocalFeatures, count: int) -> Ints:
    """Keypoints (K,) -> the number of the cell that each lies in."""
    return np.round(features.even * count).astype(np.int64) @ np.array([1 << 20, 1])
