"""Pictures -> a further shard of a collection; ids -> pictures that searches skip. Either happens whole or not at all."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from matcher.errors import ImageError, MatcherError, StaleStageError
from matcher.features import FeatureSet
from matcher.images.decode import content_key, read_bytes
from matcher.images.table import ImageSet, read_images
from matcher.index import Index
from matcher.index_kinds import LISTS, list_count
from matcher.keypoint_file import write_keypoints
from matcher.settings import ImageSettings, Strategy
from matcher.stages.collection import DESCRIPTORS, INDEX, KEYPOINTS, PICTURES, Collection, Shard, index_made_by, is_collection
from matcher.stages.describing import ERRORS, describe_set
from matcher.stages.descriptors import descriptor_config
from matcher.stages.job import Job
from matcher.storage.aside import TEMPORARY, remove_temporaries
from matcher.storage.columns import from_arrow
from matcher.storage.lock import LOCK_NAME, FolderLock, hold
from matcher.storage.records import write_record
from matcher.storage.stage import Stage
from matcher.storage.tables import read_table
from matcher.types import Descriptors, Errors, Keypoints, Pictures

Place = str | PathLike[str]
MOST = 50_000  # pictures of a shard: about 2.5 GB of keypoints, which are in memory while their index is made
GROWN = 4  # times as many lists as the last shard has: then a shard learns its own
SHARD_NAME = re.compile(r"\d{5,}")
STAGES = ("pictures", "keypoints", "descriptors")  # of a shard in the making
log = logging.getLogger("matcher")


def add_references(place: Place, folder: Path, *, strategy: Strategy, job: Job) -> Path:
    """Pictures at a place (see images.table) -> the collection with them. Those that are there unchanged are left as they are.

    MatcherError, and nothing added, if an id is there with another file, or another process changes the collection.
    """
    refuse_full(folder)
    lock, config = hold_folder(folder), collection_config(strategy)
    collection = Collection.read(folder) if is_collection(folder) else Collection(folder, config, [])
    collection.refuse_other(config)
    images, unread = read_images(place, "references", on_error=job.on_error)
    chosen = images.take(find_new(images, collection, strategy.images))
    if back := sorted(collection.removed.intersection(chosen.id.tolist())):
        log.warning("%d pictures come back that were removed, %s first: who wants them gone takes their files away too", len(back), back[0])
    collection = replace(collection, gone=sorted(set(collection.gone).difference(back)))
    for start in range(0, len(chosen), MOST):
        part = chosen.take(slice(start, start + MOST))
        collection = add_shard(part, unread if not start else Errors.empty(), collection, strategy=strategy, job=job)
    there = len(images) - len(chosen)
    shards = f"{len(collection.shards)} shard{'s' * (len(collection.shards) != 1)}"
    log.info("%s: %d pictures in %s%s", folder, len(collection), shards, f", {there} were there" if there else "")
    del lock
    return folder


def remove_references(ids: Place, folder: Path) -> Path:
    """Table with a column id -> the collection without these pictures; ids it does not hold are told. MatcherError if it holds none."""
    Collection.read(folder)  # else nothing is made where there is none
    lock, collection = hold_folder(folder), Collection.read(folder)
    wanted = set(from_arrow(read_table(ids, columns={"id": "text"}).column("id"), "text").tolist())
    shards, found = [], set()
    for shard, _, pictures in collection.read_pictures():
        here = wanted.intersection(pictures.id[shard.kept(pictures.id)].tolist())
        shards.append(replace(shard, removed=sorted({*shard.removed, *here})))
        found |= here
    if missing := sorted(wanted - found - collection.removed):
        told = f"{folder} holds no picture with the id {missing[0]!r} ({len(missing)} of {len(wanted)} ids)"
        if missing == sorted(wanted):
            raise MatcherError(f"{told}: nothing was removed")
        log.warning("%s: the others are removed", told)
    empty = [shard for shard in shards if len(shard.removed) == shard.pictures]
    gone = {*collection.gone, *(id_ for shard in empty for id_ in shard.removed)}
    replace(collection, shards=[shard for shard in shards if shard not in empty], gone=sorted(gone)).write()
    for shard in empty:
        shutil.rmtree(folder / shard.folder, ignore_errors=True)
    del lock
    return folder


def refuse_full(folder: Path) -> None:
    """MatcherError if a folder that is no collection holds anything but shards in the making: its pictures would not be seen any more."""
    if folder.is_dir() and not is_collection(folder):
        names = sorted(entry.name for entry in folder.iterdir() if entry.name != LOCK_NAME)
        if strangers := [name for name in names if not (SHARD_NAME.fullmatch(name) or TEMPORARY.fullmatch(name))]:
            raise MatcherError(f"{folder} is no collection and holds {strangers[0]!r} ({len(strangers)} such): name another --collection")


def hold_folder(folder: Path) -> FolderLock:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MatcherError(f"cannot make the folder {folder}: {error.strerror}; choose another --collection") from error
    lock = hold(folder)
    remove_temporaries(folder)
    return lock


def collection_config(strategy: Strategy) -> dict[str, Any]:
    """What describes and indexes references."""
    config = {"images": asdict(strategy.images), "keypoints": asdict(strategy.reference_keypoints), "index": strategy.index.identity}
    return config | {"descriptor": descriptor_config(strategy, "reference") if strategy.descriptor is not None else None}


def find_new(images: ImageSet, collection: Collection, settings: ImageSettings) -> list[int]:
    """Listed pictures -> rows of those that the collection does not hold. MatcherError if it holds another under an id."""
    if not collection.shards:
        return list(range(len(images)))
    kept = [p.take(s.kept(p.id)) for s, _, p in collection.read_pictures()]
    keys = {id_: key for p in kept for id_, key in zip(p.id.tolist(), p.file_key.tolist(), strict=True)}
    known = {row[0]: row for row in rows_of(collection.images()[0]) if row[0] in keys}
    differing = [row for row in rows_of(images) if known.get(row[0], row) != row]
    clashes = [row for row in differing if known[row[0]][1:3] != row[1:3] or file_key(row[1], settings) != keys[row[0]]]
    if clashes:
        told = f"{collection.folder} holds another picture with the id {clashes[0][0]!r} ({len(clashes)} such ids)"
        raise MatcherError(f"{told}: remove it first (matcher remove), or give the new one another id; nothing was added")
    return [number for number, row in enumerate(rows_of(images)) if row[0] not in known]


def rows_of(images: ImageSet) -> Iterator[tuple[Any, ...]]:
    return zip(images.id.tolist(), images.path.tolist(), images.bytes.tolist(), images.mtime_ns.tolist(), strict=True)


def file_key(path: str, settings: ImageSettings) -> str | None:
    """File -> the key of its bytes, None if it cannot be read: a copy of a file, or a touched one, has another time and the same key."""
    try:
        return content_key(read_bytes(path, settings=settings))
    except ImageError:
        return None


def add_shard(images: ImageSet, unread: Errors, collection: Collection, *, strategy: Strategy, job: Job) -> Collection:
    """Images (N,) that are new -> the collection with a shard of them. What an earlier, stopped call has done is not done again.

    MatcherError if none of them can be used and the collection holds no others.
    """
    number = 1 + max((int(shard.folder) for shard in collection.shards), default=-1)
    folder = collection.folder / f"{number:05d}"
    try:
        describe_set(images, unread, folder, side="reference", strategy=strategy, job=job)
    except StaleStageError:
        log.info("%s: other pictures were being added when it was stopped; they are forgotten", folder)
        describe_set(images, unread, folder, side="reference", strategy=strategy, job=replace(job, fresh=True))
    pictures, keypoints = Stage.load(folder / "pictures", Pictures).read(), Stage.load(folder / "keypoints", Keypoints)
    if not len(pictures):
        told = f"none of these {len(images) + len(unread):,} references can be used: nothing was added, see {folder / ERRORS}"
        if not collection.shards:
            raise MatcherError(told)
        log.warning("%s", told)
        return collection
    write_record(folder / PICTURES, pictures)
    write_keypoints(folder / KEYPOINTS, keypoints.parts(), pictures.keypoints)
    if strategy.descriptor is not None:
        write_record(folder / DESCRIPTORS, Stage.load(folder / "descriptors", Descriptors).read())
    shard = Shard(folder.name, keypoints.fingerprint, len(pictures))
    rows = FeatureSet(pictures, keypoints.read()).keypoints.rows
    build_index(rows, collection, shard, strategy)
    grown = replace(collection, shards=[*collection.shards, shard])
    grown.write()
    for name in STAGES:
        shutil.rmtree(folder / name, ignore_errors=True)
    return grown


def build_index(rows: Any, collection: Collection, shard: Shard, strategy: Strategy) -> None:
    """Rows (K, 128) of the shard -> their index on disk. It shares what the last shard has learnt, unless it has outgrown that."""
    made_by, settings = index_made_by(shard.fingerprint, strategy.index), strategy.index
    ids, learnt = np.arange(len(rows)), None
    if collection.shards and settings.kind in LISTS:
        last = collection.shards[-1]
        learnt = collection.shard_index(last, settings).emptied()
        outgrown = settings.kind != "words" and list_count(len(rows), settings) > GROWN * learnt.lists
        learnt = None if outgrown or learnt.card.stored != settings.kind else learnt
    if learnt is None:
        made = Index.build(rows, ids, settings, made_by=made_by)
        if settings.kind == "words" and made.card.stored != "words":
            told = f"{len(rows):,} keypoints are too few to learn visual words from"
            raise MatcherError(f"{told}, and all shards share the first one's: add more references at once")
    else:
        made = learnt.made_for(made_by)
        made.add(rows, ids)
    made.save(collection.folder / shard.folder / INDEX)
