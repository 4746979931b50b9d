"""Predictions held against the ground truth: the one place where a prediction becomes right or wrong."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matcher.metrics.calibration import Forecasts, sort_forecasts
from matcher.metrics.predicted import ScoredPairs
from matcher.metrics.ranking import Array, Integers, Ranking, rank_predictions
from matcher.metrics.truth import GroundTruth

logger = logging.getLogger("matcher")


@dataclass(frozen=True, eq=False)
class Judged:
    """What every metric needs. Q queries, N true pairs, P predictions for those queries."""

    pairs: list[tuple[str, str]]  # N (query id, reference id)
    pair_query: Integers  # (N,) 0 to Q - 1
    pair_score: Array  # (N,) NaN = never predicted
    pair_rank: Array  # (N,) see Ranking.rank, inf = never predicted
    pair_frame: NDArray[np.float64]  # (N, 3, 3) predicted, query -> reference, NaN = none
    hit_pair: Integers  # (H,) 0 to N - 1, the true pair of each right prediction of the ranking, best first
    ranking: Ranking
    forecasts: Forecasts
    dropped: int  # predictions for queries that the ground truth does not list

    @property
    def found(self) -> NDArray[np.bool_]:
        """(N,) the true pair is among the predictions, at whatever score."""
        return ~np.isnan(self.pair_score)


def judge(predictions: ScoredPairs, truth: GroundTruth) -> Judged:
    """Predictions and ground truth -> which are right. Predictions for queries that are not listed are left out and counted."""
    number = {query_id: q for q, query_id in enumerate(truth.queries())}
    pairs = truth.pairs()
    pair_number = {pair: n for n, pair in enumerate(pairs)}
    query_ids, reference_ids = predictions.query_id.tolist(), predictions.reference_id.tolist()
    query = np.array([number.get(query_id, -1) for query_id in query_ids], dtype=np.int64)
    pair = np.array([pair_number.get(both, -1) for both in zip(query_ids, reference_ids, strict=True)], dtype=np.int64)
    kept = np.flatnonzero(query >= 0)
    if len(query) and not len(kept):
        logger.warning("no prediction is for a query of the ground truth: do the ids match (%s and %s)?", query_ids[0], next(iter(number)))
    pair_query = np.array([number[query_id] for query_id, _ in pairs], dtype=np.int64)
    ranking = rank_predictions(
        query[kept], predictions.score[kept], pair[kept] >= 0, positives=np.bincount(pair_query, minlength=len(number))
    )
    hits = kept[ranking.row[ranking.right]]
    pair_score, pair_rank = np.full(len(pairs), np.nan), np.full(len(pairs), np.inf)
    pair_frame = np.full((len(pairs), 3, 3), np.nan)
    pair_score[pair[hits]] = predictions.score[hits]
    pair_rank[pair[hits]] = ranking.rank[ranking.right]
    pair_frame[pair[hits]] = predictions.frame[hits]
    forecasts = sort_forecasts(query[kept], predictions.probability[kept], pair[kept] >= 0, queries=len(number))
    return Judged(pairs, pair_query, pair_score, pair_rank, pair_frame, pair[hits], ranking, forecasts, dropped=len(query) - len(kept))
