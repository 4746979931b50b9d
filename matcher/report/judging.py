"""Which predictions a page shows, and what a ground truth says about them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matcher.metrics.ranking import Ranking, recall_at_precision
from matcher.metrics.truth import GroundTruth
from matcher.types import Predictions

Pair = tuple[str, str]
DEFAULT_THRESHOLD = 0.5
PROBABLE = 0.5
ENDS = (0.0, 0.001, 0.002, 0.005, 0.995, 0.998, 0.999, 1.0)  # steps of the slider beside the hundredths


@dataclass(frozen=True)
class Counts:
    """What lies at or above each threshold, over all predictions, shown on the page or not. T thresholds, ascending."""

    thresholds: list[float]
    predictions: list[int]
    right: list[int]
    wrong: list[int]
    true_pairs: int


def order_rows(predictions: Predictions) -> NDArray[np.int64]:
    """Rows (P,) of the predictions, most probable first, equal ones by their ids."""
    return np.lexsort((predictions.reference_id, predictions.query_id, -predictions.probability))


def choose_rows(predictions: Predictions, *, limit: int) -> NDArray[np.int64]:
    """The at most ``limit`` rows to show, most probable first.

    The best of each query and all that are probable (a query may be a copy of several references) come before the others.
    """
    rows = order_rows(predictions)
    _, best = np.unique(predictions.query_id[rows], return_index=True)
    others = predictions.probability[rows] < PROBABLE
    others[best] = False
    kept = np.sort(np.concatenate([np.flatnonzero(~others), np.flatnonzero(others)])[:limit])
    return rows[kept]


def judge(predictions: Predictions, truth: GroundTruth | None) -> list[str]:
    """ "right" or "wrong" for each prediction (P,), "" without a truth or where the truth does not list the query."""
    if truth is None:
        return [""] * len(predictions)
    pairs, judged = set(truth.pairs()), set(truth.queries())
    return ["" if pair[0] not in judged else "right" if pair in pairs else "wrong" for pair in pairs_of(predictions)]


def find_missed(predictions: Predictions, truth: GroundTruth, *, threshold: float) -> list[tuple[Pair, int | None]]:
    """True pairs below the threshold with their rows, most probable first, then those never predicted (None), by their ids."""
    rows, pairs = {pair: row for row, pair in enumerate(pairs_of(predictions))}, truth.pairs()
    below = [(pair, row) for pair in pairs if (row := rows.get(pair)) is not None and predictions.probability[row] < threshold]
    never: list[tuple[Pair, int | None]] = [(pair, None) for pair in sorted(pairs) if pair not in rows]
    return [*sorted(below, key=lambda found: (-predictions.probability[found[1]], found[0])), *never]


def true_references(truth: GroundTruth | None) -> dict[str, list[str]]:
    """Query ids -> the references they are true copies of; copies of nothing are not listed."""
    found: dict[str, list[str]] = {}
    for query, reference in truth.pairs() if truth else []:
        found.setdefault(query, []).append(reference)
    return found


def choose_threshold(ranking: Ranking | None) -> float:
    """Where the page opens: 0 without a truth, else where the precision is 0.9 at the largest recall, else one half."""
    if ranking is None:
        return 0.0
    threshold = float(recall_at_precision(ranking)[1])
    return DEFAULT_THRESHOLD if np.isnan(threshold) else threshold


def count(predictions: Predictions, truth: GroundTruth | None, *, threshold: float) -> Counts:
    """Predictions, and right and wrong ones, at each step of the threshold slider; ``threshold`` itself is one of the steps."""
    steps = {*ENDS, *(i / 100 for i in range(1, 100)), threshold}
    thresholds, states = np.array(sorted(steps)), np.array(judge(predictions, truth))

    def above(chosen: NDArray[np.bool_]) -> list[int]:
        ascending = np.sort(predictions.probability[chosen])
        return (len(ascending) - np.searchsorted(ascending, thresholds, side="left")).tolist()

    return Counts(
        thresholds=thresholds.tolist(),
        predictions=above(np.ones(len(predictions), dtype=bool)),
        right=above(states == "right"),
        wrong=above(states == "wrong"),
        true_pairs=len(truth.pairs()) if truth else 0,
    )


def pairs_of(predictions: Predictions) -> list[Pair]:
    return list(zip(predictions.query_id.tolist(), predictions.reference_id.tolist(), strict=True))
