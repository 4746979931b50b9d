"""The descriptor track's HDF5 file: a vector for every query and every reference, ids rising.

    query          (Q, d) float32       reference      (R, d) float32       d <= 256
    query_ids      (Q,) bytes           reference_ids  (R,) bytes           fixed length; 6 and 7 in the challenge

There is no demand on the length of a vector: they are compared by their squared distance.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matcher.errors import MatcherError
from matcher.storage.aside import write_aside
from matcher.storage.limits import check_size
from matcher.types import Float, Text

MOST = 256  # numbers a vector may have
SIDES = (("query", 6), ("reference", 7))  # name, bytes of an id in the challenge


@dataclass(frozen=True, eq=False)
class Vectors:
    """Pictures of one side."""

    ids: Text  # (N,)
    rows: Float  # (N, d), any length

    def sorted(self) -> Vectors:
        order = np.argsort(self.ids, kind="stable")
        return Vectors(self.ids[order], self.rows[order])


def write_vectors(path: Path, queries: Vectors, references: Vectors) -> None:
    """Both sides -> the file, whole or not at all. MatcherError if the track does not take them."""
    import h5py

    for side, (name, _) in zip((queries, references), SIDES, strict=True):
        check(path, name, side)
    if queries.rows.shape[1] != references.rows.shape[1]:
        raise MatcherError(f"{path}: queries have {queries.rows.shape[1]} numbers and references {references.rows.shape[1]}")
    memory = io.BytesIO()  # a full disk under h5py ends the process
    with h5py.File(memory, "w") as archive:
        for side, (name, least) in zip((queries.sorted(), references.sorted()), SIDES, strict=True):
            archive.create_dataset(name, data=np.ascontiguousarray(side.rows, dtype=np.float32))
            archive.create_dataset(f"{name}_ids", data=as_bytes(side.ids, least))
    with write_aside(path) as file:
        file.write(memory.getbuffer())


def read_vectors(path: Path) -> tuple[Vectors, Vectors]:
    """File -> queries and references. MatcherError if it is no such file."""
    import h5py

    try:
        with h5py.File(path, "r") as archive:
            if missing := [key for name, _ in SIDES for key in (name, f"{name}_ids") if key not in archive]:
                raise MatcherError(
                    f"{path} has no dataset {missing[0]!r}: the descriptor track has query, reference, query_ids, reference_ids"
                )
            datasets = [(own(archive, f"{name}_ids", path), own(archive, name, path)) for name, _ in SIDES]
            sides = [Vectors(as_text(ids[()]), np.asarray(rows[()], dtype=np.float32)) for ids, rows in datasets]
    except FileNotFoundError as error:
        raise MatcherError(f"there is no file {path}") from error
    except (OSError, ValueError, AttributeError, TypeError, KeyError, RuntimeError) as error:  # h5py raises nearly anything
        raise MatcherError(f"{path} cannot be read as HDF5 of the descriptor track: {error}") from error
    for side, (name, _) in zip(sides, SIDES, strict=True):
        check(path, name, side)
    return sides[0], sides[1]


def own(archive: Any, name: str, path: Path) -> Any:
    """Open archive, name of a dataset -> it. MatcherError if its numbers lie in another file, or are many more than the file's bytes."""
    import h5py

    dataset = archive[name]
    if not isinstance(archive.get(name, getlink=True), h5py.HardLink) or dataset.is_virtual or dataset.external:
        raise MatcherError(f"{path}: {name} points into another file, which is not followed: write its numbers into this one")
    check_size(dataset.nbytes, path, f"the dataset {name}")
    return dataset


def check(path: Path, name: str, side: Vectors) -> None:
    """MatcherError if the vectors of a side are not what the track takes."""
    if side.rows.ndim != 2 or side.ids.shape != side.rows.shape[:1]:
        raise MatcherError(f"{path}: {name} has the shape {side.rows.shape}, and there are {len(side.ids)} ids of it")
    if side.rows.shape[1] > MOST:
        told = f"{path}: {name} has {side.rows.shape[1]} numbers a picture, the track takes {MOST} at most"
        raise MatcherError(f"{told} (descriptor.post.whiten.dim: {MOST} brings them down)")
    if not np.isfinite(side.rows).all():
        raise MatcherError(
            f"{path}: {name} of {side.ids[np.flatnonzero(~np.isfinite(side.rows).all(axis=1))[0]]} holds a value that is not finite"
        )
    if len(np.unique(side.ids)) < len(side.ids):
        raise MatcherError(f"{path}: {name}_ids repeat themselves")


def as_bytes(ids: Text, least: int) -> NDArray[np.bytes_]:
    """Ids (N,) -> bytes of one length, the challenge's or, where an id is longer, that of the longest."""
    encoded = [id_.encode() for id_ in ids.tolist()]
    return np.array(encoded, dtype=f"S{max([least, *map(len, encoded)])}")


def as_text(ids: NDArray[np.bytes_]) -> Text:
    return np.array([id_.decode() for id_ in ids.tolist()], dtype=np.str_)
