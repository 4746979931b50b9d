"""Pair scores -> logits -> predictions, and labelled pair scores -> the fusion model behind them."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from matcher import __version__
from matcher.calibration import likeliest_first, predict
from matcher.errors import MatcherError, UsageError
from matcher.fusion import COUNT_TERMS, SIFT_TERMS, Fusion, fit, read_fusion, write_fusion
from matcher.metrics.predicted import write_predictions_csv
from matcher.metrics.truth import GroundTruth
from matcher.settings import Strategy
from matcher.shipped import shipped
from matcher.storage.columns import from_arrow
from matcher.storage.records import read_extra, read_record, write_record
from matcher.storage.stage import Stage
from matcher.types import PairScores

LOGIT = "logit"  # the column that fuse adds
SAME_PIXELS = (0.8, 20)  # agreement and inliers above which a labelled stranger is a copy unknown to the truth


def fuse_scores(pair_scores: Path, output: Path, *, strategy: Strategy) -> Path:
    """Stage of pair scores -> Parquet file with the same rows and their logits, without the pairs that could not be looked at."""
    stage = Stage.load(pair_scores, PairScores)
    scores = stage.read()
    seen = looked_at(scores)
    scores, table = scores.take(seen), stage.extra()
    extra = {name: table.column(name).filter(seen) for name in table.column_names}
    write_record(output, scores, extra={**extra, LOGIT: load_fusion(strategy).logit(scores)})
    return output


def looked_at(scores: PairScores) -> NDArray[np.bool_]:
    """Pair scores (P,) -> False where a picture could not be used, (P,)."""
    return np.isfinite(scores.evidence["identical"]) if scores.evidence else np.zeros(len(scores), dtype=bool)


def calibrate_scores(fused: Path, output: Path, *, strategy: Strategy) -> Path:
    """File of fused pair scores -> predictions.parquet, and a CSV with query_id, reference_id and score beside it.

    The columns that the pairs and the pictures brought along are in the Parquet file.
    """
    if output.suffix.lower() != ".parquet":
        raise UsageError(f"--output {output} must end in .parquet: the CSV is written beside it, as {output.with_suffix('.csv').name}")
    scores, table = read_record(fused, PairScores), read_extra(fused)
    if LOGIT not in table.column_names:
        raise MatcherError(f"{fused} has no column {LOGIT!r}: make it with `matcher fuse`")
    logit, fusion = from_arrow(table.column(LOGIT), "float64"), load_fusion(strategy)
    predictions = predict(scores, logit, fusion)
    own = table.drop_columns([LOGIT]).take(pa.array(likeliest_first(scores, logit, fusion))).combine_chunks()
    write_record(output, predictions, extra={name: own.column(name) for name in own.column_names})
    write_predictions_csv(output.with_suffix(".csv"), predictions.query_id, predictions.reference_id, predictions.score)
    return output


def load_fusion(strategy: Strategy) -> Fusion:
    """A path, or the name of a model in checkpoints/fusion -> the model. UsageError if it weighs a scorer that is off."""
    named = strategy.fusion.endswith(".json")
    fusion = read_fusion(strategy.fusion if named else shipped("checkpoints", f"fusion/{strategy.fusion}.json"))
    judges = {"sift": ("keypoints", SIFT_TERMS), "match_count": ("match counts", COUNT_TERMS)}
    for name, (what, terms) in judges.items():
        if getattr(strategy.scorers, name) is None and terms.keys() & fusion.weights.keys():
            why = f"weighs {what}, and strategy.scorers.{name} is null: name one that was fitted without them (see matcher fit-fusion)"
            raise UsageError(f"strategy.fusion {strategy.fusion} {why}")
    return fusion


@dataclass(frozen=True)
class Fitted:
    """What fit_fusion made."""

    path: Path
    fusion: Fusion

    def as_dict(self) -> dict[str, Any]:
        return {"path": str(self.path), "weights": self.fusion.weights, "card": self.fusion.card}

    def __str__(self) -> str:
        lines = [f"{name:18s} {weight:8.3f}" for name, weight in self.fusion.weights.items()]
        return "\n".join(
            [*lines, f"fitted on {self.fusion.card['copies']} copies and {self.fusion.card['strangers']} strangers", str(self.path)]
        )


def fit_on(pair_scores: Path, ground_truth: str | PathLike[str], output: Path, *, seed: int) -> Fitted:
    """Stage of pair scores and the truth about them -> a fusion model in ``output``.

    Left out are identical pictures, which teach nothing, and strangers that share their pixels: collections of photographs
    repeat themselves, and such a pair is a copy that the truth does not know of.
    """
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
    fusion = fit(scores.take(telling), is_copy[telling], seed=seed, card=card)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_fusion(output, fusion)
    return Fitted(output, fusion)
