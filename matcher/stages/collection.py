"""A collection: references that were described once and grow in shards. Here it is read; stages/collecting.py changes it.

    collection.json            what made it, and its shards in order: folder, fingerprint, how many pictures, which ids were removed
    00000/images.parquet       the pictures as they were listed, with the user's own columns
    00000/errors.parquet       those that cannot be used
    00000/pictures.parquet     Pictures
    00000/descriptors.parquet  Descriptors, if the strategy names a backbone
    00000/keypoints.bin        keypoints, read picture by picture (keypoint_file.py)
    00000/index/               the index of these keypoints alone

A folder that collection.json does not name is not part of the collection: a shard in the making.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from shlex import quote
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from matcher.errors import MatcherError, StaleStageError
from matcher.images.table import ImageSet
from matcher.index import Index
from matcher.index_shards import IndexShard, IndexShards
from matcher.keypoint_file import FeatureShard, KeypointFile, StoredFeatures
from matcher.settings import IndexSettings
from matcher.storage.columns import stack
from matcher.storage.manifest import MANIFEST_NAME, flatten
from matcher.storage.records import read_extra, read_record
from matcher.storage.sealed import read_sealed, write_sealed
from matcher.types import Descriptors, Pictures, Text

COLLECTION, FORMAT = "collection.json", 1
LOST = "which shards count is lost with it: put back a copy of it, or add the references to a new collection"
IMAGES, PICTURES, DESCRIPTORS, KEYPOINTS, INDEX = "images.parquet", "pictures.parquet", "descriptors.parquet", "keypoints.bin", "index"


@dataclass(frozen=True)
class Shard:
    """References that were added together. ``removed`` are ids of its pictures that searches skip, rising."""

    folder: str
    fingerprint: str  # of the settings and the list of pictures
    pictures: int  # good ones
    removed: Sequence[str] = ()

    def kept(self, ids: Text) -> NDArray[np.bool_]:
        """Ids of rows of the shard (N,) -> which count."""
        return ~np.isin(ids, np.array(self.removed, dtype=np.str_))


@dataclass(frozen=True)
class Collection:
    """A folder of shards at one moment: what others add or remove meanwhile is not seen."""

    folder: Path
    config: Mapping[str, Any]  # settings that describe and index every shard
    shards: Sequence[Shard]
    gone: Sequence[str] = ()  # ids removed with the last pictures of their shard, rising

    @classmethod
    def read(cls, folder: str | PathLike[str]) -> Self:
        """Folder -> the collection there. MatcherError if there is none."""
        place = Path(folder)
        if not is_collection(place):
            raise MatcherError(f"{place} is no collection (it has no {COLLECTION}): matcher add makes one")
        try:
            said = read_sealed(place / COLLECTION)
        except MatcherError as error:
            error.add_note(f"({LOST})")
            raise
        try:
            if said["format"] != FORMAT:
                raise MatcherError(
                    f"{place} is a collection of format {said['format']}, this matcher reads {FORMAT}: add its references anew"
                )
            return cls(place, said["config"], [Shard(**shard) for shard in said["shards"]], said.get("gone", ()))
        except (KeyError, TypeError) as error:
            raise MatcherError(f"{place / COLLECTION} is damaged: {error!r}; {LOST}") from error

    def write(self) -> None:
        """The moment at which a change is made: before it nothing has changed."""
        said = {"format": FORMAT, "config": self.config, "shards": [asdict(shard) for shard in self.shards], "gone": list(self.gone)}
        write_sealed(self.folder / COLLECTION, said)

    @property
    def removed(self) -> set[str]:
        """Ids of pictures that it held once."""
        return {*self.gone, *(id_ for shard in self.shards for id_ in shard.removed)}

    @property
    def fingerprint(self) -> str:
        """Names what a search can find."""
        told = json.dumps([self.config, [[shard.fingerprint, list(shard.removed)] for shard in self.shards]], sort_keys=True)
        return hashlib.sha256(told.encode("ascii")).hexdigest()

    def __len__(self) -> int:
        return sum(shard.pictures - len(shard.removed) for shard in self.shards)

    def refuse_other(self, config: Mapping[str, Any]) -> None:
        """StaleStageError that names the first setting in which these differ from those that made the collection."""
        was, now = flatten(self.config), flatten(json.loads(json.dumps(config)))
        if differing := [key for key in [*was, *now] if was.get(key) != now.get(key)]:
            key = differing[0]
            told = f"{key} was {json.dumps(was.get(key))}, is now {json.dumps(now.get(key))}"
            raise StaleStageError(f"the collection {self.folder} was made by another config ({told}): take that one, or another collection")

    def read_pictures(self) -> Iterator[tuple[Shard, Path, Pictures]]:
        """Each shard, its folder, and its pictures, those that were removed too. MatcherError if there are none."""
        if not self.shards:
            raise MatcherError(f"the collection {self.folder} holds no pictures: add some with matcher add")
        for shard in self.shards:
            place = self.folder / shard.folder
            try:
                pictures = read_record(place / PICTURES, Pictures)
            except MatcherError as error:
                error.add_note(f"(a part of the collection {self.folder} that nothing makes again: add its references to a new one)")
                raise
            yield shard, place, pictures

    def features(self) -> StoredFeatures:
        """Its pictures, and their keypoints on disk."""
        return StoredFeatures(
            [
                FeatureShard(pictures, shard.kept(pictures.id), KeypointFile(folder / KEYPOINTS, pictures.keypoints, self.remedy(folder)))
                for shard, folder, pictures in self.read_pictures()
            ]
        )

    def index(self, library: StoredFeatures, settings: IndexSettings) -> IndexShards:
        """Its features -> its index. StaleStageError if it was made with other settings."""
        made = [self.shard_index(shard, settings) for shard in self.shards]
        starts = [file.start for file in library.files]
        return IndexShards([IndexShard(*parts) for parts in zip(made, starts, library.places(), strict=True)])

    def shard_index(self, shard: Shard, settings: IndexSettings) -> Index:
        """The index of one shard. StaleStageError if it was made with other settings, MatcherError if it is damaged."""
        place = self.folder / shard.folder
        try:
            made_by = index_made_by(shard.fingerprint, settings)
            return Index.load(place / INDEX, made_by=made_by, mapped=True, gpu=settings.gpu, remedy=self.remedy(place))
        except StaleStageError:
            raise
        except MatcherError as error:
            if not Index.exists(place / INDEX):
                error.add_note(self.remedy(place))
            raise

    def remedy(self, place: Path) -> str:
        """The folder of a shard of which a file is damaged -> what to do."""
        words = f"matcher remove --ids {quote(str(place / PICTURES))} --collection {quote(str(self.folder))}"
        return f"({words}, then add these pictures again: those removed before come back too)"

    def descriptors(self) -> Descriptors:
        """Its views. MatcherError if none were described."""
        found = []
        for shard in self.shards:
            path = self.folder / shard.folder / DESCRIPTORS
            if not path.is_file():
                raise MatcherError(f"the collection {self.folder} has no descriptors: make one with this strategy")
            rows = read_record(path, Descriptors)
            found.append(rows.take(shard.kept(rows.image_id)))
        return Descriptors.concat(found)

    def images(self) -> tuple[ImageSet, pa.Table]:
        """The pictures as they were listed, good and bad ones, and the user's own columns. Of bad ones, tried each time, the last."""
        sets, tables = list[ImageSet](), list[pa.Table]()
        for shard in self.shards:
            path = self.folder / shard.folder / IMAGES
            listed = read_record(path, ImageSet)
            kept = shard.kept(listed.id)
            sets.append(listed.take(kept))
            own = read_extra(path)
            tables.append(own.filter(pa.array(kept)) if own.num_columns else own)
        for n, last in enumerate(last_of_each([listed.id for listed in sets])):
            sets[n], tables[n] = sets[n].take(last), tables[n].filter(pa.array(last)) if tables[n].num_columns else tables[n]
        wide = [table for table in tables if table.num_columns]
        if not wide:
            return ImageSet.concat(sets), pa.table({})
        blank = [pa.table({wide[0].column_names[0]: pa.nulls(len(listed), wide[0].schema.types[0])}) for listed in sets]
        return ImageSet.concat(sets), stack([table if table.num_columns else none for table, none in zip(tables, blank, strict=True)])


def last_of_each(ids: Sequence[Text]) -> list[NDArray[np.bool_]]:
    """Ids of shards, (N,) each -> which rows name a picture that no later row does."""
    every = np.concatenate([np.empty(0, dtype=np.str_), *ids])
    last = np.zeros(len(every), dtype=bool)
    last[len(every) - 1 - np.unique(every[::-1], return_index=True)[1]] = True
    return np.split(last, np.cumsum([len(part) for part in ids], dtype=np.int64))[: len(ids)]


def is_unfinished(place: str | PathLike[str]) -> bool:
    """Whether a first `add` into this folder was cut short."""
    return not is_collection(place) and any(Path(place).glob(f"[0-9]*/pictures/{MANIFEST_NAME}"))


def is_collection(place: str | PathLike[str]) -> bool:
    return (Path(place) / COLLECTION).is_file()


def index_made_by(fingerprint: str, settings: IndexSettings) -> str:
    """What made the index of described pictures."""
    return f"{fingerprint} {settings.identity}"
