"""Logits -> probabilities (Platt 1999), and pair scores with their logits -> predictions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from matcher.fusion import Fusion
from matcher.geometry import covered_share, invert, is_mirrored
from matcher.shortlist.neighbours import first_seen, rank_within
from matcher.types import PairScores, Predictions, Text


def probability(logit: NDArray[np.float64], fusion: Fusion) -> NDArray[np.float64]:
    """Fused logits (P,) -> probability (P,), strictly between 0 and 1, that the query is an edited copy of the reference."""
    calibrated = np.clip(fusion.slope * logit + fusion.offset, -30, 30)
    return 1 / (1 + np.exp(-calibrated))


def likeliest_first(scores: PairScores, logit: NDArray[np.float64], fusion: Fusion, *, answers: int | None = None) -> NDArray[np.int64]:
    """Pair scores (P,) and their logits (P,) -> rows in the order of their predictions; equal ones in the order of their ids.

    All rows, or the first ``answers`` of each query.
    """
    order = np.lexsort((scores.reference_id, scores.query_id, -probability(logit, fusion)))
    return order if answers is None else order[place_within(scores.query_id[order]) < answers]


def place_within(groups: Text) -> NDArray[np.int64]:
    """Group of each row (N,) -> how many rows of the same group stand before it, (N,)."""
    number = first_seen(groups)
    order = np.argsort(number, kind="stable")
    place = np.empty(len(groups), dtype=np.int64)
    place[order] = rank_within(number[order])
    return place


def predict(scores: PairScores, logit: NDArray[np.float64], fusion: Fusion, *, answers: int | None = None) -> Predictions:
    """Pair scores (P,) and their logits (P,) -> predictions, likeliest first; all, or at most ``answers`` a query."""
    order = likeliest_first(scores, logit, fusion, answers=answers)
    scores, found = scores.take(order), probability(logit, fusion)[order]
    known = np.asarray(np.isfinite(scores.frame).all(axis=(1, 2)))
    on_reference = [covered_share(frame) if ok else np.nan for frame, ok in zip(scores.frame, known, strict=True)]
    on_query = [covered_share(invert(frame)) if ok else np.nan for frame, ok in zip(scores.frame, known, strict=True)]
    flip = np.zeros(len(scores), dtype=bool)
    flip[known] = is_mirrored(scores.frame[known])
    return Predictions(
        query_id=scores.query_id,
        reference_id=scores.reference_id,
        frame=scores.frame,
        patch_frame=scores.patch_frame,
        evidence=scores.evidence,
        score=found,
        probability=found,
        query_covered=np.array(on_query, dtype=np.float32),
        reference_covered=np.array(on_reference, dtype=np.float32),
        flip=flip,
    )
