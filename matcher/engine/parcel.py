"""Python objects in a file that several processes map: their arrays lie in memory once, and may be read only."""

from __future__ import annotations

import mmap
import pickle
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import cloudpickle

from matcher.errors import MatcherError

ALIGNED = 64  # bytes; arrays begin at multiples
END = 8  # bytes at the end that say where the pickle begins


@contextmanager
def sent(what: Any, folder: Path) -> Iterator[Path]:
    """Anything that cloudpickle takes -> while the block lasts, a file in the folder that :func:`receive` reads.

    A process that is killed meanwhile leaves a file that ``remove_temporaries`` removes. MatcherError if the disk refuses.
    """
    arrays: list[pickle.PickleBuffer] = []
    body = cloudpickle.dumps(what, protocol=5, buffer_callback=arrays.append)
    path = folder / f".aside-{secrets.token_hex(8)}.tmp"
    try:
        try:
            with path.open("xb") as file:
                write(file, body, [array.raw() for array in arrays])
        except OSError as error:
            raise MatcherError(f"cannot write {path}: {error.strerror or error}") from error
        yield path
    finally:
        path.unlink(missing_ok=True)


def write(file: BinaryIO, body: bytes, arrays: Sequence[memoryview]) -> None:
    """Arrays, then the pickle and where they lie, then where that begins."""
    places = []
    for array in arrays:
        file.write(bytes(-file.tell() % ALIGNED))
        places.append((file.tell(), array.nbytes))
        file.write(array)
    start = file.tell()
    file.write(pickle.dumps((body, places)))
    file.write(start.to_bytes(END, "little"))


def receive(path: Path) -> Any:
    """What :func:`sent` wrote -> the same again. Only for files that this program wrote a moment ago: a pickle runs code."""
    with path.open("rb") as file:
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    body, places = pickle.loads(mapped[int.from_bytes(mapped[-END:], "little") : -END])
    return pickle.loads(body, buffers=[mapped[start : start + size] for start, size in places])
