"""Calibration error, Brier score and reliability against slow versions and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from matcher.metrics.calibration import brier, calibration_error, reliability, sort_forecasts

ROW = st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]), st.booleans())


def forecasts_of(rows):
    query, probability, right = zip(*rows, strict=True) if rows else ((), (), ())
    return sort_forecasts(query, probability, right, queries=4)


def slow_error(rows, bins):
    """Every prediction is cut into ``bins`` slices of equal right and wrong; n slices fill each bin exactly."""
    values = {}
    for _, probability, right in rows:
        values.setdefault(probability, []).append(right)
    slices = [np.mean(values[p]) - p for p in sorted(values) for _ in range(len(values[p]) * bins)]
    size = len(rows)
    return sum(abs(sum(slices[b * size : (b + 1) * size])) for b in range(bins)) / len(slices)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=20), st.integers(1, 6))
def test_error_equals_the_slow_version(rows, bins):
    assert calibration_error(forecasts_of(rows), bins=bins) == pytest.approx(slow_error(rows, bins), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, max_size=20), st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_counts_equal_repeated_rows(rows, counts):
    block = np.array([counts, [1, 1, 1, 1]])
    got = np.array([calibration_error(forecasts_of(rows), block, bins=3), brier(forecasts_of(rows), block)])
    for column, times in enumerate(block):
        many = [row for row in rows for _ in range(times[row[0]])]
        expected = [slow_error(many, 3), np.mean([(p - right) ** 2 for _, p, right in many])] if many else [np.nan, np.nan]
        np.testing.assert_allclose(got[:, column], expected, atol=1e-9)


def test_order_of_the_rows_does_not_matter():
    rows = [(0, 0.5, True), (0, 0.5, False), (1, 0.5, True), (2, 0.1, False), (3, 0.9, True)]
    errors = {float(calibration_error(forecasts_of(rows[n:] + rows[:n]), bins=2)) for n in range(5)}
    assert max(errors) - min(errors) < 1e-12


def test_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    probability = rng.permutation(600) / 600
    right = rng.random(600) < probability**2
    forecasts = sort_forecasts(np.zeros(600), probability, right, queries=1)
    assert brier(forecasts) == pytest.approx(brier_score_loss(right, probability))
    share_right, mean = calibration_curve(right, probability, n_bins=10, strategy="quantile")
    table = reliability(forecasts, bins=10)
    assert [row.share_right for row in table] == pytest.approx(share_right.tolist())
    assert [row.mean_probability for row in table] == pytest.approx(mean.tolist())
    assert {row.predictions for row in table} == {60.0}
    assert calibration_error(forecasts, bins=10) == pytest.approx(np.abs(share_right - mean).mean())


def test_sure_and_right_is_zero_sure_and_wrong_is_one():
    right = [(0, 1.0, True), (0, 0.0, False)]
    wrong = [(0, 0.0, True), (0, 1.0, False)]
    assert calibration_error(forecasts_of(right)) == 0 and brier(forecasts_of(right)) == 0
    assert calibration_error(forecasts_of(wrong), bins=2) == pytest.approx(1) and brier(forecasts_of(wrong)) == 1


@pytest.mark.parametrize("probability", [[0.2, np.nan], [0.2, 1.5], [-0.1, 0.2], []])
def test_without_probabilities_there_is_no_calibration(probability):
    forecasts = sort_forecasts(np.zeros(len(probability)), probability, [True] * len(probability), queries=1)
    assert np.isnan(calibration_error(forecasts)) and np.isnan(brier(forecasts))
    assert reliability(forecasts) == ()
