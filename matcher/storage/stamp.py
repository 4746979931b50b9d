"""The checksum of a whole Parquet file. Parquet's own ones cover pages, not what tells where and what these are.

It lies between the last page and the footer, where other readers do not look and other writers keep nothing:

    pages, b"matchcrc", CRC-32 of all other bytes (uint32, little-endian), footer, length of the footer, b"PAR1"
"""

from __future__ import annotations

import os
import zlib
from typing import BinaryIO

from matcher.errors import MatcherError

MARK = b"matchcrc"
SIZE = len(MARK) + 4
BLOCK = 2**20  # bytes read at once


def stamp(file: BinaryIO) -> None:
    """A whole Parquet file, open for reading and writing -> the same with its checksum."""
    start = footer(file)
    found = checksum(file, start, start)
    file.seek(start)
    tail = file.read()
    file.seek(start)
    file.write(MARK + found + tail)


def check_stamp(file: BinaryIO, path: str | os.PathLike[str]) -> None:
    """Open Parquet file -> nothing; MatcherError if it is stamped with the checksum of other bytes. Then it is read from its beginning."""
    start = footer(file)
    file.seek(max(start - SIZE, 0))
    said = file.read(SIZE)
    if said[: len(MARK)] == MARK and said[len(MARK) :] != checksum(file, start - SIZE, start):
        raise MatcherError(f"{path} is damaged: it is not what was written; make it again")
    file.seek(0)


def footer(file: BinaryIO) -> int:
    """Open Parquet file -> the byte at which its footer begins; 0 where that is no byte of it."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 8, 0))
    return max(size - 8 - int.from_bytes(file.read(4), "little"), 0)


def checksum(file: BinaryIO, stop: int, start: int) -> bytes:
    """Open file -> CRC-32 of what comes before the byte ``stop`` and from ``start`` on."""
    found = 0
    file.seek(0)
    while block := file.read(min(BLOCK, stop - file.tell())):
        found = zlib.crc32(block, found)
    file.seek(start)
    while block := file.read(BLOCK):
        found = zlib.crc32(block, found)
    return found.to_bytes(4, "little")
