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
from dataclasses import asdict
from os import PathLike
from pathlib import Path

import numpy as np
import pyarrow as pa

from matcher.engine.shards import run_shards
from matcher.errors import PASSING, ImageError, MatcherError
from matcher.features import FeatureSet, describe_pictures
from matcher.images.table import ImageSet, read_images
from matcher.settings import Strategy
from matcher.stages.collection import IMAGES, Collection, is_collection
from matcher.stages.descriptors import Side, describe_globally
from matcher.stages.job import Job
from matcher.stages.pasted import describe_pasted
from matcher.storage.aside import remove_temporaries
from matcher.storage.records import read_extra, read_record, write_record
from matcher.storage.stage import Stage
from matcher.types import Errors, Keypoints, Pictures

PLURAL: dict[Side, str] = {"query": "queries", "reference": "references"}
SHARD = 32  # pictures
ERRORS = "errors.parquet"
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
    cache = job.cache_folder
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
        describe_globally(images, folder, side=side, strategy=strategy, job=job, inputs=inputs, items_per_shard=SHARD)
    if side == "query" and strategy.query_crop is not None:
        describe_pasted(images, folder, strategy.query_crop, strategy=strategy, job=job, inputs=inputs, items_per_shard=SHARD)
    warn_of_the_moment(errors := keypoints.errors(), plural)
    return errors


def fingerprint(images: ImageSet) -> str:
    """Images (N,) -> how many they are, and a digest of their ids, paths, sizes and times of change."""
    digest = hashlib.sha256()
    for row in zip(images.id.tolist(), images.path.tolist(), images.bytes.tolist(), images.mtime_ns.tolist(), strict=True):
        digest.update(repr(row).encode("utf-8", "surrogatepass"))
    return f"{len(images)} pictures, {digest.hexdigest()[:16]}"


def refuse(errors: Errors, job: Job) -> None:
    """With ``on_error: raise``, the first bad item ends the run."""
    if job.on_error == "raise" and len(errors):
        named = errors.message[0] if errors.path[0] in errors.message[0] else f"{errors.path[0]}: {errors.message[0]}"
        raise ImageError(errors.code[0], f"{named} ({errors.code[0]}; --on-error skip lists such pictures and goes on)")


def warn_of_the_moment(errors: Errors, what: str) -> None:
    """A warning, if some could not be read although they had been there to be listed: what is done stays done without them."""
    passing = np.isin(errors.code, PASSING)
    if passing.any():
        told = "%d %s could not be read, the first: %s; once that can be done, --fresh takes them in"
        log.warning(told, passing.sum(), what, errors.message[passing][0])


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


def warn_of_side(folder: Path, strategy: Strategy) -> None:
    """Folder of queries that describe wrote: a warning, if they were described as this strategy's references are."""
    if is_collection(folder) or strategy.query_keypoints == strategy.reference_keypoints:
        return
    described = Stage.load(folder / "keypoints", Keypoints).manifest.config["keypoints"]
    if described == json.loads(json.dumps(asdict(strategy.reference_keypoints))):
        log.warning("%s was described as references are, so fewer copies are found: describe queries with --side query", folder)


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
