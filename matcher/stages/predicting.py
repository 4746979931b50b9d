"""Pair scores -> logits -> predictions."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from matcher.calibration import likeliest_first, predict
from matcher.errors import MatcherError, UsageError
from matcher.fusion import COUNT_TERMS, SIFT_TERMS, Fusion, read_fusion
from matcher.metrics.predicted import write_predictions_csv
from matcher.settings import Strategy
from matcher.shipped import shipped
from matcher.storage.aside import check_output
from matcher.storage.columns import from_arrow
from matcher.storage.records import read_extra, read_metadata, read_record, write_record
from matcher.storage.stage import Stage
from matcher.types import PairScores

LOGIT = "logit"  # the column that fuse adds
FUSION = "fusion"  # the model that it added it by
HEADER = b"query_id,reference_id,score"  # of the CSV


def fuse_scores(pair_scores: Path, output: Path, *, strategy: Strategy) -> Path:
    """Stage of pair scores -> Parquet file with the same rows and their logits, without the pairs that could not be looked at."""
    check_output(output, ".parquet")
    stage = Stage.load(pair_scores, PairScores)
    scores = stage.read()
    seen = looked_at(scores)
    scores, table = scores.take(seen), stage.extra()
    extra = {name: table.column(name).filter(seen) for name in table.column_names}
    fusion = load_fusion(strategy)
    write_record(output, scores, metadata={FUSION: fusion.digest()}, extra={**extra, LOGIT: fusion.logit(scores)})
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
    check_output(output, ".parquet", fused)
    check_csv(csv := output.with_suffix(".csv"))
    scores, table = read_record(fused, PairScores), read_extra(fused)
    if LOGIT not in table.column_names:
        raise MatcherError(f"{fused} has no column {LOGIT!r}: make it with `matcher fuse`")
    logit, fusion = from_arrow(table.column(LOGIT), "float64"), load_fusion(strategy)
    if read_metadata(fused).get(FUSION, fusion.digest()) != fusion.digest():
        raise UsageError(f"{fused} was fused by another model than {strategy.fusion}: give the --strategy.fusion that `fuse` had")
    predictions = predict(scores, logit, fusion, answers=strategy.answers)
    own = table.drop_columns([LOGIT]).take(pa.array(likeliest_first(scores, logit, fusion, answers=strategy.answers))).combine_chunks()
    write_record(output, predictions, extra={name: own.column(name) for name in own.column_names})
    write_predictions_csv(csv, predictions.query_id, predictions.reference_id, predictions.score)
    return output


def check_csv(path: Path) -> None:
    """UsageError if a file lies where predictions will be written, unnamed by the user, and holds something else."""
    with suppress(OSError), path.open("rb") as file:
        if file.read(len(HEADER)) != HEADER:
            raise UsageError(f"{path} holds no predictions, and would be replaced: move it, or choose another --output")


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
