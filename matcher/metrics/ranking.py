"""One list of predictions over all queries, judged as in the Image Similarity Challenge 2021.

Ties count against us, true pairs that were never predicted stay in the denominator, predictions for copies of nothing
are wrong. Every metric takes ``counts``, how often each query counts (..., Q) whole numbers: absent = once each, a row of a
bootstrap = its resample, zeros and ones = a subset; the result has the leading shape and equals that of a list in which
the query and its rows are repeated under new names.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ranking:
    """Predictions, best first, the wrong ones before the right ones where scores are equal. P predictions, Q queries."""

    query: Integers  # (P,) which query, 0 to Q - 1
    score: Array  # (P,) descending
    right: NDArray[np.bool_]  # (P,) the pair is a true one
    rank: Integers  # (P,) wrong predictions of the same query with at least this score, itself left out
    row: Integers  # (P,) row in the list that was ranked
    positives: Integers  # (Q,) true pairs of each query, predicted or not


@dataclass(frozen=True, eq=False)
class Curve:
    """Precision and recall of "everything with at least this score", one point for each score that occurs, highest first."""

    recall: Array  # (S,)
    precision: Array  # (S,)
    threshold: Array  # (S,)


def rank_predictions(query: ArrayLike, score: ArrayLike, right: ArrayLike, *, positives: ArrayLike) -> Ranking:
    """Predictions (P,) in any order and the number of true pairs of each query (Q,) -> their ranking.

    ValueError if a score is NaN or a query holds more right predictions than it has true pairs.
    """
    query, right = np.asarray(query, dtype=np.int64), np.asarray(right, dtype=bool)
    score, positives = np.asarray(score, dtype=np.float64), np.asarray(positives, dtype=np.int64)
    if np.isnan(score).any():
        raise ValueError(f"the score of prediction {int(np.isnan(score).argmax())} is not a number")
    if (np.bincount(query[right], minlength=len(positives)) > positives).any():
        raise ValueError("a query has more right predictions than true pairs")
    row = np.lexsort((right, -score))
    query, score, right = query[row], score[row], right[row]
    return Ranking(query=query, score=score, right=right, rank=ranks_within_query(query, score, right), row=row, positives=positives)


def ranks_within_query(query: Integers, score: Array, right: NDArray[np.bool_]) -> Integers:
    """Predictions (P,), best first -> for each one how many other wrong ones of its query have at least its score (P,).

    The right ones do not push each other down: a query of several references can have all of them at the first rank
    (the "filtered" ranks of Bordes et al. 2013).
    """
    order = np.argsort(query, kind="stable")
    grouped, scores, wrong = query[order], score[order], ~right[order]
    place = np.arange(len(order))
    starts = np.r_[True, grouped[1:] != grouped[:-1]][: len(order)]
    first_of_query = np.maximum.accumulate(np.where(starts, place, 0)) if len(order) else place
    ends = np.flatnonzero(np.r_[starts[1:] | (scores[1:] != scores[:-1]), True][: len(order)])
    last_of_tie = ends[np.searchsorted(ends, place)] if len(order) else place
    upto = np.cumsum(wrong)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = upto[last_of_tie] - upto[first_of_query] + wrong[first_of_query] - wrong
    return rank


def narrowed(ranking: Ranking, kept: NDArray[np.bool_], positives: ArrayLike) -> Ranking:
    """The ranking without the right predictions that ``kept`` (H,) is False for, best first, and what is then to be found (Q,)."""
    rows = ~ranking.right
    rows[ranking.right] = kept
    return Ranking(
        query=ranking.query[rows],
        score=ranking.score[rows],
        right=ranking.right[rows],
        rank=ranking.rank[rows],
        row=ranking.row[rows],
        positives=np.asarray(positives, dtype=np.int64),
    )


def micro_ap(ranking: Ranking, counts: ArrayLike | None = None) -> Array:
    """Micro average precision (...): the mean over all true pairs of the precision where the list reaches them, 0 if never.

    This is sum_i (recall_i - recall_(i-1)) * precision_i without interpolation; NaN where there is no true pair.
    """
    counts = as_counts(ranking, counts)
    own, found, wrong = true_steps(ranking, counts)
    total = np.zeros(own.shape)
    before = found - own
    for copy in range(1, int(own.max(initial=0)) + 1):
        total += np.where(own >= copy, (before + copy) / np.maximum(before + copy + wrong, 1), 0.0)
    return share(total.sum(-1), counts @ ranking.positives)


def recall_at_precision(ranking: Ranking, precision: float = 0.9, counts: ArrayLike | None = None) -> tuple[Array, Array]:
    """The largest recall (...) at a precision of at least ``precision`` anywhere on the curve, and the score where it is reached.

    Recall 0 and threshold NaN where no point of the curve has that precision.
    """
    counts = as_counts(ranking, counts)
    _, found, wrong = true_steps(ranking, counts)
    precise = (found > 0) & (found / np.maximum(found + wrong, 1) >= precision)
    reached = np.where(precise, found, 0)
    best = reached.max(axis=-1, initial=0)
    thresholds = np.r_[ranking.score[ranking.right], np.nan]
    first = np.where(best > 0, (precise & (reached == best[..., None])).argmax(-1) if found.shape[-1] else -1, -1)
    return share(best, counts @ ranking.positives), thresholds[first]


def recall_at_rank(ranking: Ranking, k: int, counts: ArrayLike | None = None) -> Array:
    """Share of the true pairs that fewer than ``k`` wrong predictions of their query precede (...), equal scores counted before them."""
    counts = as_counts(ranking, counts)
    within = ranking.right & (ranking.rank < k)
    hits = np.bincount(ranking.query[within], minlength=len(ranking.positives))
    return share(counts @ hits, counts @ ranking.positives)


def precision_recall_curve(ranking: Ranking) -> Curve:
    """Ranking -> the points of its precision-recall curve, for drawing and for choosing a threshold."""
    last = np.flatnonzero(np.r_[ranking.score[1:] != ranking.score[:-1], True][: len(ranking.score)])
    found = np.cumsum(ranking.right)[last]
    return Curve(recall=share(found, ranking.positives.sum()), precision=found / (last + 1), threshold=ranking.score[last])


def as_counts(ranking: Ranking, counts: ArrayLike | None) -> Integers:
    return np.ones(len(ranking.positives), dtype=np.int64) if counts is None else np.asarray(counts, dtype=np.int64)


def true_steps(ranking: Ranking, counts: Integers) -> tuple[Integers, Integers, Integers]:
    """At each right prediction, (..., H) each: its own count, right ones up to and with it, wrong ones before it."""
    rows = counts[..., ranking.query]
    wrong = np.cumsum(np.where(ranking.right, 0, rows), axis=-1)[..., ranking.right]
    own = rows[..., ranking.right]
    return own, np.cumsum(own, axis=-1), wrong


def share(part: ArrayLike, whole: ArrayLike) -> Array:
    """part / whole, NaN where the whole is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(part, dtype=np.float64) / np.where(np.asarray(whole) > 0, whole, np.nan)
