"""Labelled pair scores -> a fusion model, and how good it is on queries that it was not fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matcher import __version__
from matcher.errors import MatcherError
from matcher.fusion import FOLDS, Column, Fusion, fit, write_fusion
from matcher.metrics.bootstrap import Interval
from matcher.metrics.evaluation import evaluate
from matcher.metrics.predicted import ScoredPairs
from matcher.metrics.summary import show_interval
from matcher.metrics.truth import GroundTruth
from matcher.storage.aside import check_output
from matcher.storage.stage import Stage
from matcher.types import PairScores

SAME_PIXELS = (0.8, 20)  # agreement and inliers above which a labelled stranger is a copy unknown to the truth
NAMES = {"micro_ap": "uAP", "recall_at_p90": "recall at P90", "calibration_error": "calibration error"}


@dataclass(frozen=True)
class Fitted:
    """What fit_fusion made, and how good it is on queries that it was not fitted on."""

    path: Path
    fusion: Fusion
    held_out: dict[str, Interval]  # by the name of the metric, over the pairs it was given

    def as_dict(self) -> dict[str, Any]:
        return {"path": str(self.path), "weights": self.fusion.weights, "card": self.fusion.card}

    def __str__(self) -> str:
        lines = [f"{name:18s} {weight:8.3f}" for name, weight in self.fusion.weights.items()]
        lines.append(f"fitted on {self.fusion.card['copies']} copies and {self.fusion.card['strangers']} strangers")
        lines.append(f"of queries held out, {FOLDS} folds, among these pairs (95 % intervals):")
        for name, interval in self.held_out.items():
            value, span = show_interval(interval)
            lines.append(f"  {NAMES[name]:17s} {value}  {span}")
        return "\n".join([*lines, str(self.path)])


def fit_on(pair_scores: Path, ground_truth: str | PathLike[str], output: Path, *, scorers: Sequence[str] | None, seed: int) -> Fitted:
    """Stage of pair scores and the truth about them -> a fusion model in ``output``.

    Left out are identical pictures, which teach nothing, and strangers that share their pixels: collections of photographs
    repeat themselves, and such a pair is a copy that the truth does not know of.
    """
    check_output(output, ".json", ground_truth)
    scores = Stage.load(pair_scores, PairScores).read()
    if not len(scores):
        raise MatcherError(f"{pair_scores} holds no pairs: there is nothing to fit a fusion model on")
    truth = set(GroundTruth.read(Path(ground_truth)).pairs())
    is_copy = np.array([pair in truth for pair in zip(scores.query_id.tolist(), scores.reference_id.tolist(), strict=True)], dtype=bool)
    telling = np.isfinite(scores.evidence["identical"]) & (scores.evidence["identical"] < 1)
    alike = (scores.evidence["sift_agreement"] > SAME_PIXELS[0]) & (scores.evidence["sift_inliers"] > SAME_PIXELS[1])
    repeated = telling & ~is_copy & alike
    telling &= ~repeated
    card = {
        "made_by": f"matcher {__version__} fit-fusion",
        "pair_scores": str(pair_scores),
        "ground_truth": str(ground_truth),
        "seed": seed,
        "strangers_left_out": int(repeated.sum()),
    }
    fusion, held_out = fit(scores.take(telling), is_copy[telling], seed=seed, card=card, scorers=scorers)
    measured = measure_held_out(scores.take(telling), is_copy[telling], held_out, seed=seed)
    fusion = replace(fusion, card={**fusion.card, "held_out": {name: asdict(interval) for name, interval in measured.items()}})
    write_fusion(output, fusion)
    return Fitted(output, fusion, measured)


def measure_held_out(scores: PairScores, is_copy: NDArray[np.bool_], probability: Column, *, seed: int) -> dict[str, Interval]:
    """Pairs (P,), their labels (P,) and probabilities (P,) by models that did not see their queries -> NAMES with intervals.

    The copies to be found are those among the pairs: what a shortlist missed is not counted here, see `evaluate`.
    Nor is what is proved lifted, as `fuse` does.
    """
    queries, copied = scores.query_id, scores.query_id[is_copy]
    others = np.setdiff1d(queries, copied)
    truth = GroundTruth(
        query_id=np.concatenate([copied, others]), reference_id=np.concatenate([scores.reference_id[is_copy], np.full(len(others), "")])
    )
    measured = evaluate(ScoredPairs.from_scores(queries, scores.reference_id, probability), truth, seed=seed)
    return {name: getattr(measured, name) for name in NAMES}
