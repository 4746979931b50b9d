"""Pictures -> the stage ``descriptors`` of their views, and what other stages ask of it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from matcher.background import background_print
from matcher.describe import card_digest, describe_views, load_detector, load_model, made_by, wants, weights_path
from matcher.engine.kernels import available_cores
from matcher.engine.once import Once
from matcher.engine.shards import run_shards
from matcher.errors import MatcherError, UsageError
from matcher.images.table import ImageSet
from matcher.settings import DescriptorSettings, Strategy
from matcher.shortlist.rules import check_rules
from matcher.shortlist.similarity import PairSimilarity, compare_views
from matcher.stages.collection import Collection, is_collection
from matcher.stages.job import Job
from matcher.storage.manifest import MANIFEST_NAME, refuse_stale
from matcher.storage.stage import Stage
from matcher.types import Descriptors, Errors, Pictures
from matcher.views.choose import OVERLAYS, PROPOSALS, choose, kinds_of_all

Side = Literal["query", "reference"]
DESCRIPTORS = "descriptors"


def describe_globally(
    images: ImageSet, folder: Path, *, side: Side, strategy: Strategy, job: Job, inputs: dict[str, str], items_per_shard: int
) -> None:
    """Images (N,) -> the stage ``descriptors`` of their views. Bad pictures are listed by the keypoints stage already."""
    settings, names = descriptor_of(strategy), views_of(strategy, side)
    stage = Stage.open(
        folder / DESCRIPTORS,
        Descriptors,
        config=descriptor_config(strategy, side),
        inputs=inputs,
        items=len(images),
        items_per_shard=items_per_shard,
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


def detector_config(name: str) -> dict[str, str]:
    """Name of an overlay detector -> it, and what its file of weights holds."""
    return {"name": name, "digest": card_digest(weights_path(name, "overlay"))}


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
