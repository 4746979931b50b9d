"""The true pairs in groups: by family of edits, by copied area, by severity."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from matcher.errors import MatcherError
from matcher.metrics.judged import Judged
from matcher.metrics.ranking import Array, micro_ap, narrowed
from matcher.metrics.truth import Edits

COVERED_BORDERS = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0)
Groups = dict[str, NDArray[np.bool_]]  # name -> (N,) the true pairs that belong to it


@dataclass(frozen=True)
class GroupRow:
    """How the true pairs of one group fare; NaN = not defined."""

    group: str
    positives: int  # true pairs
    recall_at_threshold: float  # share of them predicted at or above the threshold that gives P90 on the whole set
    recall_at_rank1: float
    micro_ap: float  # of these pairs, among the wrong predictions of their queries and of all copies of nothing
    median_iou: float  # of those found with a frame


def edits_of_pairs(edits: Edits, judged: Judged) -> NDArray[np.int64]:
    """The row of ``edits`` for each true pair, -1 = none: (N,). MatcherError if no pair has one: edits of another set."""
    row = {pair: n for n, pair in enumerate(zip(edits.query_id.tolist(), edits.reference_id.tolist(), strict=True))}
    rows = np.array([row.get(pair, -1) for pair in judged.pairs], dtype=np.int64)
    if len(rows) and (rows < 0).all():
        raise MatcherError(f"the edits hold no pair of the ground truth, such as {', '.join(judged.pairs[0])}: are they of another set?")
    return rows


def group_by_family(edits: Edits, rows: NDArray[np.int64]) -> Groups:
    """A pair belongs to each of its families: those of "turn+hflip" are turn and hflip."""
    families = [set(filter(None, edits.families[row].split("+"))) if row >= 0 else set() for row in rows]
    return {name: np.array([name in own for own in families]) for name in sorted(set().union(*families))}


def group_by_covered(edits: Edits, rows: NDArray[np.int64]) -> Groups:
    """Share of the query that the copied picture spans; a border belongs to the bin above it, 1 to the last."""
    covered = np.where(rows >= 0, edits.covered[rows], np.nan) if len(edits) else np.full(len(rows), np.nan)
    upper = (*COVERED_BORDERS[1:-1], np.inf)
    bins = zip(pairwise(COVERED_BORDERS), upper, strict=True)
    return {f"{low:g} - {high:g}": (covered >= low) & (covered < below) for (low, high), below in bins}


def group_by_severity(edits: Edits, rows: NDArray[np.int64]) -> Groups:
    severity = np.where(rows >= 0, edits.severity[rows], np.nan) if len(edits) else np.full(len(rows), np.nan)
    return {f"{value:g}": severity == value for value in np.unique(severity[~np.isnan(severity)])}


def measure_groups(groups: Groups, judged: Judged, *, iou: Array, threshold: float) -> tuple[GroupRow, ...]:
    """Groups of true pairs, their IoU (N,) and the threshold of the whole set -> a row for each group that is not empty."""
    nothing = (judged.ranking.positives == 0).astype(np.int64)
    rows = []
    for name, members in groups.items():
        if not members.any():
            continue
        counts = nothing.copy()
        counts[judged.pair_query[members]] = 1
        own = narrowed(judged.ranking, members[judged.hit_pair], np.bincount(judged.pair_query[members], minlength=len(counts)))
        located = iou[members & ~np.isnan(iou)]
        rows.append(
            GroupRow(
                group=name,
                positives=int(members.sum()),
                recall_at_threshold=float((judged.pair_score[members] >= threshold).mean()),
                recall_at_rank1=float((judged.pair_rank[members] < 1).mean()),
                micro_ap=float(micro_ap(own, counts)),
                median_iou=float(np.median(located)) if len(located) else np.nan,
            )
        )
    return tuple(rows)
