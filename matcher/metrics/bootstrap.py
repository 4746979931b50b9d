"""Intervals by drawing the queries again with replacement (percentile bootstrap, Efron 1979).

A resample is a row of counts, how often each query was drawn, so that nothing is copied: the metrics take the counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matcher.errors import UsageError
from matcher.metrics.ranking import Array, Integers

Measure = Callable[[Integers], dict[str, Array]]  # counts (R, Q) -> named numbers (R,)
ELEMENTS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Interval:
    """A number and the range that holds 95 % of its resamples; NaN = not defined."""

    value: float
    low: float
    high: float


def resample_counts(queries: int, resamples: int, seed: int, *, at_once: int = 256) -> Iterator[Integers]:
    """How often each query is drawn in each resample, in blocks (R, Q) of at most ``at_once`` rows; the same for any block size."""
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        yield np.stack([np.bincount(generator.integers(queries, size=queries), minlength=queries) for _ in range(rows)])


def bootstrap(measure: Measure, queries: int, *, resamples: int = 1000, seed: int = 0, rows: int = 0) -> dict[str, Interval]:
    """Named numbers with their 95 % intervals. ``rows``: the rows that ``measure`` looks at, which bounds the memory taken.

    The value is that of every query counted once; resamples in which a number is not defined are left out of its interval.
    """
    if min(resamples, seed) < 0:
        raise UsageError(f"resamples and seed must be at least 0, not {resamples} and {seed}")
    values = measure(np.ones((1, queries), dtype=np.int64))
    at_once = max(1, ELEMENTS_AT_ONCE // max(rows, queries, 1))
    blocks = [measure(counts) for counts in resample_counts(queries, resamples, seed, at_once=at_once)] if queries else []
    return {
        name: percentile_interval(float(value[0]), np.concatenate([block[name] for block in blocks] or [np.empty(0)]))
        for name, value in values.items()
    }


def percentile_interval(value: float, samples: NDArray[np.float64]) -> Interval:
    """A number and its resamples (R,) -> its interval."""
    samples = samples[~np.isnan(samples)]
    if np.isnan(value) or not len(samples):
        return Interval(value, np.nan, np.nan)
    low, high = np.percentile(samples, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def difference(first: Measure, second: Measure) -> Measure:
    """Two measures of the same queries -> what the second has more than the first, under the same resamples."""

    def measure(counts: Integers) -> dict[str, Array]:
        one, other = first(counts), second(counts)
        return {name: other[name] - one[name] for name in one}

    return measure
