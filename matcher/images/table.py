"""The pictures of one side of a run: ids, paths, and the other columns of the user's table. No pixel is read here."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from matcher.errors import ImageError, MatcherError
from matcher.images.columns import list_csv, list_parquet
from matcher.images.files import examine, from_text, has_picture_suffix, is_picture, is_uri, printable, to_text
from matcher.images.listing import Listing, is_glob, list_file, list_folder, list_glob, list_single
from matcher.storage.home import locate
from matcher.types import Errors, Record, Text, column

logger = logging.getLogger("matcher")

LISTS = (".txt", ".lst")
TABLES = {".csv": list_csv, ".parquet": list_parquet, ".pq": list_parquet}


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageSet(Record):
    """Pictures that were there, with something in them, when the set was read. They need not decode."""

    keys = ("id",)
    id: Text = column("text")  # (N,)
    path: Text = column("text")  # (N,) absolute; a file:// URI where the name is no UTF-8 (files.from_text leads back)
    bytes: NDArray[np.int64] = column("int64")  # (N,) size of the file
    mtime_ns: NDArray[np.int64] = column("int64")  # (N,) when the file was last changed
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)  # other columns of the table, (N,) each

    def __post_init__(self) -> None:
        object.__setattr__(self, "extra", {name: np.asarray(values) for name, values in self.extra.items()})
        super().__post_init__()

    def check(self) -> None:
        super().check()
        if wrong := [name for name, values in self.extra.items() if values.shape != (len(self),)]:
            raise ValueError(f"{type(self).__name__}.extra has {wrong[0]} of another length than the pictures")

    def take_extra(self, rows: Any) -> dict[str, Any]:
        return {"extra": {name: values[rows] for name, values in self.extra.items()}}

    @classmethod
    def concat_extra(cls, records: Sequence[Self]) -> dict[str, Any]:
        examples = {name: values for record in reversed(records) for name, values in record.extra.items()}
        parts = {n: [r.extra[n] if n in r.extra else absent(len(r), like=example) for r in records] for n, example in examples.items()}
        return {"extra": {name: np.concatenate(values) for name, values in parts.items()}}


def absent(rows: int, *, like: NDArray[Any]) -> NDArray[Any]:
    """A column of nothing that can stand beside ``like``: empty text, not-a-time, or NaN."""
    if like.dtype.kind == "U":
        return np.full(rows, "", dtype="U1")
    return np.full(rows, "NaT", dtype=like.dtype) if like.dtype.kind == "M" else np.full(rows, np.nan)


def read_images(path: str | os.PathLike[str], side: str, *, on_error: Literal["skip", "raise"] = "skip") -> tuple[ImageSet, Errors]:
    """A PATH -> the pictures that it names, and those that cannot be used. Files are looked at, not decoded.

    Args:
        path: a folder (searched at any depth), a glob, a list file (.txt, .lst), a table (.csv, .parquet, .pq) or one picture
        side: "queries" or "references": the stage of the error rows; a table's id column may be called query_id or reference_id then
        on_error: "raise" raises the first ImageError instead of listing it

    Returns:
        The set (may be empty if all are in error), and the errors: missing, not_a_file, empty or unreadable.

    Raises:
        MatcherError: PATH is not there or names no picture at all, ids repeat, or a table cannot be read
    """
    place, listing = list_pictures(path, side)
    kept, sizes, times, errors = [], [], [], list(listing.broken)
    for row, (name, file) in enumerate(zip(listing.ids, listing.paths, strict=True)):
        try:
            status = examine(from_text(file))
        except ImageError as error:
            errors.append((name, file, error))
        else:
            kept.append(row)
            sizes.append(status.st_size)
            times.append(status.st_mtime_ns)
    if errors and on_error == "raise":
        raise errors[0][2]
    images = ImageSet(
        id=np.array([listing.ids[row] for row in kept], dtype=np.str_),
        path=np.array([written(listing.paths[row]) for row in kept], dtype=np.str_),
        bytes=np.array(sizes, dtype=np.int64),
        mtime_ns=np.array(times, dtype=np.int64),
        extra={name: values[kept] for name, values in listing.extra.items()},
    )
    others = f" (not pictures, left out: {listing.others:,})" if listing.others else ""
    logger.info("%s: %d pictures, %d errors in %s%s", side, len(images), len(errors), printable(place), others)
    return images, make_errors(errors, stage=side)


def list_pictures(path: str | os.PathLike[str], side: str) -> tuple[str, Listing]:
    """Likewise, without a look at the files -> where they are, and what is named there. MatcherError if that is nothing."""
    place = locate(os.fsdecode(path))
    listing = list_any(place, side=side)
    if not listing.ids and not listing.broken:
        raise MatcherError(f"{printable(place)}: no pictures there; give a folder, a glob, a list file, a table, or a picture")
    check_unique(listing.ids, place)
    return place, listing


def list_any(place: str, *, side: str) -> Listing:
    """PATH -> what it names, by what is there and by its suffix."""
    suffix = os.path.splitext(place)[1].lower()
    if os.path.isdir(place):
        return list_folder(place)
    if not place:
        raise MatcherError(f"the path of the {side} is empty: name a folder, a glob, a list file, a table, or a picture")
    if not os.path.lexists(place):
        if is_glob(place):
            return list_glob(place)
        raise MatcherError(f"{printable(place)}: there is no such file or folder")
    if suffix in LISTS or suffix in TABLES:
        examine(place)
        return list_file(place) if suffix in LISTS else TABLES[suffix](place, side)
    if has_picture_suffix(place) or is_picture(place):
        return list_single(place)
    examine(place)
    raise MatcherError(f"{printable(place)}: neither a folder, nor a picture, nor a list (.txt, .lst), nor a table (.csv, .parquet)")


def check_unique(ids: list[str], place: str) -> None:
    name, count = Counter(ids).most_common(1)[0] if ids else ("", 0)
    if count > 1:
        raise MatcherError(f"{printable(place)}: {count} rows have the id {name!r}; ids must be unique, so remove or rename all but one")


def written(path: str) -> str:
    """A path as listed -> how it stands in a record: absolute, and storable as UTF-8. A URI that names no file here stays as it is."""
    place = from_text(path)
    return to_text(path if place == path and is_uri(path) else os.path.abspath(place))


def make_errors(errors: list[tuple[str, str, ImageError]], *, stage: str) -> Errors:
    return Errors(
        id=np.array([name for name, _, _ in errors], dtype=np.str_),
        path=np.array([written(path) for _, path, _ in errors], dtype=np.str_),
        stage=np.full(len(errors), stage),
        code=np.array([error.code for _, _, error in errors], dtype=np.str_),
        message=np.array([str(error) for _, _, error in errors], dtype=np.str_),
    )
