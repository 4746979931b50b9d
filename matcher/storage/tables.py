"""Plain CSV and Parquet tables that people bring (pairs, ground truth) and take away (predictions.csv)."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from matcher.errors import MatcherError
from matcher.storage.aside import write_aside
from matcher.storage.columns import to_arrow
from matcher.storage.limits import check_size, read_parquet
from matcher.storage.records import first_line, write_parquet
from matcher.storage.stamp import check_stamp

PathLike = str | os.PathLike[str]
PARQUET_MAGIC = b"PAR1"
NEEDS_QUOTES = re.compile(r'[",\r\n]')


def read_table(path: PathLike, *, columns: Mapping[str, str] | None = None, optional: Mapping[str, str] | None = None) -> pa.Table:
    """CSV (with a header, UTF-8) or Parquet file -> table with all its columns; the content decides, not the name.

    ``columns``: name -> "text", "float64", "int64", ...: columns that must be there, converted; ``optional``: converted if there.
    All other columns stay as they are; those of a CSV are text, so that "007" stays "007". An empty cell is "" in text and NaN in floats.
    MatcherError if a column is missing (names those that are there) or a value does not convert (names its row, from 1, and column).
    """
    try:
        with open(path, "rb") as file:
            is_parquet = file.read(4) == PARQUET_MAGIC
            if is_parquet:
                check_stamp(file, path)
            table = read_parquet(path) if is_parquet else read_csv(Path(path))
    except OSError as error:
        raise MatcherError(f"cannot read {path}: {error.strerror or first_line(error)}") from error
    except (pa.ArrowException, UnicodeDecodeError) as error:
        wanted = "whole Parquet file" if is_parquet else "CSV table in UTF-8"
        raise MatcherError(f"{path} is not a {wanted}: {first_line(error)}") from error
    names = table.column_names
    if repeated := [name for name in names if names.count(name) > 1]:
        raise MatcherError(f"{path} has more than one column named {repeated[0]!r}")
    if missing := [name for name in columns or {} if name not in names]:
        raise MatcherError(f"{path} lacks the column {missing[0]!r}; it has: {', '.join(names)}")
    for name, dtype in ({**(columns or {}), **(optional or {})}).items():
        if name in names:
            column = convert(table.column(name), dtype, f"{path}: column {name!r}")
            if dtype == "text":  # in an array each takes as much as the longest
                check_size(4 * len(column) * (pc.max(pc.utf8_length(column)).as_py() or 0), path, f"the column {name!r}")
            table = table.set_column(names.index(name), name, column)
    return table.replace_schema_metadata(None)


def read_csv(path: Path) -> pa.Table:
    """CSV file with a header -> table whose columns are all text."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file), [])
    if not header:
        raise MatcherError(f"{path} is empty: a table needs a line with the names of its columns")
    return pacsv.read_csv(
        path,
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False),
    )


def convert(column: pa.ChunkedArray, dtype: str, where: str) -> pa.ChunkedArray:
    """Column of any type -> column of dtype without nulls; MatcherError that starts with ``where``."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    target = pa.string() if dtype == "text" else pa.from_numpy_dtype(dtype)
    if dtype == "text" and (pa.types.is_floating(column.type) or pa.types.is_nested(column.type)):
        raise MatcherError(f"{where} holds {column.type}, but ids are text or whole numbers")
    if dtype != "text" and (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        column = pc.utf8_trim_whitespace(column)
        column = pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
    try:
        column = column.cast(target)
    except pa.ArrowException as error:
        raise MatcherError(f"{where}, {first_bad_row(column, target)} is not {dtype}") from error
    if column.null_count and pa.types.is_integer(target):
        raise MatcherError(f"{where}, row {pc.index(column.is_null(), True).as_py() + 1} is empty")
    if dtype == "text" and (row := pc.index(pc.match_substring(column, "\0"), True).as_py()) >= 0:
        raise MatcherError(f"{where}, row {row + 1}: {column[row].as_py()!r} holds a NUL character, which no id may: take it out")
    return column.fill_null("" if dtype == "text" else float("nan")) if column.null_count else column


def first_bad_row(column: pa.ChunkedArray, target: pa.DataType) -> str:
    for row, value in enumerate(column, start=1):
        try:
            value.cast(target)
        except pa.ArrowException:
            return f"row {row}: {value.as_py()!r}"
    return f"type {column.type}"


def write_table(path: PathLike, columns: Mapping[str, Any]) -> None:
    """Columns (NumPy arrays or Arrow columns of equal length) -> CSV if the name ends in .csv, else Parquet.

    CSV: quotes only where needed, the shortest digits that give the same number, an empty cell for NaN and null.
    """
    if Path(path).suffix.lower() != ".csv":
        arrow = {name: values if isinstance(values, pa.Array | pa.ChunkedArray) else to_arrow(values) for name, values in columns.items()}
        write_parquet(path, pa.table(arrow))
        return
    cells = [[quoted(name), *csv_cells(values)] for name, values in columns.items()]
    with write_aside(path) as raw:
        for row in zip(*cells, strict=True):
            raw.write((",".join(row) + "\n").encode("utf-8", "backslashreplace"))


def csv_cells(values: Any) -> list[str]:
    """Column -> its cells as they stand in a CSV file."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return ["" if value is None or value != value else quoted(str(value)) for value in values.to_pylist()]
    array = np.asarray(values)
    if array.dtype.kind == "f":
        return ["" if np.isnan(value) else str(value) for value in array]
    return [quoted(str(value)) for value in array.tolist()]


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if NEEDS_QUOTES.search(text) else text
