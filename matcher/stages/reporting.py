"""Prediction files and pictures -> the report page."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from matcher.errors import UsageError
from matcher.images.table import ImageSet, read_images
from matcher.metrics.evaluation import evaluate
from matcher.metrics.truth import GroundTruth
from matcher.report.page import write_report
from matcher.settings import ImageSettings
from matcher.stages.collection import IMAGES, is_collection
from matcher.stages.describing import read_listed
from matcher.storage.records import read_record
from matcher.types import Predictions

Place = str | PathLike[str]
log = logging.getLogger("matcher")
LEAST = 0.01  # predictions below this probability are not shown, unless a ground truth could call them missed


def report_files(
    predictions: Place,
    queries: Place,
    references: Place,
    output: Path,
    *,
    ground_truth: Place | None,
    limit: int,
    image_settings: ImageSettings,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Files -> the HTML page ``output``. UsageError if the predictions are the CSV, which does not say where the copies lie."""
    if Path(predictions).suffix.lower() == ".csv":
        raise UsageError(f"--predictions {predictions}: the page draws what predictions.parquet says, which lies beside the CSV")
    found = read_record(predictions, Predictions)
    looked_at = len(found)
    sides = [images_of(queries, "queries"), images_of(references, "references")]
    truth = GroundTruth.read(Path(ground_truth)) if ground_truth is not None else None
    if truth is None:
        found = found.take(found.probability >= LEAST)
    for side, images, named in zip(("queries", "references"), sides, (found.query_id, found.reference_id), strict=True):
        if absent := sorted({*named.tolist()}.difference(images.id.tolist())):
            log.warning(
                "%d of the %s predicted, the first %s, are not among those given: they cannot be shown", len(absent), side, absent[0]
            )
    measured = evaluate(found, truth) if truth is not None else None
    counts = {"queries": len(sides[0]), "references": len(sides[1]), "pairs looked at": looked_at, **(facts or {})}
    return write_report(output, found, *sides, truth=truth, evaluation=measured, facts=counts, limit=limit, image_settings=image_settings)


def images_of(place: Place, side: str) -> ImageSet:
    """Pictures, or a folder that describe wrote of them, or a collection -> the image set."""
    folder = Path(place)
    is_listed = is_collection(folder) or (folder / IMAGES).is_file()
    return read_listed(folder)[0] if is_listed else read_images(place, side)[0]
