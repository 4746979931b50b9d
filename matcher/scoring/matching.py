"""Two pictures' keypoints -> the transform between them and the matches that support it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from matcher.geometry import Array, apply, from_pixels
from matcher.models.sift import LocalFeatures
from matcher.models.similarity import agree
from matcher.scoring.nearest import BothImages, Nearest, cosines
from matcher.settings import SiftScorerSettings

ALIKE = 0.8  # cosine of two RootSIFT rows above which a match that the transform predicts is believed
SAME_SCALE = 0.6  # natural log of the size difference allowed to such a match
WORTH = 4.0  # support from which a proposal is refined; strangers rarely reach it
PIXELS = 1000  # to an even unit while fitting: OpenCV's USAC_MAGSAC rejects no outliers among points of a unit square
GRID = 400  # matches whose places round to the same of GRID x GRID cells count once


@dataclass(frozen=True)
class Match:
    """What the keypoints of a pair say. ``matrix`` maps the query to the reference, in even units."""

    matrix: Array  # (3, 3)
    pairs: NDArray[np.int64]  # (n, 2) rows of the query's and the reference's keypoints that fit
    support: float  # weighted votes for the first similarity
    proposed: int  # matches that passed the ratio test
    visible: int  # keypoints of the query that have a keypoint of the reference where the transform sends them


def match(query: LocalFeatures, reference: LocalFeatures, near: BothImages | None, settings: SiftScorerSettings) -> Match | None:
    """The better of both mirror images; None if nothing agrees. The matrix already undoes the mirror. ``near``: see ``nearest_two``."""
    if near is None:
        return None
    first = propose(query, reference, near.plain, settings)
    second = propose(query.mirrored, reference, near.mirrored, settings)
    plain = second is None or (first is not None and first.support >= second.support)
    if (chosen := first if plain else second) is None:
        return None
    if chosen.support < WORTH:
        return Match(chosen.matrix, np.empty((0, 2), dtype=np.int64), chosen.support, chosen.proposed, 0)
    if plain:
        return refine(query, reference, chosen, settings)
    unmirror = np.array([[-1.0, 0.0, float(query.shape_wh[0])], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    found = refine(query.mirrored, reference, chosen, settings)
    return Match(found.matrix @ unmirror, found.pairs, found.support, found.proposed, found.visible)


@dataclass(frozen=True)
class Proposal:
    """A first similarity, in even units."""

    matrix: Array
    support: float
    proposed: int


def propose(query: LocalFeatures, reference: LocalFeatures, near: Nearest, settings: SiftScorerSettings) -> Proposal | None:
    """Ratio test (Lowe 2004, section 7.1), then one-point similarities."""
    squared = np.maximum(1 - near.best, 0) / np.maximum(1 - near.second, 1e-6)
    kept = np.flatnonzero(squared < settings.ratio**2)
    kept = kept[np.argsort(squared[kept], kind="stable")]
    pairs = np.stack([kept, near.row[kept]], axis=1)[: settings.matches]
    if (agreement := agree(query, reference, pairs, shared_out(pairs), tolerance=1.5 * settings.tolerance)) is None:
        return None
    return Proposal(agreement.matrix, agreement.support, len(kept))


def shared_out(pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    """Weights (M,): the matches that end in one reference keypoint share one vote, against repeated structure."""
    _, inverse, counts = np.unique(pairs[:, 1], return_inverse=True, return_counts=True)
    return (1 / counts[inverse]).astype(np.float32)


def refine(query: LocalFeatures, reference: LocalFeatures, proposal: Proposal, settings: SiftScorerSettings) -> Match:
    """Look again for matches where the transform predicts them, fit a richer transform to them, three times, ever stricter."""
    matrix = proposal.matrix
    for strictness in (1.0, 0.66, 0.5):
        pairs, _ = look_up(query, reference, matrix, tolerance=strictness * settings.tolerance)
        better = fit(query.even[pairs[:, 0]], reference.even[pairs[:, 1]], tolerance=settings.tolerance / 3)
        if better is None or not plausible(matrix, better):
            break
        matrix = better
    pairs, visible = look_up(query, reference, matrix, tolerance=settings.tolerance / 3)
    return Match(matrix, pairs, proposal.support, proposal.proposed, visible)


def look_up(query: LocalFeatures, reference: LocalFeatures, matrix: Array, *, tolerance: float) -> tuple[NDArray[np.int64], int]:
    """Pairs (n, 2) of alike keypoints within ``tolerance`` of where the transform sends them, one to one; and how many could have been."""
    sent = apply(matrix, query.even)
    inside = np.flatnonzero(((sent > 0) & (sent < reference.shape_wh)).all(axis=1))
    sent = sent[inside].astype(np.float32)
    squared = (sent**2).sum(1)[:, None] + (reference.even**2).sum(1)
    squared -= 2 * sent @ reference.even.T
    rows, columns = np.divmod(np.flatnonzero(squared < tolerance**2), max(len(reference), 1))  # faster than nonzero of two dimensions
    rows = inside[rows]
    scale = np.sqrt(abs(np.linalg.det(matrix[:2, :2]))) + 1e-9
    same = np.abs(np.log(reference.size[columns] / (query.size[rows] * scale))) < SAME_SCALE
    rows, columns = rows[same], columns[same]
    visible = len(np.unique(rows))
    alike = cosines(query.rows[rows], reference.rows[columns])
    order = np.argsort(-alike, kind="stable")[: np.count_nonzero(alike > ALIKE)]
    pairs = np.stack([rows[order], columns[order]], axis=1)
    cells = np.round(query.even[pairs[:, 0]] * GRID).astype(np.int64) @ np.array([1 << 20, 1])
    for values in (pairs[:, 0], pairs[:, 1], cells):  # each keypoint and each place once, the most alike first
        _, first = np.unique(values, return_index=True)
        single = np.zeros(len(values), dtype=bool)
        single[first] = True
        values[~single] = -1
    return pairs[(pairs >= 0).all(axis=1) & (cells >= 0)], visible


def fit(here: NDArray[np.float32], there: NDArray[np.float32], *, tolerance: float) -> Array | None:
    """Matched points (n, 2) -> homography for eight or more (USAC_MAGSAC), affine for four or more, else None."""
    if len(here) < 4:
        return None
    here, there, limit = here * PIXELS, there * PIXELS, tolerance * PIXELS
    if len(here) < 8:
        affine, _ = cv2.estimateAffine2D(here, there, method=cv2.USAC_MAGSAC, ransacReprojThreshold=limit)
        found = None if affine is None else np.vstack([affine, [0.0, 0.0, 1.0]])
    else:
        found, _ = cv2.findHomography(here, there, cv2.USAC_MAGSAC, limit, maxIters=500, confidence=0.995)
    return None if found is None else from_pixels(found, (PIXELS, PIXELS), (PIXELS, PIXELS))


def plausible(before: Array, after: Array) -> bool:
    """Whether a refined transform still is one: finite, not mirrored, and of about the size that it had."""
    if not np.isfinite(after).all():
        return False
    ratio = np.linalg.det(after[:2, :2]) / np.linalg.det(before[:2, :2])
    return bool(0.25 < ratio < 4)
