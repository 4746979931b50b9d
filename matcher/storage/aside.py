"""Files appear whole or not at all: written aside under a temporary name, synced, then renamed."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from matcher.errors import MatcherError, UsageError

TEMPORARY = re.compile(r"\.aside-[0-9a-f]{16}\.tmp")


def check_output(output: str | os.PathLike[str], ending: str, *inputs: str | os.PathLike[str]) -> None:
    """A file that a verb will write, how its name must end, and files it is made from -> its folder, made; before any work.

    UsageError if the name ends otherwise or it is one of these files, MatcherError if there can be no such folder.
    """
    path = Path(output)
    if path.suffix != ending:
        raise UsageError(f"--output {path} must end in {ending}")
    refuse_inputs(path, *inputs)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MatcherError(f"cannot make the folder {path.parent}: {error.strerror or error}; choose another --output") from error
    if not os.access(path.parent, os.W_OK):
        raise MatcherError(f"the folder {path.parent} may not be written to; choose another --output")


def refuse_inputs(output: Path, *inputs: str | os.PathLike[str]) -> None:
    """UsageError if the file is one of the inputs, which it would replace."""
    for given in map(Path, inputs):
        if output.exists() and given.exists() and output.samefile(given):
            raise UsageError(f"--output {output} would replace what it is made from: choose another --output")


@contextmanager
def write_aside(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Path -> an open binary file, to write and to read again, in the same folder that takes the path's place when the block ends well.

    If the block fails, or the process dies, the path stays as it was. MatcherError if the disk refuses.
    """
    target = Path(path)
    temporary = target.with_name(f".aside-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise MatcherError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last through a power cut, where the file system can do that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_temporaries(folder: Path) -> None:
    """Remove what a killed writer left in the folder."""
    for entry in folder.iterdir():
        if TEMPORARY.fullmatch(entry.name):
            entry.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """JSON value -> file with sorted keys: the same value gives the same bytes."""
    with write_aside(path) as file:
        file.write(json.dumps(value, sort_keys=True, indent=1).encode("ascii") + b"\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """JSON file -> its value. MatcherError if it is missing or no JSON."""
    try:
        return parse_json(Path(path).read_bytes())
    except OSError as error:
        raise MatcherError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise MatcherError(f"{path} is no JSON file: {error}") from error


def parse_json(data: bytes | str) -> Any:
    """JSON text -> its value. ValueError whatever is wrong with it, nests without end too."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it nests too deeply") from None
