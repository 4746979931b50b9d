"""Bootstrap: seeds, blocks, intervals that mean what they say."""

from __future__ import annotations

import numpy as np
import pytest

from matcher.errors import UsageError
from matcher.metrics.bootstrap import bootstrap, difference, percentile_interval, resample_counts


def mean_of(values):
    values = np.asarray(values)
    return lambda counts: {"mean": counts @ values / counts.sum(-1)}


@pytest.mark.parametrize("wrong", [{"resamples": -3}, {"seed": -1}])
def test_fewer_than_no_resamples_are_refused(wrong):
    with pytest.raises(UsageError, match="resamples and seed must be at least 0, not"):
        bootstrap(mean_of([1, 2]), 2, **wrong)


def test_a_resample_draws_as_many_queries_as_there_are():
    counts = np.concatenate(list(resample_counts(30, 50, 0)))
    assert counts.shape == (50, 30)
    assert (counts.sum(axis=1) == 30).all() and len(np.unique(counts, axis=0)) == 50


def test_the_seed_alone_decides():
    blocks = [np.concatenate(list(resample_counts(13, 10, 4, at_once=size))) for size in (1, 3, 100)]
    assert (blocks[0] == blocks[1]).all() and (blocks[0] == blocks[2]).all()
    assert not (blocks[0] == np.concatenate(list(resample_counts(13, 10, 5)))).all()


def test_interval_of_a_mean_is_that_of_the_textbook():
    values = np.random.default_rng(1).normal(size=400)
    interval = bootstrap(mean_of(values), 400, resamples=2000)["mean"]
    error = values.std() / np.sqrt(400)
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_blocks_do_not_change_the_result():
    values = np.arange(20.0)
    assert bootstrap(mean_of(values), 20, resamples=40) == bootstrap(mean_of(values), 20, resamples=40, rows=1 << 21)


def test_paired_difference_is_narrower_than_two_intervals():
    rng = np.random.default_rng(2)
    first = rng.normal(size=300)
    second = first + 0.1 + rng.normal(size=300) * 0.01
    paired = bootstrap(difference(mean_of(first), mean_of(second)), 300)["mean"]
    assert paired.value == pytest.approx((second - first).mean())
    assert 0.09 < paired.low < paired.value < paired.high < 0.11
    same = bootstrap(difference(mean_of(first), mean_of(first)), 300, resamples=20)["mean"]
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_resamples_without_a_value_are_left_out():
    interval = percentile_interval(1.0, np.array([np.nan, 1.0, 3.0, np.nan]))
    assert (interval.low, interval.high) == (pytest.approx(1.05), pytest.approx(2.95))
    nothing = percentile_interval(np.nan, np.array([1.0]))
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()
    assert np.isnan(percentile_interval(1.0, np.empty(0)).low)
