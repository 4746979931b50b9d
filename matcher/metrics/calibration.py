"""How far the probabilities of the predicted pairs can be taken at their word.

A pair that was never predicted has no probability and does not count here (recall counts it). ``counts`` is as in ranking.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from matcher.metrics.ranking import Array, Integers, share

BINS = 15


@dataclass(frozen=True, eq=False)
class Forecasts:
    """Predicted pairs, least probable first: whose they are, how probable they were called, whether they came true."""

    query: Integers  # (P,) 0 to Q - 1
    probability: Array  # (P,) ascending, 0 to 1
    right: NDArray[np.bool_]  # (P,)
    queries: int  # Q


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions of neighbouring probability; ``predictions`` is a fraction where equal probabilities lie across the border."""

    predictions: float
    mean_probability: float
    share_right: float


def sort_forecasts(query: ArrayLike, probability: ArrayLike, right: ArrayLike, *, queries: int) -> Forecasts:
    """Predictions (P,) in any order -> forecasts. Probabilities of which one is NaN or outside 0 to 1 are none: empty forecasts."""
    probability = np.asarray(probability, dtype=np.float64)
    order = np.argsort(probability, kind="stable")
    if not ((probability >= 0) & (probability <= 1)).all():
        order = order[:0]
    return Forecasts(np.asarray(query, dtype=np.int64)[order], probability[order], np.asarray(right, dtype=bool)[order], queries)


def brier(forecasts: Forecasts, counts: ArrayLike | None = None) -> Array:
    """Brier score (...): mean of (probability - 1 if right else 0)^2 over the predicted pairs, 0 is best; NaN without any."""
    counts = as_counts(forecasts, counts)
    squares = np.bincount(forecasts.query, weights=(forecasts.probability - forecasts.right) ** 2, minlength=forecasts.queries)
    return share(counts @ squares, counts @ np.bincount(forecasts.query, minlength=forecasts.queries))


def calibration_error(forecasts: Forecasts, counts: ArrayLike | None = None, *, bins: int = BINS) -> Array:
    """Expected calibration error (...) over ``bins`` bins of equal mass: mean of |share right - mean probability|, 0 is best.

    Equal probabilities at a border are shared between both bins in proportion, so that the order of the rows does not matter.
    Naeini et al. 2015; bins of equal mass as in Nguyen and O'Connor 2015. NaN without any prediction.
    """
    counts = as_counts(forecasts, counts)
    gaps = forecasts.right - forecasts.probability
    errors = [np.abs(bin_sums(forecasts, row, gaps, bins=bins)).sum() for row in counts.reshape(-1, counts.shape[-1])]
    mass = counts @ np.bincount(forecasts.query, minlength=forecasts.queries)
    return share(np.reshape(errors, counts.shape[:-1]), mass)


def reliability(forecasts: Forecasts, *, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """Forecasts -> the reliability table, least probable bin first; empty without any prediction."""
    if not len(forecasts.query):
        return ()
    counts, mass = as_counts(forecasts, None), len(forecasts.query) / bins
    means = bin_sums(forecasts, counts, forecasts.probability, bins=bins) / mass
    rights = bin_sums(forecasts, counts, forecasts.right.astype(np.float64), bins=bins) / mass
    return tuple(ReliabilityBin(mass, float(mean), float(right)) for mean, right in zip(means, rights, strict=True))


def bin_sums(forecasts: Forecasts, counts: NDArray[np.int64], values: Array, *, bins: int) -> Array:
    """Sums of ``values`` (P,) over each bin of equal mass: (bins,)."""
    rows = counts[forecasts.query]
    last = np.flatnonzero(np.r_[forecasts.probability[1:] != forecasts.probability[:-1], True][: len(rows)])
    mass = np.r_[0, np.cumsum(rows)[last]]
    sums = np.r_[0.0, np.cumsum(rows * values)[last]]
    return np.diff(np.interp(np.linspace(0, mass[-1], bins + 1), mass, sums))


def as_counts(forecasts: Forecasts, counts: ArrayLike | None) -> Integers:
    return np.ones(forecasts.queries, dtype=np.int64) if counts is None else np.asarray(counts, dtype=np.int64)
