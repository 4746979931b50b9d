"""Keypoints in one file, from which those of any picture are read alone, and a feature set that reads them when it is asked.

The file holds picture after picture: 144 bytes a keypoint (RECORD), then four bytes, the CRC-32 of these.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matcher.errors import MatcherError
from matcher.features import FeatureSet
from matcher.models.sift import LocalFeatures
from matcher.storage.aside import write_aside
from matcher.types import Keypoints, Pictures

RECORD = np.dtype([("point", "<f4", 2), ("size", "<f4"), ("angle", "<f4"), ("rows", "u1", 128)])
CHECK = 4  # bytes


def write_keypoints(path: Path, parts: Iterable[Keypoints], counts: NDArray[np.int64]) -> None:
    """Keypoints of whole pictures, part after part, and how many each picture has (N,) -> the file. MatcherError if they disagree."""
    number = 0
    with write_aside(path) as file:
        for part in parts:
            packed, row = np.empty(len(part), dtype=RECORD), 0
            for name in RECORD.names or ():
                packed[name] = getattr(part, name)
            while number < len(counts) and row + counts[number] <= len(part):
                block = packed[row : row + counts[number]].tobytes()
                file.write(block + zlib.crc32(block).to_bytes(CHECK, "little"))
                row, number = row + int(counts[number]), number + 1
            if row < len(part):
                raise MatcherError(f"{path}: the keypoints do not belong to these {len(counts)} pictures: describe them again")
        if number < len(counts):
            raise MatcherError(f"{path}: keypoints of {len(counts) - number} pictures are missing: describe them again")


class KeypointFile:
    """The file, open for reading from several threads.

    ``counts`` (N,) says how many keypoints each picture has, ``remedy`` what to do where the file is damaged.
    """

    def __init__(self, path: Path, counts: NDArray[np.int64], remedy: str = "(describe its pictures again)") -> None:
        self.path, self.counts, self.remedy = path, counts, remedy
        self.start = np.concatenate([[0], np.cumsum(counts)])
        try:
            self.file = path.open("rb", buffering=0)
        except OSError as error:
            raise MatcherError(f"cannot read {path}: {error.strerror or error} {remedy}") from error
        if path.stat().st_size != int(self.start[-1]) * RECORD.itemsize + len(counts) * CHECK:
            raise MatcherError(f"{path} is damaged: it has not the size of these pictures' keypoints {remedy}")

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process the same file, opened there."""
        return type(self), (self.path, self.counts, self.remedy)

    def read(self, number: int) -> NDArray[np.void]:
        """Number of a picture -> its keypoints (K,) of dtype RECORD. MatcherError if they are not what was written."""
        size = int(self.counts[number]) * RECORD.itemsize
        data = os.pread(self.file.fileno(), size + CHECK, int(self.start[number]) * RECORD.itemsize + number * CHECK)
        if zlib.crc32(data[:size]).to_bytes(CHECK, "little") != data[size:]:
            raise MatcherError(f"{self.path} is damaged at picture {number} {self.remedy}")
        return np.frombuffer(data, dtype=RECORD, count=int(self.counts[number]))


@dataclass(frozen=True)
class FeatureShard:
    """Pictures of one part, which of them count, and their keypoints."""

    pictures: Pictures
    kept: NDArray[np.bool_]  # (N,)
    file: KeypointFile


class StoredFeatures(FeatureSet):
    """The pictures of several parts as one feature set, whose keypoints stay on disk."""

    def __init__(self, shards: Sequence[FeatureShard]) -> None:
        self.lay_out(Pictures.concat([part.pictures if part.kept.all() else part.pictures.take(part.kept) for part in shards]))
        self.files, self.kept = [shard.file for shard in shards], [shard.kept for shard in shards]
        counts = [int(kept.sum()) for kept in self.kept]
        self.shard_of = np.repeat(np.arange(len(counts)), counts)  # (N,)
        self.number_in_shard = np.concatenate([np.flatnonzero(kept) for kept in self.kept])  # (N,)

    def features(self, number: int) -> LocalFeatures:
        """Row of Pictures -> its keypoints, read now."""
        found = self.files[self.shard_of[number]].read(int(self.number_in_shard[number]))
        point, size, angle, rows = (np.ascontiguousarray(found[name]) for name in RECORD.names or ())
        return LocalFeatures(point, size, angle, rows, self.shape_wh[number])

    def places(self) -> list[NDArray[np.int64]]:
        """For each part (n,): the row of all keypoints at which its pictures begin, -1 = does not count."""
        places = [np.full(len(kept), -1, dtype=np.int64) for kept in self.kept]
        for number, place in enumerate(places):
            mine = self.shard_of == number
            place[self.number_in_shard[mine]] = self.start[:-1][mine]
        return places
