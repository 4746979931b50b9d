"""Records <-> Parquet files. The same record gives the same bytes; what is read back equals what was written.

Layout, for readers in other tools: numbers and text are plain columns; frames are fixed-size lists of 9 numbers, row by row; float
matrices are fixed-size lists; uint8 matrices are fixed-size binary (ten times faster than lists); evidence is one
column a name, ``evidence.NAME``; columns that the user brought along keep their own names. NaN is NaN, there are no nulls.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from matcher.errors import MatcherError
from matcher.storage.aside import write_aside
from matcher.storage.columns import from_arrow, to_arrow
from matcher.storage.limits import open_parquet
from matcher.storage.stamp import check_stamp, stamp
from matcher.types import PairScores, Record

R = TypeVar("R", bound=Record)
Extra = Mapping[str, Any]  # name -> NumPy array or Arrow column, one value a row
PathLike = str | os.PathLike[str]

SCHEMA_VERSION = 1
EVIDENCE = "evidence."


def write_record(path: PathLike, record: Record, *, metadata: Mapping[str, str] | None = None, extra: Extra | None = None) -> None:
    """Record -> Parquet file, whole or not at all.

    ``metadata``: text kept in the file's head. ``extra``: the user's own columns, carried as they are.
    MatcherError if an extra column has the name of one of the record's, or the disk refuses.
    """
    kind, extra = type(record), extra or {}
    columns = {name: to_arrow(getattr(record, name)) for name, _, _ in kind.columns()}
    columns |= {EVIDENCE + name: to_arrow(values) for name, values in evidence_of(record).items()}
    if clash := [name for name in extra if name in columns or (has_evidence(kind) and name.startswith(EVIDENCE))]:
        raise MatcherError(f"{path}: the input's column {clash[0]!r} has the name of a column of {kind.__name__}: rename it in the input")
    columns |= {name: values if isinstance(values, pa.Array | pa.ChunkedArray) else to_arrow(values) for name, values in extra.items()}
    if wrong := [name for name in extra if len(columns[name]) != len(record)]:
        raise ValueError(f"extra column {wrong[0]!r} has {len(columns[wrong[0]])} rows, the {kind.__name__} {len(record)}")
    head = {
        "matcher.record": kind.__name__,
        "matcher.schema_version": str(SCHEMA_VERSION),
        "matcher.extra": json.dumps(list(extra)),
        "matcher.metadata": json.dumps(dict(metadata or {}), sort_keys=True),
    }
    write_parquet(path, pa.table(columns).replace_schema_metadata(head))


def write_parquet(path: PathLike, table: pa.Table) -> None:
    """Arrow table -> Parquet file with checksums of its pages and of the whole (stamp.py).

    Long rows of floats, which do not shrink, stay uncompressed.
    """
    lists = {f.name: pa.types.is_fixed_size_list(f.type) and f.type.list_size > 16 for f in table.schema}
    compression = {f"{name}.list.element" if long else name: "none" if long else "zstd" for name, long in lists.items()}
    words = [f.name for f in table.schema if pa.types.is_string(f.type) or pa.types.is_binary(f.type)]
    with write_aside(path) as file:
        pq.write_table(table, file, compression=compression, use_dictionary=words, write_page_checksum=True)
        stamp(file)


def read_record(path: PathLike, kind: type[R]) -> R:
    """Parquet file that :func:`write_record` made -> record. MatcherError if it holds another record or is damaged."""
    with opened(path, kind) as file:
        names, extra = file.schema_arrow.names, extra_names(file)
        wanted = {name: (dtype, shape) for name, dtype, shape in kind.columns()}
        if missing := [name for name in wanted if name not in names]:
            raise MatcherError(f"{path} lacks the columns {', '.join(missing)} of {kind.__name__}; it has {', '.join(names)}")
        evidence = [name for name in names if name.startswith(EVIDENCE) and name not in extra] if has_evidence(kind) else []
        table = file.read([*wanted, *evidence])
        values: dict[str, Any] = {name: named(name, table, dtype, shape) for name, (dtype, shape) in wanted.items()}
        if has_evidence(kind):
            values["evidence"] = {name.removeprefix(EVIDENCE): named(name, table, "float32", ()) for name in evidence}
        return kind(**values)


def read_extra(path: PathLike) -> pa.Table:
    """Parquet file of a record -> the columns that the user brought along."""
    with opened(path, None) as file:
        return file.read(extra_names(file)).replace_schema_metadata(None)


def read_metadata(path: PathLike) -> dict[str, str]:
    """Parquet file of a record -> the ``metadata`` given when it was written."""
    with opened(path, None) as file:
        return dict(json.loads(file.schema_arrow.metadata[b"matcher.metadata"]))


@contextmanager
def opened(path: PathLike, kind: type[Record] | None) -> Iterator[pq.ParquetFile]:
    """Path -> open Parquet file of this record (None: of any); whatever goes wrong in the block names the path."""
    try:
        with open(path, "rb") as raw:
            check_stamp(raw, path)
        with open_parquet(path) as plain, pq.ParquetFile(plain, page_checksum_verification=True) as file:
            check_head(path, file.schema_arrow.metadata or {}, kind)
            yield file
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise MatcherError(f"cannot read {path}: {error.strerror}") from error
    except (OSError, pa.ArrowException, ValueError, LookupError) as error:
        raise MatcherError(f"{path} is damaged or was not written by matcher: {first_line(error)}") from error


def check_head(path: PathLike, head: Mapping[bytes, bytes], kind: type[Record] | None) -> None:
    record, version = head.get(b"matcher.record", b"").decode(), head.get(b"matcher.schema_version", b"").decode()
    if not record:
        raise MatcherError(f"{path} is a Parquet file but not one of matcher's records")
    if version != str(SCHEMA_VERSION):
        raise MatcherError(f"{path} has schema version {version}, this matcher reads {SCHEMA_VERSION}: make the file again")
    if kind is not None and record != kind.__name__:
        raise MatcherError(f"{path} holds {record}, not {kind.__name__}")


def named(name: str, table: pa.Table, dtype: str, shape: tuple[int | str, ...]) -> NDArray[Any]:
    """Column of a table -> array (rows, *shape) of dtype; ValueError that names the column if it is something else."""
    try:
        return from_arrow(table.column(name), dtype, shape)
    except ValueError as error:
        raise ValueError(f"column {name}: {error}") from error


def extra_names(file: pq.ParquetFile) -> list[str]:
    return list(json.loads(file.schema_arrow.metadata[b"matcher.extra"]))


def has_evidence(kind: type[Record]) -> bool:
    return issubclass(kind, PairScores)


def evidence_of(record: Record) -> Mapping[str, NDArray[np.float32]]:
    return record.evidence if isinstance(record, PairScores) else {}


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
