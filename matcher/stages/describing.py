"""Pictures -> stage folders ``pictures`` and ``keypoints``, and what a strategy asks for beside them.

``descriptors``, if it names a backbone; ``crops`` and ``crop_keypoints`` of the queries, if it looks at what is pasted in them.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from matcher.background import background_print
from matcher.crops import CropSet, describe_crops
from matcher.describe import (
    card_digest,
    describe_views,
    find_detector,
    load_detector,
    load_model,
    made_by,
    wants,
    weights_path,
)
from matcher.engine.kernels import available_cores
from matcher.engine.once import Once
from matcher.engine.shards import run_shards
from matcher.errors import MatcherError, UsageError
from matcher.features import FeatureSet, describe_pictures
from matcher.images.table import ImageSet, read_images
from matcher.settings import CropSettings, DescriptorSettings, Strategy
from matcher.shortlist.rules import check_rules
from matcher.shortlist.similarity import PairSimilarity, compare_views
from matcher.stages.collection import IMAGES, Collection, is_collection
from matcher.stages.job import Job
from matcher.storage.aside import remove_temporaries
from matcher.storage.manifest import MANIFEST_NAME, refuse_stale
from matcher.storage.records import read_extra, read_record, write_record
from matcher.storage.stage import Stage
from matcher.types import Descriptors, Errors, Keypoints, Pictures, Views
from matcher.views.choose import OVERLAYS, PROPOSALS, choose, kinds_of_all

Side = Literal["query", "reference"]
PLURAL: dict[Side, str] = {"query": "queries", "reference": "references"}
SHARD = 32  # pictures
ERRORS, DESCRIPTORS = "errors.parquet", "descriptors"
CROPS, CROP_KEYPOINTS = "crops", "crop_keypoints"
log = logging.getLogger("matcher")
_loaded: ContextVar[dict[Path, tuple[FeatureSet, str]]] = ContextVar("_loaded")  # folder -> what load_described found in it


def describe_path(place: str | PathLike[str], folder: Path, *, side: Side, strategy: Strategy, job: Job) -> Path:
    """Pictures at a place (see images.table) -> described in ``folder``, with the list of them and of the bad ones beside.

    MatcherError if none of them can be used; the list of the bad ones is written then too.
    """
    images, unread = read_images(place, PLURAL[side], on_error=job.on_error)
    describe_set(images, unread, folder, side=side, strategy=strategy, job=job)
    errors = read_record(folder / ERRORS, Errors)
    if 0 < len(errors) == len(images) + len(unread):
        told = f"none of the {len(errors):,} {PLURAL[side]} can be used, so there is nothing to compare, see {folder / ERRORS}"
        raise MatcherError(f"{told}; the first: {errors.message[0]}")
    return folder


def describe_set(images: ImageSet, unread: Errors, folder: Path, *, side: Side, strategy: Strategy, job: Job) -> Path:
    """Images (N,), and those that could not be listed -> likewise, whatever can be used."""
    folder.mkdir(parents=True, exist_ok=True)
    undecoded = describe_images(images, folder, side=side, strategy=strategy, job=job)
    remove_temporaries(folder)
    errors = Errors.concat([unread, undecoded])
    write_record(folder / IMAGES, images, extra=images.extra)
    write_record(folder / ERRORS, errors)
    if 0 < len(errors) < (count := len(images) + len(unread)):
        log.warning("%d of %d %s cannot be used, see %s", len(errors), count, PLURAL[side], folder / ERRORS)
    return folder


def describe_images(images: ImageSet, folder: Path, *, side: Side, strategy: Strategy, job: Job) -> Errors:
    """Images (N,) -> finished stages in ``folder``; the bad ones."""
    settings = strategy.query_keypoints if side == "query" else strategy.reference_keypoints
    config = {"images": asdict(strategy.images), "keypoints": asdict(settings)}
    inputs, plural = {"images": fingerprint(images)}, PLURAL[side]
    pictures = Stage.open(
        folder / "pictures", Pictures, config=config, inputs=inputs, items=len(images), items_per_shard=SHARD, fresh=job.fresh
    )
    keypoints = Stage.open(
        folder / "keypoints", Keypoints, config=config, inputs=inputs, items=len(images), items_per_shard=SHARD, fresh=job.fresh
    )
    cache = Path(job.cache) if job.cache else None
    for number in pictures.pending():  # both stages are made together, so a part deleted from one is missing in both
        keypoints.forget(number)
    number_of = {start: number for number, (start, _) in enumerate(pictures.manifest.shards)}

    def work(rows: range) -> tuple[Keypoints, Errors]:
        chosen = images.take(slice(rows.start, rows.stop))
        found, points, errors = describe_pictures(chosen, settings, image_settings=strategy.images, stage=plural, cache=cache)
        refuse(errors, job)
        pictures.write(number_of[rows.start], found)
        return points, errors

    run_shards(keypoints, work, engine=job.engine, workers=job.workers, apart=True, label=f"keypoints of {plural}")
    remove_temporaries(pictures.folder)  # of a process that died
    if strategy.descriptor is not None:
        describe_globally(images, folder, side=side, strategy=strategy, job=job)
    if side == "query" and strategy.query_crop is not None:
        describe_pasted(images, folder, strategy.query_crop, strategy=strategy, job=job)
    return keypoints.errors()


def describe_globally(images: ImageSet, folder: Path, *, side: Side, strategy: Strategy, job: Job) -> None:
    """Images (N,) -> the stage ``descriptors`` of their views. Bad pictures are listed by the keypoints stage already."""
    settings, names = descriptor_of(strategy), views_of(strategy, side)
    inputs = {"images": fingerprint(images)}
    stage = Stage.open(
        folder / DESCRIPTORS,
        Descriptors,
        config=descriptor_config(strategy, side),
        inputs=inputs,
        items=len(images),
        items_per_shard=SHARD,
        fresh=job.fresh,
    )
    if stage.is_finished:
        return
    model, detector = Once(partial(load_model, settings)), Once(partial(load_detector, settings, names))
    workers = job.workers or available_cores()

    def work(rows: range) -> tuple[Descriptors, Errors]:
        chosen = images.take(slice(rows.start, rows.stop))
        return describe_views(
            chosen, settings, image_settings=strategy.images, names=names, model=model(), detector=detector(), workers=workers
        )

    run_shards(stage, work, engine=job.engine, workers=job.workers, whole=True, label=f"descriptors, {side} side")


def describe_pasted(images: ImageSet, folder: Path, settings: CropSettings, *, strategy: Strategy, job: Job) -> None:
    """Images (N,) of the queries -> the stages ``crops`` and ``crop_keypoints``. Bad pictures are listed by the keypoints stage already."""
    config, inputs = crop_config(strategy, settings), {"images": fingerprint(images)}
    crops = Stage.open(folder / CROPS, Views, config=config, inputs=inputs, items=len(images), items_per_shard=SHARD, fresh=job.fresh)
    keypoints = Stage.open(
        folder / CROP_KEYPOINTS, Keypoints, config=config, inputs=inputs, items=len(images), items_per_shard=SHARD, fresh=job.fresh
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


def detector_config(name: str) -> dict[str, str]:
    """Name of an overlay detector -> it, and what its file of weights holds."""
    return {"name": name, "digest": card_digest(weights_path(name, "overlay"))}


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


def descriptor_config(strategy: Strategy, side: Side) -> dict[str, Any]:
    """What decides the descriptors of one side: settings, and what the files of weights hold."""
    settings, names = descriptor_of(strategy), views_of(strategy, side)
    made = {name: getattr(settings, name) for name in ("backbone", "weights", "seed", "size", "batch_size")}
    config = {"images": asdict(strategy.images), "descriptor": {**made, "made_by": made_by(settings)}, "views": names}
    if wants(names, OVERLAYS) and settings.detector is not None:
        config["detector"] = detector_config(settings.detector)
        config["boxes"] = asdict(settings.boxes)
    if wants(names, PROPOSALS):
        config["proposals"] = asdict(settings.proposals)
    return config


def descriptor_of(strategy: Strategy) -> DescriptorSettings:
    if strategy.descriptor is None:
        raise UsageError("this strategy has no descriptor: set strategy.descriptor.backbone")
    return strategy.descriptor


def views_of(strategy: Strategy, side: Side) -> list[str]:
    """Names of the views of one side."""
    settings = descriptor_of(strategy)
    return settings.query_views if side == "query" else settings.reference_views


def load_descriptors(folder: Path, *, side: Side, strategy: Strategy) -> tuple[Descriptors, str]:
    """Folder that describe wrote, or a collection -> those of its descriptors that the strategy asks for, and their fingerprint.

    More views may be described than that. MatcherError if there are none, StaleStageError if another model or detector made them,
    or views are missing.
    """
    if is_collection(folder):
        collection = Collection.read(folder)
        collection.refuse_other({**collection.config, "descriptor": descriptor_config(strategy, side)})
        return collection.descriptors(), collection.fingerprint
    if not (folder / DESCRIPTORS / MANIFEST_NAME).is_file():
        raise MatcherError(f"{folder} has no descriptors: describe it again with this strategy, into another --output")
    stage = Stage.load(folder / DESCRIPTORS, Descriptors)
    wanted, names = json.loads(json.dumps(descriptor_config(strategy, side))), views_of(strategy, side)
    described = stage.manifest.config.get("views") or []
    if described == names or not kinds_of_all(names) <= kinds_of_all(described):
        refuse_stale(stage.folder, stage.manifest, replace(stage.manifest, config=wanted))
        return stage.read(), stage.fingerprint
    refuse_stale(stage.folder, stage.manifest, replace(stage.manifest, config={**stage.manifest.config, **wanted, "views": described}))
    found = stage.read()
    return found.take(choose(found.kind, names)), f"{stage.fingerprint}, views {' '.join(names)}"


def compare_descriptors(
    queries: Path, references: Path, library: Pictures, strategy: Strategy
) -> tuple[PairSimilarity | None, dict[str, str]]:
    """Folders that describe wrote, and the pictures of the references -> similarities of pairs, and fingerprints of what decides them.

    None, and none, if the strategy names no descriptor. MatcherError if a picture is one of the background's.
    """
    if strategy.descriptor is None:
        return None, {}
    sub_image = strategy.scorers.sub_image
    check_rules([*strategy.shortlist.descriptor, *(sub_image.views if sub_image else ())], strategy.descriptor)
    first, query_print = load_descriptors(queries, side="query", strategy=strategy)
    second, reference_print = load_descriptors(references, side="reference", strategy=strategy)
    prints = {"query_descriptors": query_print, "reference_descriptors": reference_print}
    if normalised := background_print(strategy.descriptor):
        prints["background"] = json.dumps(normalised, sort_keys=True)
    asked = Stage.load(queries / "pictures", Pictures).read()
    return compare_views(first, second, strategy.descriptor, query=asked, reference=library), prints


def fingerprint(images: ImageSet) -> str:
    """Images (N,) -> how many they are, and a digest of their ids, paths, sizes and times of change."""
    digest = hashlib.sha256()
    for row in zip(images.id.tolist(), images.path.tolist(), images.bytes.tolist(), images.mtime_ns.tolist(), strict=True):
        digest.update(repr(row).encode("utf-8", "surrogatepass"))
    return f"{len(images)} pictures, {digest.hexdigest()[:16]}"


def refuse(errors: Errors, job: Job) -> None:
    """With ``on_error: raise``, the first bad item ends the run."""
    if job.on_error == "raise" and len(errors):
        raise MatcherError(f"{errors.path[0]}: {errors.message[0]} ({errors.code[0]}; --on-error skip lists such pictures and goes on)")


def load_described(folder: Path) -> tuple[FeatureSet, str]:
    """Folder that describe wrote, or a collection -> the feature set, and the fingerprint of its making. MatcherError if unfinished."""
    if is_collection(folder):
        collection = Collection.read(folder)
        return collection.features(), collection.fingerprint
    kept = _loaded.get({})
    if folder in kept:
        return kept[folder]
    stage = Stage.load(folder / "keypoints", Keypoints)
    found = FeatureSet(Stage.load(folder / "pictures", Pictures).read(), stage.read()), stage.fingerprint
    kept[folder] = found  # forgotten at once outside of loaded_once
    return found


@contextmanager
def loaded_once() -> Iterator[None]:
    """Within the block, whose stages nobody else changes, what was loaded stays in memory for the stage after."""
    token = _loaded.set({})
    try:
        yield
    finally:
        _loaded.reset(token)


def read_listed(folder: Path) -> tuple[ImageSet, pa.Table]:
    """Folder that describe wrote, or a collection -> the pictures as they were listed, and the user's own columns."""
    if is_collection(folder):
        return Collection.read(folder).images()
    return read_record(folder / IMAGES, ImageSet), read_extra(folder / IMAGES)
