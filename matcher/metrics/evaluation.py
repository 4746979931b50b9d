"""Everything that is said about a list of predictions, in one call."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from matcher.errors import MatcherError
from matcher.metrics import calibration, location, ranking
from matcher.metrics.bootstrap import Interval, Measure, bootstrap, difference
from matcher.metrics.calibration import ReliabilityBin
from matcher.metrics.groups import GroupRow, edits_of_pairs, group_by_covered, group_by_family, group_by_severity, measure_groups
from matcher.metrics.judged import Judged, judge
from matcher.metrics.location import Overlaps, measure_overlaps
from matcher.metrics.predicted import ScoredPairs
from matcher.metrics.ranking import Array, Integers
from matcher.metrics.truth import Edits, GroundTruth
from matcher.types import Predictions


@dataclass(frozen=True)
class Location:
    """Where the found true pairs lie, over those with a frame; see metrics.location."""

    found: int  # true pairs that were predicted, at whatever score
    without_frame: int  # of those
    median_iou: Interval  # mean of the IoU in the query and in the reference
    share_iou_half: Interval  # share with an IoU of at least 0.5
    median_query_iou: Interval
    median_reference_iou: Interval
    median_point_error: Interval  # in sides of the reference, where the two regions meet


@dataclass(frozen=True)
class Sources:
    """The queries that are copies of several references, and how many of these are found at or above threshold_at_p90."""

    queries: int
    pairs: int  # their true pairs
    recall_of_sources: Interval  # share of these pairs that is found
    all_sources: Interval  # share of these queries of which all references are found


@dataclass(frozen=True)
class Evaluation:
    """How good a list of predictions is, with 95 % intervals from resampling the queries; NaN = not defined."""

    queries: int
    queries_without_match: int
    positives: int  # true pairs
    predictions: int
    dropped: int  # predictions for queries that the ground truth does not list, left out
    micro_ap: Interval
    recall_at_p90: Interval
    threshold_at_p90: float  # NaN = precision 0.9 is never reached
    recall_at_rank1: Interval
    recall_at_rank10: Interval
    calibration_error: Interval
    brier: Interval
    reliability: tuple[ReliabilityBin, ...]
    several: Sources | None  # None = every query has at most one reference
    location: Location | None  # None = no edits given, as the tables below
    by_family: tuple[GroupRow, ...]
    by_covered: tuple[GroupRow, ...]
    by_severity: tuple[GroupRow, ...]
    resamples: int
    seed: int

    def as_dict(self) -> dict[str, Any]:
        """The same as plain dicts, lists, numbers and None (for NaN), ready for JSON."""
        return without_nan(asdict(self))

    def __str__(self) -> str:
        from matcher.metrics.summary import summarise

        return summarise(self)


def evaluate(
    predictions: str | Path | ScoredPairs | Predictions,
    ground_truth: str | Path | GroundTruth,
    *,
    edits: str | Path | Edits | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Predictions and ground truth (and how the copies were made) -> evaluation, judged as in the challenge of 2021.

    Files are as in ScoredPairs.read, GroundTruth.read and Edits.read; MatcherError says what is wrong with them.
    """
    judged = judge_known(as_pairs(predictions), as_truth(ground_truth))
    known = as_edits(edits)
    rows = edits_of_pairs(known, judged) if known is not None else np.full(len(judged.pairs), -1)
    overlaps = overlaps_of_pairs(judged, known, rows)
    queries = len(judged.ranking.positives)
    values = bootstrap(measure_all(judged, overlaps), queries, resamples=resamples, seed=seed, rows=len(judged.ranking.query))
    threshold = float(ranking.recall_at_precision(judged.ranking)[1])
    groupings = (group_by_family, group_by_covered, group_by_severity)
    tables = [
        measure_groups(group(known, rows), judged, iou=overlaps.iou, threshold=threshold) if known is not None else ()
        for group in groupings
    ]
    return Evaluation(
        queries=queries,
        queries_without_match=int((judged.ranking.positives == 0).sum()),
        positives=len(judged.pairs),
        predictions=len(judged.ranking.query),
        dropped=judged.dropped,
        threshold_at_p90=threshold,
        reliability=calibration.reliability(judged.forecasts),
        several=describe_sources(judged, values),
        location=describe_location(judged, values) if known is not None else None,
        by_family=tables[0],
        by_covered=tables[1],
        by_severity=tables[2],
        resamples=resamples,
        seed=seed,
        **{name: value for name, value in values.items() if name in Evaluation.__annotations__},
    )


def evaluate_difference(
    first: str | Path | ScoredPairs | Predictions,
    second: str | Path | ScoredPairs | Predictions,
    ground_truth: str | Path | GroundTruth,
    *,
    edits: str | Path | Edits | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Two lists of predictions for the same queries -> by how much the second is above the first, by the name of the metric.

    Both are measured on the same resamples, so an interval without 0 is a difference that does not hang on the choice of queries.
    """
    truth, known, measures, most = as_truth(ground_truth), as_edits(edits), [], 0
    for predictions in (first, second):
        judged = judge_known(as_pairs(predictions), truth)
        rows = edits_of_pairs(known, judged) if known is not None else np.full(len(judged.pairs), -1)
        measures.append(measure_all(judged, overlaps_of_pairs(judged, known, rows)))
        most = max(most, len(judged.ranking.query))
    return bootstrap(difference(*measures), len(truth.queries()), resamples=resamples, seed=seed, rows=most)


def judge_known(predictions: ScoredPairs, truth: GroundTruth) -> Judged:
    """Predictions and ground truth -> which are right. MatcherError if there are predictions, but for no query of the ground truth."""
    listed = truth.queries()
    if len(predictions) and not set(listed) & set(predictions.query_id.tolist()):
        raise MatcherError(
            f"none of the {len(listed)} queries of the ground truth (the first is {listed[0]!r}) is in the predictions (the first is "
            f"for {str(predictions.query_id[0])!r}): give a ground truth with columns query_id,reference_id and the ids of the predictions"
        )
    return judge(predictions, truth)


def overlaps_of_pairs(judged: Judged, edits: Edits | None, rows: Integers) -> Overlaps:
    """How well the found frames of the true pairs lie: (N,), NaN = not found, or one of the two frames is not known."""
    true = np.full((len(rows), 3, 3), np.nan)
    if edits is not None:
        true[rows >= 0] = edits.frame[rows[rows >= 0]]
    return measure_overlaps(judged.pair_frame, true)


def measure_all(judged: Judged, overlaps: Overlaps) -> Measure:
    """Judged predictions -> the function that measures them under counts (R, Q)."""
    located = np.flatnonzero(~np.isnan(overlaps.iou))
    query = judged.pair_query[located]
    threshold = float(ranking.recall_at_precision(judged.ranking)[1])
    several = np.flatnonzero(judged.ranking.positives > 1)
    of_several = np.flatnonzero(np.isin(judged.pair_query, several))
    is_found = judged.pair_score[of_several] >= threshold
    found = np.bincount(judged.pair_query[of_several], weights=is_found, minlength=len(judged.ranking.positives))

    def measure(counts: Integers) -> dict[str, Array]:
        return {
            "micro_ap": ranking.micro_ap(judged.ranking, counts),
            "recall_at_p90": ranking.recall_at_precision(judged.ranking, 0.9, counts)[0],
            "recall_at_rank1": ranking.recall_at_rank(judged.ranking, 1, counts),
            "recall_at_rank10": ranking.recall_at_rank(judged.ranking, 10, counts),
            "calibration_error": calibration.calibration_error(judged.forecasts, counts),
            "brier": calibration.brier(judged.forecasts, counts),
            "recall_of_sources": location.counted_share(is_found, judged.pair_query[of_several], counts),
            "all_sources": location.counted_share(found[several] == judged.ranking.positives[several], several, counts),
            "median_iou": location.counted_median(overlaps.iou[located], query, counts),
            "share_iou_half": location.counted_share(overlaps.iou[located] >= 0.5, query, counts),
            "median_query_iou": location.counted_median(overlaps.query_iou[located], query, counts),
            "median_reference_iou": location.counted_median(overlaps.reference_iou[located], query, counts),
            "median_point_error": location.counted_median(overlaps.point_error[located], query, counts),
        }

    return measure


def describe_sources(judged: Judged, values: dict[str, Interval]) -> Sources | None:
    several = judged.ranking.positives[judged.ranking.positives > 1]
    own = {name: value for name, value in values.items() if name in Sources.__annotations__}
    return Sources(queries=len(several), pairs=int(several.sum()), **own) if len(several) else None


def describe_location(judged: Judged, values: dict[str, Interval]) -> Location:
    found = judged.found
    without_frame = int((found & np.isnan(judged.pair_frame).any(axis=(1, 2))).sum())
    own = {name: value for name, value in values.items() if name in Location.__annotations__}
    return Location(found=int(found.sum()), without_frame=without_frame, **own)


def as_pairs(predictions: str | Path | ScoredPairs | Predictions) -> ScoredPairs:
    if isinstance(predictions, Predictions):
        return ScoredPairs.from_predictions(predictions)
    return predictions if isinstance(predictions, ScoredPairs) else ScoredPairs.read(predictions)


def as_truth(ground_truth: str | Path | GroundTruth) -> GroundTruth:
    return ground_truth if isinstance(ground_truth, GroundTruth) else GroundTruth.read(ground_truth)


def as_edits(edits: str | Path | Edits | None) -> Edits | None:
    return edits if edits is None or isinstance(edits, Edits) else Edits.read(edits)


def without_nan(value: Any) -> Any:
    """Nested dicts, lists and tuples -> the same with None for NaN and lists for tuples."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
