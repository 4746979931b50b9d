"""A CSV or Parquet table with an id and a path column -> the pictures that it names, its other columns carried along."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from matcher.errors import ImageError, MatcherError
from matcher.images.files import is_uri, printable, storable
from matcher.images.listing import Listing
from matcher.storage.limits import check_text, read_parquet

if TYPE_CHECKING:
    import pyarrow as pa

_OWN_ID = {"queries": "query_id", "references": "reference_id"}
_RESERVED = ("bytes", "mtime_ns")  # columns of an ImageSet, read from the files instead
EXACT = 2**53  # up to here a float64 holds every whole number


def list_csv(place: str, side: str) -> Listing:
    """A CSV table in UTF-8 (BOM, CRLF and quoted line breaks allowed) -> its pictures. All columns are text: "007" stays "007"."""
    with open(place, "rb") as file:
        data = file.read()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise MatcherError(f"{printable(place)}: this table is in UTF-16; save it as CSV in UTF-8")
    text = data.decode("utf-8-sig", "surrogateescape")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows, lines = [], []
    try:
        for row in reader:
            if row:
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise MatcherError(f"{printable(place)}, line {reader.line_num}: this is no valid CSV ({error})") from error
    header = rows[0] if rows else []
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            raise MatcherError(f"{printable(place)}, line {line}: {len(row)} values where the header names {len(header)} columns")
    columns = [list(values) for values in zip(*rows[1:], strict=True)] or [[] for _ in header]
    id_at, path_at = find_columns(header, place=place, side=side)
    others = [at for at, name in enumerate(header) if at not in (id_at, path_at) and name not in _RESERVED]
    for at, name in enumerate(header):
        check_text(columns[at], place, f"the column {printable(name)}")
    extra = {storable(header[at]): np.array([storable(value) for value in columns[at]], dtype=np.str_) for at in others}
    return make_listing(columns[id_at], columns[path_at], extra, place=place)


def list_parquet(place: str, side: str) -> Listing:
    """A Parquet table -> its pictures. Ids are text or whole numbers; numbers, times and text are carried as they are, the rest as JSON."""
    import pyarrow as pa

    try:
        table = read_parquet(place)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise MatcherError(f"{printable(place)}: this is no Parquet file that can be read ({str(error).partition(chr(10))[0]})") from error
    id_at, path_at = find_columns(table.column_names, place=place, side=side)
    ids = as_text(table.column(id_at), place=place, name=table.column_names[id_at])
    paths = as_text(table.column(path_at), place=place, name=table.column_names[path_at])
    others = [(at, name) for at, name in enumerate(table.column_names) if at not in (id_at, path_at) and name not in _RESERVED]
    check_text(ids, place, "the column of ids")
    check_text(paths, place, "the column path")
    return make_listing(ids, paths, {n: carried(table.column(at), place=place, name=n) for at, n in others}, place=place)


def find_columns(header: list[str], *, place: str, side: str) -> tuple[int, int]:
    """Where in the header the id and the path column stand; MatcherError, naming the columns that are there, if one is not."""
    there = f"it has {', '.join(map(printable, header))}" if header else "it has no columns"
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise MatcherError(f"{printable(place)}: the column {printable(twice[0])!r} is there more than once; rename one")
    id_names = ["id", *([_OWN_ID[side]] if side in _OWN_ID else []), "image_id"]
    id_name = next((name for name in id_names if name in header), None)
    if id_name is None:
        if len(header) == 1 and (sign := next((sign for sign in ";\t|" if sign in header[0]), None)):
            raise MatcherError(f"{printable(place)}: its columns are parted by {sign!r}, a CSV's by commas: save it with commas")
        raise MatcherError(f"{printable(place)}: no column of ids; {there}; call one {' or '.join(id_names)}")
    if "path" not in header:
        raise MatcherError(f"{printable(place)}: no column called path; {there}; add one with the path of each picture")
    return header.index(id_name), header.index("path")


def make_listing(ids: list[str], paths: list[str], extra: dict[str, NDArray[Any]], *, place: str) -> Listing:
    """Columns as read -> a Listing, rows without a path among its broken ones; MatcherError if an id is missing.

    Paths are relative to the table's folder.
    """
    if not all(ids):
        raise MatcherError(f"{printable(place)}: row {ids.index('') + 1} has no id; fill it in or remove the row")
    folder = os.path.dirname(place)
    kept, lost = [row for row, path in enumerate(paths) if path], [row for row, path in enumerate(paths) if not path]
    places = [paths[row] if is_uri(paths[row]) else os.path.join(folder, paths[row]) for row in kept]
    broken = [(storable(ids[row]), "", ImageError("missing", f"{printable(place)}: row {row + 1} has no path")) for row in lost]
    return Listing([storable(ids[row]) for row in kept], places, {name: values[kept] for name, values in extra.items()}, broken)


def as_text(values: pa.ChunkedArray, *, place: str, name: str) -> list[str]:
    """A column of text or whole numbers -> strings, "" where there is nothing; MatcherError for other types."""
    import pyarrow as pa

    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise MatcherError(f"{printable(place)}: the column {name} holds {kind}; ids and paths must be text (ids may be whole numbers)")
    return ["" if value is None else str(value) for value in values.to_pylist()]


def carried(values: pa.ChunkedArray, *, place: str, name: str) -> NDArray[Any]:
    """A column -> (N,) numbers (NaN where missing), times (UTC, NaT) or text ("" where missing); lists and the like as JSON text.

    Whole numbers of which some are missing, and which floats cannot hold, become text too.
    """
    import pyarrow as pa

    kind = values.type
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or (pa.types.is_boolean(kind) and not values.null_count)
    if pa.types.is_integer(kind) and values.null_count:
        number = all(abs(value) <= EXACT for value in values.drop_null().to_pylist())
    if number or pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return np.asarray(values.to_numpy())
    nested = pa.types.is_nested(kind) or pa.types.is_boolean(kind)
    as_strings = ("" if v is None else json.dumps(v, default=str) if nested else str(v) for v in values.to_pylist())
    texts = list(as_strings)
    check_text(texts, place, f"the column {printable(name)}")
    return np.array([storable(text) for text in texts], dtype=np.str_)
