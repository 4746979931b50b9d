"""Matched keypoints -> the similarity transform that most of them agree on.

A SIFT keypoint has a place, a size and an angle, so one match alone proposes a whole similarity (Philbin et al. 2007,
section 4: "fast spatial matching"). Every match proposes, all matches vote, the best proposal wins: no random
sampling, and a copy is found among any number of wrong matches as long as a few right ones agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matcher.geometry import Array
from matcher.models.sift import LocalFeatures

SIZE_SLACK = 0.6  # natural log of how much two matches may disagree about the scale
ANGLE_SLACK = 0.5  # radians


@dataclass(frozen=True)
class Agreement:
    """The winning transform: ``support`` = summed weight of the matches that fit, ``fits`` (M,), ``matrix`` (3, 3) in even units."""

    support: float
    fits: NDArray[np.bool_]
    matrix: Array


def agree(
    query: LocalFeatures, reference: LocalFeatures, pairs: NDArray[np.int64], weight: NDArray[np.float32], *, tolerance: float
) -> Agreement | None:
    """Matches ``pairs`` (M, 2) as rows of query and reference, weights (M,) -> what most agree on; None without a match.

    ``tolerance`` is in even units of the reference. O(M^2) in time and memory: pass a few hundred matches at most.
    """
    if len(pairs) == 0:
        return None
    q, r = pairs.T
    here = as_complex(query.even[q])
    there = as_complex(reference.even[r])
    log_scale = np.log(reference.size[r] / query.size[q])
    turn = np.deg2rad(reference.angle[r] - query.angle[q])
    factor = np.exp(log_scale + 1j * turn).astype(np.complex64)  # there = factor * here + offset
    offset = there - factor * here
    miss = np.abs(factor[:, None] * here + offset[:, None] - there)
    fits = miss < tolerance
    fits &= np.abs(log_scale[:, None] - log_scale) < SIZE_SLACK
    fits &= np.cos(turn[:, None] - turn) > np.cos(ANGLE_SLACK)
    support = fits @ weight
    best = int(support.argmax())
    a, b = complex(factor[best]), complex(offset[best])
    matrix = np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag], [0.0, 0.0, 1.0]])
    return Agreement(float(support[best]), fits[best], matrix)


def as_complex(points: NDArray[np.float32]) -> NDArray[np.complex64]:
    """Points (M, 2) -> x + iy (M,)."""
    return np.ascontiguousarray(points, dtype=np.float32).view(np.complex64)[:, 0]
