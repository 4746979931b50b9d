"""Ranking metrics against the published check values, slow loops, repeated rows and scikit-learn."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from matcher.metrics.judged import judge
from matcher.metrics.predicted import ScoredPairs
from matcher.metrics.ranking import (
    micro_ap,
    narrowed,
    precision_recall_curve,
    rank_predictions,
    ranks_within_query,
    recall_at_precision,
    recall_at_rank,
)
from matcher.metrics.truth import GroundTruth

B = [("q1", "r1", 0.9), ("q2", "r2", 0.8), ("q3", "r3", 0.8), ("q3", "r4", 0.8)]
CHECKS = {
    "A": ([("q1", "r1", 0.9), ("q4", "r9", 0.8), ("q2", "r2", 0.8), ("q2", "r5", 0.7)], 5 / 9, 1 / 3, 0.9, 2 / 3, 2 / 3),
    "B": (B, 0.805556, 1 / 3, 0.9, 2 / 3, 1.0),
    "C": ([*B, ("q9", "r4", 0.95)], 0.533333, 0.0, np.nan, 2 / 3, 1.0),
}


def ranking_of(rows):
    truth = GroundTruth(query_id=["q1", "q2", "q3", "q4", "q9"], reference_id=["r1", "r2", "r3", "", ""])
    return judge(ScoredPairs.from_scores(*map(list, zip(*rows, strict=True))), truth).ranking


@pytest.mark.parametrize("name", CHECKS)
def test_check_values_of_the_challenge(name):
    rows, ap, recall, threshold, first, ten = CHECKS[name]
    for order in (rows, rows[::-1]):
        ranking = ranking_of(order)
        assert micro_ap(ranking) == pytest.approx(ap, abs=1e-6)
        assert recall_at_precision(ranking)[0] == pytest.approx(recall)
        assert recall_at_precision(ranking)[1] == pytest.approx(threshold, nan_ok=True)
        assert recall_at_rank(ranking, 1) == pytest.approx(first)
        assert recall_at_rank(ranking, 10) == pytest.approx(ten)


def slow_metrics(rows, positives, precision=0.9):
    """(query, score, right) by the formulas of the challenge, with loops: uAP, recall at precision, its threshold, recall at 1 and 3."""
    total, found, ap, recall, threshold = sum(positives), 0, 0.0, 0.0, np.nan
    for place, (_, score, right) in enumerate(sorted(rows, key=lambda row: (-row[1], row[2])), start=1):
        found += right
        ap += right * found / place / total
        if found / place >= precision and found / total > recall:
            recall, threshold = found / total, score
    ranks = [sum(q == query and s >= score and not r for q, s, r in rows) for query, score, right in rows if right]
    return ap, recall, threshold, sum(r < 1 for r in ranks) / total, sum(r < 3 for r in ranks) / total


@st.composite
def cases(draw):
    """A few queries, scores with many ties, some true pairs never predicted, and how often each query counts."""
    queries = draw(st.integers(1, 5))
    row = st.tuples(st.integers(0, queries - 1), st.sampled_from([-1.5, 0.0, 0.2, 0.5, 0.9, 3.0]), st.booleans())
    rows = draw(st.lists(row, max_size=25))
    hits = [sum(right for q, _, right in rows if q == query) for query in range(queries)]
    positives = [hit + draw(st.integers(0, 2)) for hit in hits]
    counts = draw(st.lists(st.integers(0, 3), min_size=queries, max_size=queries))
    return rows, positives, counts


def rank_rows(rows, positives):
    query, score, right = zip(*rows, strict=True) if rows else ((), (), ())
    return rank_predictions(query, score, right, positives=positives)


def repeat(rows, positives, counts):
    """Each query as often as it counts, every time under a new name."""
    copies = [(query, copy) for query, times in enumerate(counts) for copy in range(times)]
    return [(n, score, right) for n, (own, _) in enumerate(copies) for query, score, right in rows if query == own], [
        positives[own] for own, _ in copies
    ]


def measured(ranking, counts=None):
    recall, threshold = recall_at_precision(ranking, 0.6, counts)
    return [micro_ap(ranking, counts), recall, threshold, recall_at_rank(ranking, 1, counts), recall_at_rank(ranking, 3, counts)]


@settings(max_examples=80, deadline=None)
@given(cases())
def test_equals_the_slow_version(case):
    rows, positives, _ = case
    if sum(positives):
        np.testing.assert_allclose(measured(rank_rows(rows, positives)), slow_metrics(rows, positives, 0.6), atol=1e-12)


@settings(max_examples=80, deadline=None)
@given(cases())
def test_counts_equal_repeated_rows(case):
    rows, positives, counts = case
    block = np.array([counts, [1] * len(counts)])
    got = np.array(measured(rank_rows(rows, positives), block))
    for column, times in enumerate(block):
        many, truth = repeat(rows, positives, times)
        expected = slow_metrics(many, truth, 0.6) if sum(truth) else [np.nan, np.nan, np.nan, np.nan, np.nan]
        np.testing.assert_allclose(got[:, column], expected, atol=1e-12)


def test_agrees_with_scikit_learn_where_there_are_no_ties():
    rng = np.random.default_rng(0)
    score, right = rng.permutation(500) / 7.0, rng.random(500) < 0.3
    ranking = rank_predictions(rng.integers(0, 40, 500), score, right, positives=np.full(40, 500))
    assert micro_ap(ranking) * 40 * 500 / right.sum() == pytest.approx(average_precision_score(right, score))


def test_perfect_empty_and_constant_lists():
    assert measured(rank_rows([(0, 2.0, True), (1, 1.0, True)], [1, 1, 0])) == [1, 1, 1.0, 1, 1]
    ap, recall, threshold, first, third = measured(rank_rows([], [1, 1]))
    assert (ap, recall, first, third) == (0, 0, 0, 0) and np.isnan(threshold)
    constant = rank_rows([(0, 0.5, True), (0, 0.5, False), (1, 0.5, False), (1, 0.5, False)], [1, 0])
    assert measured(constant)[0] == pytest.approx(1 / 4) and measured(constant)[3] == 0


def test_nothing_to_find_has_no_recall():
    assert all(np.isnan(measured(rank_rows([(0, 0.5, False)], [0]))))


@settings(max_examples=50, deadline=None)
@given(cases())
def test_only_the_order_of_the_scores_matters(case):
    rows, positives, counts = case
    moved = [(query, np.exp(score) - 5, right) for query, score, right in rows]
    one, other = measured(rank_rows(rows, positives), counts), measured(rank_rows(moved, positives), counts)
    np.testing.assert_array_equal(np.delete(one, 2), np.delete(other, 2))


def test_rank_counts_ties_against_the_pair():
    query, score = np.array([7, 3, 7, 7, 3, 7]), np.array([9.0, 8.0, 5.0, 5.0, 2.0, 1.0])
    assert ranks_within_query(query, score, np.zeros(6, dtype=bool)).tolist() == [0, 0, 2, 2, 1, 3]
    assert ranks_within_query(query, score, score == 5).tolist() == [0, 0, 1, 1, 1, 1]
    assert ranks_within_query(query, score, np.ones(6, dtype=bool)).tolist() == [0] * 6


def test_right_predictions_can_be_left_out():
    ranking = rank_rows([(0, 9.0, True), (0, 8.0, False), (0, 7.0, True), (1, 6.0, True)], [2, 1])
    own = narrowed(ranking, np.array([False, True, True]), [1, 1])
    assert own.score.tolist() == [8.0, 7.0, 6.0] and own.right.tolist() == [False, True, True]
    assert micro_ap(own) == pytest.approx((1 / 2 + 2 / 3) / 2) and recall_at_rank(own, 1) == 1 / 2


def test_curve_has_a_point_for_every_threshold():
    curve = precision_recall_curve(ranking_of(B))
    assert curve.threshold.tolist() == [0.9, 0.8]
    assert curve.recall.tolist() == pytest.approx([1 / 3, 1.0])
    assert curve.precision.tolist() == pytest.approx([1.0, 0.75])
    assert len(precision_recall_curve(rank_rows([], [1])).recall) == 0


def test_a_score_that_is_no_number_and_too_many_right_ones_are_errors():
    with pytest.raises(ValueError, match="prediction 1 is not a number"):
        rank_predictions([0, 0], [1.0, np.nan], [True, False], positives=[1])
    with pytest.raises(ValueError, match="more right predictions"):
        rank_predictions([0, 0], [1.0, 2.0], [True, True], positives=[1])


def test_half_a_million_rows_are_quick():
    rng = np.random.default_rng(0)
    rows, queries = 500_000, 50_000
    query, score = rng.integers(0, queries, rows), rng.random(rows).round(4)
    _, first = np.unique(query, return_index=True)
    right = np.zeros(rows, dtype=bool)
    right[first[:10_000]] = True
    start = time.process_time()
    measured(rank_predictions(query, score, right, positives=np.ones(queries, dtype=int)))
    assert time.process_time() - start < 2
