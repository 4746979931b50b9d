"""Queries -> the stages ``crops`` and ``crop_keypoints``: what is pasted in them, if the strategy looks at that."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from matcher.crops import CropSet, describe_crops
from matcher.describe import find_detector
from matcher.engine.once import Once
from matcher.engine.shards import run_shards
from matcher.errors import MatcherError
from matcher.features import FeatureSet
from matcher.images.table import ImageSet
from matcher.settings import CropSettings, Strategy
from matcher.stages.descriptors import detector_config
from matcher.stages.job import Job
from matcher.storage.manifest import MANIFEST_NAME, refuse_stale
from matcher.storage.stage import Stage
from matcher.types import Keypoints, Views

CROPS, CROP_KEYPOINTS = "crops", "crop_keypoints"


def describe_pasted(
    images: ImageSet, folder: Path, settings: CropSettings, *, strategy: Strategy, job: Job, inputs: dict[str, str], items_per_shard: int
) -> None:
    """Images (N,) of the queries -> the stages ``crops`` and ``crop_keypoints``. Bad pictures are listed by the keypoints stage already."""
    config, per = crop_config(strategy, settings), items_per_shard
    crops = Stage.open(folder / CROPS, Views, config=config, inputs=inputs, items=len(images), items_per_shard=per, fresh=job.fresh)
    keypoints = Stage.open(
        folder / CROP_KEYPOINTS, Keypoints, config=config, inputs=inputs, items=len(images), items_per_shard=per, fresh=job.fresh
    )
    for number in crops.pending():  # made together, like pictures and keypoints
        keypoints.forget(number)
    if keypoints.is_finished:
        return
    number_of = {start: number for number, (start, _) in enumerate(crops.manifest.shards)}
    detector = Once(partial(find_detector, settings.detector))

    def work(rows: range) -> Keypoints:
        chosen = images.take(slice(rows.start, rows.stop))
        found, points = describe_crops(
            chosen, strategy.query_keypoints, rules=settings.boxes, image_settings=strategy.images, detector=detector()
        )
        crops.write(number_of[rows.start], found)
        return points

    run_shards(keypoints, work, engine=job.engine, workers=job.workers, label="keypoints of what is pasted")


def crop_config(strategy: Strategy, settings: CropSettings) -> dict[str, Any]:
    """What decides the crops of the queries and their keypoints."""
    keypoints = {"images": asdict(strategy.images), "keypoints": asdict(strategy.query_keypoints)}
    return {**keypoints, "detector": detector_config(settings.detector), "boxes": asdict(settings.boxes)}


def load_crops(folder: Path, pictures: FeatureSet, strategy: Strategy) -> tuple[CropSet | None, dict[str, str]]:
    """Folder that describe wrote of the queries, and its pictures -> the crops, and the fingerprint of what decides them.

    None, and none, if the strategy looks at no crops. MatcherError if there are none, StaleStageError if others were looked at.
    """
    if strategy.query_crop is None:
        return None, {}
    if not (folder / CROP_KEYPOINTS / MANIFEST_NAME).is_file():
        raise MatcherError(f"{folder} has no crops: describe it again with this strategy, into another --output")
    crops, keypoints = Stage.load(folder / CROPS, Views), Stage.load(folder / CROP_KEYPOINTS, Keypoints)
    wanted = json.loads(json.dumps(crop_config(strategy, strategy.query_crop)))
    refuse_stale(keypoints.folder, keypoints.manifest, replace(keypoints.manifest, config=wanted))
    return CropSet(pictures, crops.read(), keypoints.read()), {"query_crops": keypoints.fingerprint}
