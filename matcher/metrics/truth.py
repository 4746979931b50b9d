"""What is true: which query is a copy of which references, and how each copy was made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from matcher.errors import MatcherError
from matcher.metrics.csv_file import read_columns, read_numbers, read_rows
from matcher.types import Record, Text, column

R = TypeVar("R", bound=Record)
WORDS = re.compile(r"[A-Za-z_ -]+")


@dataclass(frozen=True, eq=False, kw_only=True)
class GroundTruth(Record):
    """Queries and their references: a row for each true pair, a row with an empty reference for a copy of nothing.

    The queries that are judged are those listed here; a query may have several references (collages).
    """

    keys = ("query_id", "reference_id")
    query_id: Text = column("text")  # (T,)
    reference_id: Text = column("text")  # (T,) "" = copy of nothing

    def check(self) -> None:
        super().check()
        matched = set(self.query_id[self.reference_id != ""].tolist())
        if both := matched & set(self.query_id[self.reference_id == ""].tolist()):
            raise ValueError(f"the ground truth lists {min(both)} with a reference and with an empty one")

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """CSV with columns query_id,reference_id (header optional) -> ground truth. MatcherError if it is not one."""
        queries, references = read_columns(path, ("query_id", "reference_id"), header=False)
        if not queries:
            raise MatcherError(f"{path} lists no queries")
        refuse_other_header(path, queries, references)
        check_ids(path, "query_id", queries)
        return made(path, cls, query_id=queries, reference_id=references)

    def queries(self) -> list[str]:
        """The ids of all queries, once each, in the order of the file."""
        return list(dict.fromkeys(self.query_id.tolist()))

    def pairs(self) -> list[tuple[str, str]]:
        """The true pairs (query id, reference id)."""
        rows = self.reference_id != ""
        return list(zip(self.query_id[rows].tolist(), self.reference_id[rows].tolist(), strict=True))


@dataclass(frozen=True, eq=False, kw_only=True)
class Edits(Record):
    """How each query was made. ``frame`` maps the reference's unit square to the query's: the inverse of a predicted frame."""

    keys = ("query_id", "reference_id")
    query_id: Text = column("text")  # (T,)
    reference_id: Text = column("text")  # (T,) "" = copy of nothing
    families: Text = column("text")  # (T,) kinds of edits in order, joined by "+"
    severity: NDArray[np.float64] = column("float64")  # (T,) bigger is harder, NaN = not known
    covered: NDArray[np.float64] = column("float64")  # (T,) share of the query that the copied picture spans, NaN = not known
    frame: NDArray[np.float64] = column("float64", 3, 3)  # (T, 3, 3) NaN = not known

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """CSV with the columns of this record, frames as 9 numbers by rows -> edits. MatcherError if it is not one."""
        queries, references, families, severity, covered, frames = read_columns(path, [name for name, _, _ in cls.columns()])
        check_ids(path, "query_id", queries)
        return made(
            path,
            cls,
            query_id=queries,
            reference_id=references,
            families=families,
            severity=read_numbers(path, "severity", severity),
            covered=read_numbers(path, "covered", covered),
            frame=np.array([read_frame(path, query, text) for query, text in zip(queries, frames, strict=True)]).reshape(-1, 3, 3),
        )


def read_frame(path: str | Path, query_id: str, text: str) -> NDArray[np.float64]:
    """9 numbers separated by spaces, row by row -> frame (3, 3); no text -> NaN."""
    if not text.strip():
        return np.full((3, 3), np.nan)
    numbers = read_numbers(path, f"frame of {query_id}", text.split())
    if len(numbers) != 9:
        raise MatcherError(f"{path}, frame of {query_id}: expected 9 numbers separated by spaces, found {len(numbers)}")
    return np.array(numbers).reshape(3, 3)


def refuse_other_header(path: str | Path, queries: list[str], references: list[str]) -> None:
    """MatcherError if the first line was read as a pair but looks like a header: words, above ids with digits or named "id"."""
    first = next(read_rows(Path(path)))[1]
    if first != [queries[0], references[0]] or not all(map(WORDS.fullmatch, first)):
        return
    above_digits = len(queries) > 1 and all(any(map(str.isdigit, query)) for query in queries[1:])
    if above_digits or any(re.fullmatch(r"(.*[_ -])?id", field, re.IGNORECASE) for field in first):
        raise MatcherError(f"{path} begins with {','.join(first)}, which looks like a header: name the columns query_id,reference_id")


def check_ids(path: str | Path, name: str, ids: list[str]) -> None:
    if "" in ids:
        raise MatcherError(f"{path}: row {ids.index('') + 1} has an empty {name}")


def made(path: str | Path, kind: type[R], **columns: object) -> R:
    """A record from what a file holds; what the record finds wrong is told with the file's name."""
    try:
        return kind(**columns)
    except ValueError as error:
        raise MatcherError(f"{path}: {error}") from None
