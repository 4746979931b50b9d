"""How much memory a file of a stranger may take: a GiB, or two hundred times its own size where that is more.

Compressed and repeated cells make a table of kilobytes fill any memory; honest tables grow tenfold.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matcher.errors import MatcherError

if TYPE_CHECKING:
    import pyarrow as pa

LEAST = 2**30  # bytes that every file may take
TIMES = 200  # or so many times its size
ROWS = 16_384  # of a Parquet file, read at once


def check_size(size: int, path: str | os.PathLike[str], what: str) -> None:
    """Bytes that a part of the file will take in memory -> nothing, or a MatcherError if they are more than the file may take."""
    if size > (most := max(LEAST, TIMES * os.path.getsize(path))):
        raise MatcherError(
            f"{os.fspath(path)!r}: {what} would take {size:,} bytes of memory, more than the {most:,} that this file may take"
        )


def check_text(texts: Sequence[str], path: str | os.PathLike[str], what: str) -> None:
    """Likewise for texts that will stand in an array, where each takes as much as the longest."""
    check_size(4 * len(texts) * max(map(len, texts), default=0), path, what)


def open_parquet(path: str | os.PathLike[str]) -> pa.OSFile:
    """Path -> a file for pq.ParquetFile. Of Python's own, Arrow's threads may let go while the interpreter ends, and abort it."""
    import pyarrow as pa

    return pa.OSFile(os.fsencode(path))


def read_parquet(path: str | os.PathLike[str]) -> pa.Table:
    """Parquet file -> its table, text columns plain. MatcherError if it grows too large; else what Arrow raises."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_parquet(path) as file, pq.ParquetFile(file) as closed:
        leaves = [closed.schema.column(number) for number in range(len(closed.schema))]
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        schema = closed.schema_arrow
    batches, size = [], 0
    with open_parquet(path) as file, pq.ParquetFile(file, read_dictionary=texts) as opened:
        for batch in opened.iter_batches(batch_size=ROWS, use_threads=False):
            size += sum(map(grown, batch.columns))
            check_size(size, path, "its rows")
            batches.append(pa.RecordBatch.from_arrays([plain(column) for column in batch.columns], names=batch.schema.names))
        table = pa.Table.from_batches(batches) if batches else schema.empty_table()
    table.validate(full=True)  # texts that are no UTF-8, say
    return table.replace_schema_metadata(schema.metadata)


def grown(column: pa.Array) -> int:
    """Column of a batch -> bytes that it takes once each text stands there in full."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return column.nbytes + grown(column.flatten())
    if not pa.types.is_dictionary(column.type) or not has_texts(column.type):
        return column.nbytes
    lengths = pc.binary_length(column.dictionary).take(column.indices)
    return 8 * len(column) + (pc.sum(lengths).as_py() or 0)


def plain(column: pa.Array) -> pa.Array:
    """Column of a batch -> the same, texts of a dictionary written out."""
    import pyarrow as pa

    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) and has_texts(column.type) else column


def has_texts(kind: pa.DictionaryType) -> bool:
    import pyarrow as pa

    return pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type) or pa.types.is_binary(kind.value_type)
