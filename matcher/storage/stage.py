"""A stage on disk: a folder with a manifest and one part for each shard of work.

    manifest.json         record, versions, config, inputs, shards; written first
    part-00000.parquet    the record of shard 0, with errors-00000.parquet beside it if some items were bad
    part-00000.json       size and sha256 of these files; written last: a shard is done when this file and those it names are there
    errors.parquet        the bad items of all shards, where the stage's verb gathers them for people to read

So a process may be killed at any moment: what is not done is computed again, what is done never is, and the bytes come
out the same. A part that was damaged later is refused when it is read.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa

from matcher.errors import MatcherError
from matcher.storage.aside import TEMPORARY, parse_json, remove_temporaries, write_json
from matcher.storage.lock import LOCK_NAME, FolderLock, hold
from matcher.storage.manifest import MANIFEST_NAME, Manifest, plan, read_manifest, refuse_stale, write_manifest
from matcher.storage.records import Extra, read_extra, read_record, write_record
from matcher.types import Errors, Record

R = TypeVar("R", bound=Record)
PathLike = str | os.PathLike[str]
SHARD_FILE = re.compile(r"(part|errors)-\d{5,}\.(parquet|json)|errors\.parquet")
READERS = 4  # threads that read the parts: unpacking and checksums need no interpreter
log = logging.getLogger("matcher")


class Stage(Generic[R]):
    """A folder of parts that hold records of one kind; made by :meth:`open` (to work on) or :meth:`load` (to read)."""

    def __init__(self, folder: Path, kind: type[R], manifest: Manifest, lock: FolderLock | None) -> None:
        self.folder, self.kind, self.manifest, self.lock = folder, kind, manifest, lock

    @classmethod
    def open(
        cls,
        folder: PathLike,
        kind: type[R],
        *,
        config: Mapping[str, Any],
        inputs: Mapping[str, str],
        items: int,
        items_per_shard: int,
        fresh: bool = False,
    ) -> Stage[R]:
        """Folder -> the stage there, begun now or earlier, locked for this process while the stage object lives.

        ``inputs``: name -> fingerprint of what the stage reads. A stage begun earlier keeps its own shards.
        StaleStageError if it was begun with another config or inputs, unless ``fresh``, which removes it first.
        MatcherError if another process works on it, or the folder holds files that no stage wrote.
        """
        path = Path(folder)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MatcherError(f"cannot make the folder {path}: {error.strerror}") from error
        lock, wanted = hold(path), plan(kind, config=config, inputs=inputs, items=items, items_per_shard=items_per_shard)
        if fresh:
            remove_stage(path)
        remove_temporaries(path)
        found = read_manifest(path)
        if found is None:
            if strangers := sorted(entry.name for entry in path.iterdir() if entry.name != LOCK_NAME):
                raise MatcherError(f"{path} has no {MANIFEST_NAME} but holds {told(strangers)}: move them away, or choose another --output")
            write_manifest(path, wanted)
            return cls(path, kind, wanted, lock)
        refuse_stale(path, found, wanted)
        if found.package_version != wanted.package_version:
            log.warning("%s was begun by matcher %s and goes on with %s", path, found.package_version, wanted.package_version)
        return cls(path, kind, found, lock)

    @classmethod
    def load(cls, folder: PathLike, kind: type[R]) -> Stage[R]:
        """Folder -> the finished stage there, to read. MatcherError if it is missing, unfinished, or of another record."""
        path = Path(folder)
        manifest = read_manifest(path) if path.is_dir() else None
        if manifest is None:
            why = f"holds no stage ({MANIFEST_NAME} is missing)" if path.is_dir() else "is not there"
            raise MatcherError(f"{path} {why}: give the folder that the step before wrote")
        if manifest.record != kind.__name__:
            raise MatcherError(f"{path} holds {manifest.record}, not {kind.__name__}")
        stage = cls(path, kind, manifest, None)
        if left := len(stage.pending()):
            total = len(manifest.shards)
            sentence = f"{path} is unfinished, {total - left} of {total} shards are done"
            raise MatcherError(f"{sentence}: run the command that makes it again, it goes on from there")
        return stage

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process the same folder, to write parts in; the lock stays with the process that opened it."""
        return type(self), (self.folder, self.kind, self.manifest, None)

    @property
    def fingerprint(self) -> str:
        """Names the content for the stage that reads it: sha256 over record, schema version, config and inputs."""
        return self.manifest.fingerprint

    @property
    def items(self) -> int:
        return self.manifest.items

    @property
    def is_finished(self) -> bool:
        return not self.pending()

    def shard(self, number: int) -> range:
        """Number of a shard -> the items in it."""
        return range(*self.manifest.shards[number])

    def pending(self) -> list[int]:
        """Numbers of the shards that are not done yet."""
        return [number for number in range(len(self.manifest.shards)) if self.sidecar(number) is None]

    def write(self, number: int, record: R, errors: Errors | None = None, extra: Extra | None = None) -> None:
        """Make a shard done: its record, its bad items, and the user's columns beside the record's own. Safe from several threads."""
        if type(record) is not self.kind:
            raise TypeError(f"{self.folder} holds {self.kind.__name__}, got {type(record).__name__}")
        part, bad, sidecar = self.names(number)
        (self.folder / sidecar).unlink(missing_ok=True)
        write_record(self.folder / part, record, extra=extra)
        (self.folder / bad).unlink(missing_ok=True)
        written = [part]
        if errors is not None and len(errors):
            write_record(self.folder / bad, errors)
            written.append(bad)
        write_json(self.folder / sidecar, {name: seal(self.folder / name) for name in written})

    def forget(self, number: int) -> None:
        """Make a shard undone, so that it is computed again."""
        (self.folder / self.names(number)[2]).unlink(missing_ok=True)

    def read(self) -> R:
        """The records of all shards, in order, as one."""
        with ThreadPoolExecutor(READERS) as pool:
            records = list(pool.map(self.part, self.done()))
        try:
            return self.kind.concat(records)
        except ValueError as error:
            raise MatcherError(f"{self.folder}: {error}") from error

    def parts(self) -> Iterator[R]:
        """The records, one shard after the other. MatcherError that names a damaged part."""
        yield from map(self.part, self.done())

    def part(self, number: int) -> R:
        """Number of a done shard -> its record. MatcherError if it is damaged."""
        return read_record(self.checked(number, 0), self.kind)

    def extra(self) -> pa.Table:
        """The user's own columns, of all shards, in order; no columns if there are none."""
        tables = [read_extra(self.checked(number, 0)) for number in self.done()]
        return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})

    def errors(self) -> Errors:
        """The bad items of all shards, in order."""
        found = [number for number in self.done() if self.names(number)[1] in (self.sidecar(number) or {})]
        return Errors.concat([read_record(self.checked(number, 1), Errors) for number in found])

    def done(self) -> Iterator[int]:
        """Numbers of all shards, in order; MatcherError at the first that is not done."""
        for number in range(len(self.manifest.shards)):
            if self.sidecar(number) is None:
                raise MatcherError(f"{self.folder}: shard {number} is not done: run the command that makes it again")
            yield number

    def sidecar(self, number: int) -> dict[str, Any] | None:
        """Number of a shard -> size and sha256 of its files, None if it is not done."""
        part, bad, sidecar = self.names(number)
        try:
            files = parse_json((self.folder / sidecar).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        told = isinstance(files, dict) and part in files and files.keys() <= {part, bad}
        return files if told and all((self.folder / name).exists() for name in files) else None

    def checked(self, number: int, which: int) -> Path:
        """Number of a done shard -> path of its part (0) or errors (1), the same bytes as when it was written."""
        name = self.names(number)[which]
        path = self.folder / name
        if seal(path) != (self.sidecar(number) or {}).get(name):
            raise MatcherError(f"{path} is damaged: delete it and run the command again (or use --fresh)")
        return path

    @staticmethod
    def names(number: int) -> tuple[str, str, str]:
        """Number of a shard -> names of its part, errors and sidecar."""
        return f"part-{number:05d}.parquet", f"errors-{number:05d}.parquet", f"part-{number:05d}.json"


def seal(path: Path) -> dict[str, Any]:
    """File -> its size and sha256."""
    with path.open("rb") as file:
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def shard_files(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if SHARD_FILE.fullmatch(entry.name))


def remove_stage(folder: Path) -> None:
    """Remove the files that a stage wrote, the manifest last. MatcherError, and nothing removed, if there are others."""
    names = sorted(entry.name for entry in folder.iterdir())
    ours = [name for name in names if TEMPORARY.fullmatch(name)]
    if read_manifest(folder) is not None:
        ours += [*shard_files(folder), MANIFEST_NAME]
    if strangers := [name for name in names if name not in ours and name != LOCK_NAME]:
        sentence = f"will not remove {folder}: it holds {told(strangers)}, which no stage wrote"
        raise MatcherError(f"{sentence}; move them away, or choose another --output")
    for name in ours:
        (folder / name).unlink()


def told(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
