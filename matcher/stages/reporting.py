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
from matcher.stages.describing import ERRORS, read_listed
from matcher.storage.aside import check_output
from matcher.storage.records import read_record
from matcher.types import Errors, Predictions

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
    check_output(output, ".html")
    found = read_record(predictions, Predictions)
    looked_at = len(found)
    (asked, unasked), (known, unknown) = images_of(queries, "queries"), images_of(references, "references")
    sides = asked, known
    truth = GroundTruth.read(Path(ground_truth)) if ground_truth is not None else None
    if truth is None:
        found = found.take(found.probability >= LEAST)
    for side, images, named in zip(("queries", "references"), sides, (found.query_id, found.reference_id), strict=True):
        if absent := sorted({*named.tolist()}.difference(images.id.tolist())):
            log.warning(
                "%d of the %s predicted, the first %s, are not among those given: they cannot be shown", len(absent), side, absent[0]
            )
    measured = evaluate(found, truth) if truth is not None else None
    counts = {"queries": usable(asked, unasked), "references": usable(known, unknown), "pairs looked at": looked_at}
    counts |= {"could not be used": bad} if (bad := len(unasked) + len(unknown)) else {}
    counts |= facts or {}
    return write_report(output, found, *sides, truth=truth, evaluation=measured, facts=counts, limit=limit, image_settings=image_settings)


def images_of(place: Place, side: str) -> tuple[ImageSet, Errors]:
    """Pictures, or a folder that describe wrote of them, or a collection -> the image set, and those known to be of no use."""
    folder = Path(place)
    if is_collection(folder):  # which told of these when they were added
        return read_listed(folder)[0], Errors.empty()
    if not (folder / IMAGES).is_file():
        return read_images(place, side)
    return read_listed(folder)[0], read_record(folder / ERRORS, Errors)


def usable(images: ImageSet, errors: Errors) -> int:
    return len(set(images.id.tolist()).difference(errors.id.tolist()))
