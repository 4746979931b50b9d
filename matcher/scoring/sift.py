"""Keypoints and pixels of a pair -> named evidence and the frame. A scorer returns evidence, not promises."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from matcher.geometry import Array, invert, normalise, region
from matcher.models.sift import LocalFeatures
from matcher.scoring.agreement import pixel_agreement
from matcher.scoring.matching import Match, match
from matcher.scoring.nearest import BothImages
from matcher.settings import SiftScorerSettings

NAMES = ("sift_matches", "sift_support", "sift_inliers", "sift_inlier_ratio", "sift_spread", "sift_agreement", "sift_agreeing")
FEWEST = 4  # inliers below which there is no frame worth looking at pixels for
NOTHING = dict.fromkeys(NAMES, 0.0) | {"sift_agreement": np.nan, "sift_agreeing": np.nan, "sift_spread": np.nan}
CELLS = 4
Pixels = Callable[[], NDArray[np.uint8]]


def judge(
    query: LocalFeatures, reference: LocalFeatures, near: BothImages | None, images: tuple[Pixels, Pixels], settings: SiftScorerSettings
) -> tuple[dict[str, float], Array | None]:
    """Keypoints of a pair, and functions that give its RGB pictures when asked -> evidence by name, and the frame query -> reference.

    The frame is None if there is none. ``near`` is what ``nearest_two`` says of the pair.

    sift_matches: matches that pass the ratio test. sift_support: weighted matches that agree on one similarity.
    sift_inliers: keypoints that match where the final transform predicts them; sift_inlier_ratio: of those that could.
    sift_spread: share (0 to 1) of 4 x 4 cells over the found region of the reference that hold an inlier.
    sift_agreement, sift_agreeing: median correlation (-1 to 1) of the pixels, and the share of windows that agree.
    """
    found = match(query, reference, near, settings)
    if found is None:
        return dict(NOTHING), None
    evidence = dict(NOTHING) | {
        "sift_matches": float(found.proposed),
        "sift_support": found.support,
        "sift_inliers": float(len(found.pairs)),
        "sift_inlier_ratio": len(found.pairs) / max(found.visible, 1),
    }
    if len(found.pairs) < FEWEST or (frame := frame_of(found, query, reference)) is None:
        return evidence, None
    evidence["sift_spread"] = spread(frame, reference.point[found.pairs[:, 1]])
    evidence["sift_agreement"], evidence["sift_agreeing"] = pixel_agreement(images[0](), images[1](), frame, side=settings.agreement_side)
    return evidence, frame


def frame_of(found: Match, query: LocalFeatures, reference: LocalFeatures) -> Array | None:
    """The match's map in even units -> a frame between unit squares; None if it is degenerate."""
    frame = normalise(np.diag([*(1 / reference.shape_wh), 1.0]) @ found.matrix @ np.diag([*query.shape_wh, 1.0]))
    if not np.isfinite(frame).all() or abs(np.linalg.det(frame)) < 1e-9:
        return None
    return frame if len(region(frame)) >= 3 and len(region(invert(frame))) >= 3 else None


def spread(frame: Array, points: NDArray[np.float32]) -> float:
    """Frame and inliers (n, 2) on the reference's unit square -> share of cells of the found region's box that hold one."""
    seen = region(frame)
    inside = (points - seen.min(axis=0)) / np.maximum(np.ptp(seen, axis=0), 1e-9)
    cells = np.clip((inside * CELLS).astype(int), 0, CELLS - 1) @ np.array([CELLS, 1])
    return len(np.unique(cells)) / CELLS**2
