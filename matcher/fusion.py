"""Evidence of all scorers -> one logit a pair: a logistic model on a few terms, and a floor under what is proved."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matcher.errors import MatcherError, UsageError
from matcher.scoring.pair_model import SUREST
from matcher.storage.sealed import read_sealed, write_sealed
from matcher.types import PairScores

Column = NDArray[np.float64]
Evidence = Mapping[str, Column]
FOLDS = 5  # the model is calibrated on logits of queries that were held out, a fifth at a time
PROVED = 9.21  # logit of 0.9999: the least that an identical or untouched picture gets


def number(evidence: Evidence, name: str) -> Column:
    """A column of evidence, 0 where the scorer did not look or found nothing to measure."""
    return np.nan_to_num(evidence[name], nan=0.0)


# More terms than these (inliers, spread, median agreement, products) told copies from strangers no better, checkpoints/README.md.
Terms = dict[str, Callable[[Evidence], Column]]
SIFT_TERMS: Terms = {
    "log_support": lambda e: np.log1p(number(e, "sift_support")),
    "inlier_ratio": lambda e: number(e, "sift_inlier_ratio"),
    "agreeing": lambda e: number(e, "sift_agreeing"),
}
DESCRIPTOR_TERMS: Terms = {
    "similarity": lambda e: number(e, "descriptor_similarity"),
}
PAIR_TERMS: Terms = {
    "pair": lambda e: np.clip(number(e, "pair_logit"), -SUREST, SUREST),
    "pair_mean": lambda e: number(e, "pair_mean"),
}
COUNT_TERMS: Terms = {
    "log_count": lambda e: np.log1p(number(e, "match_count")),
}
TERMS = SIFT_TERMS | DESCRIPTOR_TERMS | PAIR_TERMS | COUNT_TERMS
# Scorer -> evidence that it always gives, and its terms.
SCORERS = {
    "sift": ("sift_inliers", SIFT_TERMS),
    "sub_image": ("descriptor_similarity", DESCRIPTOR_TERMS),
    "pair_model": ("pair_logit", PAIR_TERMS),
    "match_count": ("match_count", COUNT_TERMS),
}


@dataclass(frozen=True)
class Fusion:
    """Weights of the terms, and the calibration ``probability = sigmoid(slope * logit + offset)`` that belongs to them."""

    weights: dict[str, float]
    intercept: float
    slope: float
    offset: float
    card: dict[str, Any]

    def logit(self, scores: PairScores) -> Column:
        """Pair scores (P,) -> logits (P,). What is identical or untouched is calibrated to PROVED at least, whatever else was found."""
        if not len(scores):  # no pairs, no columns of evidence
            return np.empty(0)
        evidence = {name: np.asarray(values, dtype=np.float64) for name, values in scores.evidence.items()}
        try:
            terms = [weight * TERMS[name](evidence) for name, weight in self.weights.items()]
            proved = (evidence["identical"] > 0) | (evidence["untouched"] > 0)
        except KeyError as error:
            raise lacking(error) from error
        logit = np.full(len(scores), self.intercept) + np.sum(terms, axis=0, initial=0.0)
        return np.where(proved, np.maximum(logit, (PROVED - self.offset) / self.slope), logit)

    def digest(self) -> str:
        """What tells it from other models, whatever their cards say."""
        numbers = {name: value for name, value in asdict(self).items() if name != "card"}
        return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()


def read_fusion(path: str | Path) -> Fusion:
    """JSON file -> the model in it. MatcherError if it is something else."""
    content = read_sealed(Path(path))
    try:
        made = Fusion(**content)
        unknown = [name for name in made.weights if name not in TERMS]
        numbers = np.array([*made.weights.values(), made.intercept, made.slope, made.offset])
        if numbers.dtype.kind not in "if" or not isinstance(made.card, dict):
            raise TypeError("weights, intercept, slope and offset must be numbers, the card keys and values")
    except (TypeError, AttributeError, ValueError) as error:
        raise MatcherError(f"{path} is no fusion model: make one with `matcher fit-fusion`") from error
    if not np.isfinite(numbers).all() or made.slope <= 0:
        raise MatcherError(f"{path} is no fusion model: numbers must be finite and the slope above 0; make one with `matcher fit-fusion`")
    if unknown:
        raise MatcherError(f"{path} has a weight for {unknown[0]!r}, which this matcher does not know; it knows {', '.join(TERMS)}")
    return made


def lacking(error: KeyError) -> MatcherError:
    return MatcherError(f"the fusion model wants evidence {error} that these pair scores lack: score and fit with the same scorers")


def write_fusion(path: str | Path, fusion: Fusion) -> None:
    """Model -> JSON file."""
    write_sealed(Path(path), asdict(fusion))


def fit(
    scores: PairScores, is_copy: NDArray[np.bool_], *, seed: int, card: dict[str, Any], scorers: Sequence[str] | None = None
) -> tuple[Fusion, Column]:
    """Pair scores (P,) and their labels (P,) -> a logistic model, calibrated on logits of queries that it was not fitted on.

    With it come the probabilities (P,) that those logits give: each by a model that saw none of the pair's query.
    Its terms are those of the scorers that looked at these pairs, or of those of them that are named (names of SCORERS).
    MatcherError if there are fewer than 20 pairs of either kind or than FOLDS queries, or the evidence does not tell them apart.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if min(is_copy.sum(), (~is_copy).sum()) < 20:
        raise MatcherError(
            f"{is_copy.sum()} copies and {(~is_copy).sum()} strangers are too few to fit a fusion model: 20 of each are needed"
        )
    if (queries := len(np.unique(scores.query_id))) < FOLDS:
        raise MatcherError(f"{queries} queries are too few to fit a fusion model: {FOLDS} are needed")
    evidence = {name: np.asarray(values, dtype=np.float64) for name, values in scores.evidence.items()}
    try:
        chosen = looked_at(evidence, SCORERS if scorers is None else scorers)
        terms = np.stack([term(evidence) for term in chosen.values()], axis=1)
    except KeyError as error:
        raise lacking(error) from error
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=5000))
    folds = list(GroupKFold(FOLDS, shuffle=True, random_state=seed).split(terms, groups=scores.query_id))
    if any(len(np.unique(is_copy[rest])) < 2 for rest, _ in folds):
        raise MatcherError("copies, or strangers, are of so few queries that none are left with a fifth held out: label more queries")
    held_out = cross_val_predict(model, terms, is_copy, cv=folds, method="decision_function")
    scale = LogisticRegression(C=1e6, max_iter=5000).fit(held_out[:, None], is_copy)
    if scale.coef_[0, 0] <= 0:
        raise MatcherError("this evidence does not tell copies from strangers: check the ground truth that these pairs were labelled with")
    model.fit(terms, is_copy)
    weights = model[-1].coef_[0] / model[0].scale_
    fusion = Fusion(
        weights=dict(zip(chosen, weights.tolist(), strict=True)),
        intercept=float(model[-1].intercept_[0] - weights @ model[0].mean_),
        slope=float(scale.coef_[0, 0]),
        offset=float(scale.intercept_[0]),
        card={**card, "copies": int(is_copy.sum()), "strangers": int((~is_copy).sum())},
    )
    return fusion, scale.predict_proba(held_out[:, None])[:, 1]


def looked_at(evidence: Evidence, scorers: Iterable[str]) -> Terms:
    """Evidence, names of scorers -> terms of those that looked at a pair. KeyError if a column is missing, MatcherError if none did."""
    if isinstance(scorers, str) or not set(scorers := list(scorers)) <= SCORERS.keys() or not scorers:
        raise UsageError(f"scorers must be some of {', '.join(SCORERS)}, not {scorers!r}")
    chosen = [terms for name, terms in map(SCORERS.__getitem__, scorers) if np.isfinite(evidence[name]).any()]
    if not chosen:
        raise MatcherError(
            f"none of {', '.join(scorers)} looked at these pairs: score them with keypoints, match counts, a descriptor or a pair model"
        )
    return {name: term for terms in chosen for name, term in terms.items()}
