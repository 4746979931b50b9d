"""Logits -> probabilities (Platt 1999), and pair scores with their logits -> predictions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from matcher.fusion import Fusion
from matcher.geometry import covered_share, invert, is_mirrored
from matcher.types import PairScores, Predictions


def probability(logit: NDArray[np.float64], fusion: Fusion) -> NDArray[np.float64]:
    """Fused logits (P,) -> probability (P,), strictly between 0 and 1, that the query is an edited copy of the reference."""
    calibrated = np.clip(fusion.slope * logit + fusion.offset, -30, 30)
    return 1 / (1 + np.exp(-calibrated))


def likeliest_first(scores: PairScores, logit: NDArray[np.float64], fusion: Fusion) -> NDArray[np.int64]:
    """Pair scores (P,) and their logits (P,) -> rows (P,) in the order of their predictions; equal ones in the order of their ids."""
    return np.lexsort((scores.reference_id, scores.query_id, -probability(logit, fusion)))


def predict(scores: PairScores, logit: NDArray[np.float64], fusion: Fusion) -> Predictions:
    """Pair scores (P,) and their logits (P,) -> predictions, likeliest first."""
    order = likeliest_first(scores, logit, fusion)
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
