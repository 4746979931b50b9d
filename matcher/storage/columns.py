"""Arrays <-> Arrow columns, without a Python loop over rows."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def to_arrow(array: Any) -> pa.Array:
    """Array (rows, ...) of text, numbers or bools -> Arrow column, one row a row.

    A matrix becomes fixed-size lists (uint8: fixed-size binary; no columns at all: nulls). Text that is no unicode (file names of
    another time, with lone surrogates) becomes binary, as UTF-8 with the surrogates passed through.
    """
    values = np.ascontiguousarray(array)
    rows, width = len(values), prod(values.shape[1:])
    if values.dtype.kind == "U":
        return text_to_arrow(values)
    if values.ndim == 1:
        return pa.array(values)
    if width == 0:
        return pa.nulls(rows)
    if values.dtype == np.uint8:
        return pa.Array.from_buffers(pa.binary(width), rows, [None, pa.py_buffer(values)])
    item = pa.field("element", pa.from_numpy_dtype(values.dtype), nullable=False)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=pa.list_(item, width))


def text_to_arrow(values: NDArray[np.str_]) -> pa.Array:
    try:
        return pa.array(values, type=pa.string())
    except UnicodeDecodeError:
        return pa.array([value.encode("utf-8", "surrogatepass") for value in values.tolist()], type=pa.binary())


def from_arrow(column: pa.ChunkedArray, dtype: str, shape: tuple[int | str, ...] = ()) -> NDArray[Any]:
    """Arrow column -> array (rows, *shape) of dtype, the inverse of :func:`to_arrow`.

    A letter in ``shape`` stands for any number. ValueError if the column is of another type or holds nulls.
    """
    if column.null_count and not pa.types.is_null(column.type):
        raise ValueError("has empty cells")
    if dtype == "text":
        return text_from_arrow(column)
    if not shape:
        if column.type != pa.from_numpy_dtype(dtype):
            raise ValueError(f"holds {column.type}, not {dtype}")
        return column.to_numpy()
    flat, width = matrix_from_arrow(column, dtype)
    sizes = [size if isinstance(size, int) else width for size in shape]
    if prod(sizes) != width:
        raise ValueError(f"has {width} numbers a row, not {' x '.join(map(str, shape))}")
    return flat.reshape(len(column), *sizes)


def matrix_from_arrow(column: pa.ChunkedArray, dtype: str) -> tuple[NDArray[Any], int]:
    """Arrow column of fixed-size rows -> its numbers, one after the other, and how many make a row."""
    kind, empty = column.type, np.empty(0, dtype=dtype)
    if pa.types.is_null(kind):
        return empty, 0
    if pa.types.is_fixed_size_binary(kind) and dtype == "uint8":
        width = kind.byte_width
        chunks = [np.frombuffer(c.buffers()[1], np.uint8)[c.offset * width : (c.offset + len(c)) * width] for c in column.chunks if len(c)]
    elif pa.types.is_fixed_size_list(kind) and kind.value_type == pa.from_numpy_dtype(dtype):
        width = kind.list_size
        chunks = [c.flatten().to_numpy() for c in column.chunks]
    else:
        raise ValueError(f"holds {kind}, not rows of {dtype}")
    return chunks[0] if len(chunks) == 1 else np.concatenate([empty, *chunks]), width


def text_from_arrow(column: pa.ChunkedArray) -> NDArray[np.str_]:
    """Arrow column of text or bytes (see :func:`to_arrow`), plain or in a dictionary -> (rows,) text."""
    words = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    kind = words.type.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind)):
        raise ValueError(f"holds {column.type}, not text")
    chunks = [words_at(chunk.dictionary.to_pylist(), chunk.indices.to_numpy()) for chunk in words.chunks if len(chunk)]
    return chunks[0] if len(chunks) == 1 else np.concatenate([np.empty(0, dtype=np.str_), *chunks])


def words_at(words: list[str] | list[bytes], indices: NDArray[np.integer[Any]]) -> NDArray[np.str_]:
    """The words at these indices, as text."""
    texts = [word.decode("utf-8", "surrogatepass") if isinstance(word, bytes) else word for word in words]
    return np.array(texts, dtype=np.str_)[indices]


def stack(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables -> one below the other, null where one lacks a column. A column of kinds that do not join (numbers and text) becomes text."""
    schemas = [table.schema for table in tables]
    for name in dict.fromkeys(name for schema in schemas for name in schema.names):
        kinds = [pa.schema([schema.field(name)]) for schema in schemas if name in schema.names]
        try:
            pa.unify_schemas(kinds, promote_options="permissive")
        except pa.ArrowException:
            tables = [spelled_out(table, name) if name in table.column_names else table for table in tables]
    return pa.concat_tables(tables, promote_options="permissive")


def spelled_out(table: pa.Table, name: str) -> pa.Table:
    """A table -> the same with a column as text."""
    column = table.column(name)
    try:
        text = column.cast(pa.string())
    except pa.ArrowException:  # lists and the like
        text = pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())
    return table.set_column(table.column_names.index(name), name, text)
