"""CSV files of known columns, read with errors that name the file and the line, written whole or not at all."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from matcher.errors import MatcherError
from matcher.storage.aside import write_aside
from matcher.storage.limits import check_text

HEADER_WORDS = {"query", "query_id", "reference", "reference_id", "score", "families"}
SPECIAL = re.compile(r'[",\r\n]')


def read_columns(path: str | Path, names: Sequence[str], *, header: bool = True) -> list[list[str]]:
    """CSV file -> one list of texts for each of ``names``; other columns are ignored, blank lines skipped.

    ``header`` False: the file may go without a header line and then holds exactly these columns in this order; a first line
    with a usual column name in it is a header.
    MatcherError if the file cannot be read, holds no bytes, lacks a column, or a row has another number of fields.
    """
    rows = read_rows(Path(path))
    first = next(rows, None)
    if first is None:
        raise MatcherError(f"{path} is empty: expected columns {', '.join(names)}")
    found = [field.strip() for field in first[1]]
    if not header and not HEADER_WORDS & {field.lower() for field in found}:
        found, places = list(names), list(range(len(names)))
        check_width(path, first, len(found))
        kept = [first[1]]
    else:
        missing = [name for name in names if name not in found]
        if missing:
            raise MatcherError(f"{path} has no column {', '.join(missing)}: found {', '.join(found)}")
        places, kept = [found.index(name) for name in names], []
    for row in rows:
        check_width(path, row, len(found))
        kept.append(row[1])
    columns = [[row[place] for row in kept] for place in places]
    for name, column in zip(names, columns, strict=True):
        check_text(column, path, f"the column {name}")
    return columns


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """CSV file (UTF-8, with or without a byte order mark) -> (line number, fields) of every line that is not blank."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            for row in reader:
                if row:
                    yield reader.line_num, row
    except UnicodeDecodeError:
        raise MatcherError(f"{path} is not a CSV file in UTF-8") from None
    except csv.Error as error:
        raise MatcherError(f"{path} is not a CSV file: {error}") from None
    except OSError as error:
        raise MatcherError(f"cannot read {path}: {error.strerror}") from None


def check_width(path: str | Path, row: tuple[int, list[str]], fields: int) -> None:
    if len(row[1]) != fields:
        raise MatcherError(f"{path}, line {row[0]}: expected {fields} fields, found {len(row[1])}")


def read_numbers(path: str | Path, name: str, texts: Sequence[str]) -> list[float]:
    """One column of texts -> numbers, empty = NaN. MatcherError naming the first text that is not a number."""
    numbers = []
    for text in texts:
        try:
            numbers.append(float(text) if text.strip() else float("nan"))
        except ValueError:
            raise MatcherError(f"{path}, column {name}: {text!r} is not a number") from None
    return numbers


def write_rows(path: str | Path, rows: Iterable[Sequence[str]]) -> None:
    """Rows -> CSV file (UTF-8, lines end in a line feed). A reader sees the old file or the whole new one, never a part."""
    with write_aside(path) as file:
        for row in rows:
            file.write((",".join(map(quoted, row)) + "\n").encode())


def quoted(text: str) -> str:
    """A field as it stands in the file; Python 3.11's csv.writer leaves a lone carriage return bare, which ends the line for readers."""
    return '"' + text.replace('"', '""') + '"' if SPECIAL.search(text) else text
