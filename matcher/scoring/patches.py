"""Where the patches of two views lie in each other -> the frame between the views."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from matcher.geometry import Array, invert, region

FOUND = 0.5  # probability of "nowhere" below which a patch counts as found
FEWEST = 4  # patches below which there is no frame
TRIES = 200  # samples of three patches; if a quarter of them agree, one in 64 samples is right
AGREEING = 0.25  # share of the found patches that must lie where the frame sends them
TOLERANCE = 1.0  # cells by which a patch may miss its place
PIXELS = 1000  # to a view's side while fitting, see scoring.matching
STRETCH = 40.0  # a frame that enlarges or shrinks a direction by more than this is degenerate
AROUND = np.stack(np.meshgrid(np.arange(3), np.arange(3))).reshape(2, 9)  # columns and rows of a cell's neighbours, and its own
Probabilities = NDArray[np.float32]


def locate(to_reference: Probabilities, to_query: Probabilities) -> Array | None:
    """Where the patches of each side lie in the other -> the frame (3, 3) from the query's view to the reference's, or None.

    Both tables are probabilities (T, T + 1): a row for each patch of a square grid, row by row, a column for each patch of the
    other side, and the last one for "nowhere". The frame is affine, fitted by least squares to the patches of both
    sides that are found and agree (USAC_MAGSAC, Barath et al. 2020). None where fewer than four are found, or too few agree, or what
    they agree on is degenerate.
    """
    if sum(np.count_nonzero(table[:, -1] < FOUND) for table in (to_reference, to_query)) < FEWEST:
        return None
    (first, first_places), (second, second_places) = found_patches(to_reference), found_patches(to_query)
    here, there = np.concatenate([first, second_places]), np.concatenate([first_places, second])
    enlarges = len(second) > len(first)  # then the way back is fitted: on the way to the smaller region, errors shrink
    if enlarges:
        here, there = there, here
    if min(np.linalg.svd(points - points.mean(axis=0), compute_uv=False)[1] for points in (here, there)) < 1e-3:
        return None
    limit = TOLERANCE * PIXELS / side_of(to_reference)
    affine, agrees = cv2.estimateAffine2D(
        here * PIXELS, there * PIXELS, method=cv2.USAC_MAGSAC, ransacReprojThreshold=limit, maxIters=TRIES, confidence=0.99
    )
    if affine is None or np.count_nonzero(agrees) < max(FEWEST, AGREEING * len(here)):
        return None
    frame = fit_affine(here[agrees.ravel() > 0], there[agrees.ravel() > 0])
    if not is_sound(frame):
        return None
    return invert(frame) if enlarges else frame


def fit_affine(here: Array, there: Array) -> Array:
    """Points (n, 2) and where they go -> the affine frame (3, 3) with the least squares: places are whole cells or little better."""
    columns, *_ = np.linalg.lstsq(np.column_stack([here, np.ones(len(here))]), there, rcond=None)
    return np.vstack([columns.T, [0.0, 0.0, 1.0]])


def found_patches(table: Probabilities) -> tuple[Array, Array]:
    """Probabilities (T, T + 1) -> centres (n, 2) of the patches that are somewhere, and their places (n, 2) on the other side.

    Both lie on the views' unit squares. A place is the mean of the cells around the likeliest one, weighted by probability.
    """
    side = side_of(table)
    rows = np.flatnonzero(table[:, -1] < FOUND)
    cells = table[rows, :-1]
    down, across = np.divmod(cells.argmax(axis=1), side)
    framed = np.zeros((len(rows), side + 2, side + 2))
    framed[:, 1:-1, 1:-1] = cells.reshape(-1, side, side)
    near = framed[np.arange(len(rows))[:, None], down[:, None] + AROUND[1], across[:, None] + AROUND[0]]  # (n, 9), 1 added by the frame
    moved = near @ (AROUND.T - 1.0) / near.sum(axis=1, keepdims=True)
    centres = np.column_stack([rows % side, rows // side])
    return (centres + 0.5) / side, (np.column_stack([across, down]) + moved + 0.5) / side


def side_of(table: Probabilities) -> int:
    """Probabilities (T, T + 1) -> cells a side of the grid."""
    return round(len(table) ** 0.5)


def is_sound(frame: Array) -> bool:
    """Whether an affine frame is finite, stretches no direction beyond reason, and the views show a part of each other."""
    if not np.isfinite(frame).all():
        return False
    stretch = np.linalg.svd(frame[:2, :2], compute_uv=False)
    if stretch[1] < 1 / STRETCH or stretch[0] > STRETCH:
        return False
    return len(region(frame)) >= 3
