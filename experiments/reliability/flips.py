"""One changed byte, or a cut, in a file that matcher wrote: what comes of it when the file is read again?"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from runs import Bench, Row, contents, is_clear

TOLD = ("report.html", "timings.json", "versions.json", "config.yaml")  # for people: made anew by each run


def damage(data: bytes, draw: random.Random) -> bytes:
    """A file -> the same with one bit flipped, or, one time in four, with its end cut off."""
    at, changed = draw.randrange(len(data)), bytearray(data)
    if draw.random() < 0.25:
        return bytes(changed[:at])
    changed[at] ^= 1 << draw.randrange(8)
    return bytes(changed)


def flipped_runs(bench: Bench, room: Path, *, count: int, seed: int) -> Row:
    """A damaged file of a finished run, and the run again: the same predictions in the end, or a refusal that names the folder."""
    row, draw, output, done = Row("a damaged file of a finished run, run again"), random.Random(seed), room / "out", bench.room / "done"
    names = [path.relative_to(done) for path in sorted(done.rglob("*")) if path.is_file()]
    for name in draw.sample(names, len(names)) * (1 + count // len(names)):
        if row.tried == count:
            break
        shutil.copytree(done, output)
        (output / name).write_bytes(damage((done / name).read_bytes(), draw))
        code, said = bench.run(output)
        kept = code == 0 and all(
            (output / made).read_bytes() == (done / made).read_bytes() for made in ("predictions.parquet", "predictions.csv", "config.yaml")
        )
        row.expect(kept or (code == 1 and is_clear(said, str(output))), f"{name}: {code} {said}")
        shutil.rmtree(output)
    return row


def flipped_collections(bench: Bench, room: Path, *, count: int, seed: int) -> Row:
    """A damaged file of a collection, and a search: what an undamaged one gives, or a refusal that names the collection."""
    row, draw, folder, whole = Row("a damaged file of a collection, searched"), random.Random(seed), room / "copy", bench.room / "added"
    names = [path.relative_to(whole) for path in sorted(whole.rglob("*")) if path.is_file()]
    for number in range(count):
        name = names[number % len(names)]
        shutil.copytree(whole, folder)
        (folder / name).write_bytes(damage((whole / name).read_bytes(), draw))
        code, said = bench.run(room / "out", references=folder)
        same = code == 0 and contents(room / "out") == contents(bench.room / "searched")
        row.expect(same or (code == 1 and is_clear(said, str(folder))), f"{name}: {code} {said}")
        for made in (folder, room / "out"):
            shutil.rmtree(made, ignore_errors=True)
    return row


def flipped_files(bench: Bench, room: Path, *, count: int, seed: int) -> Row:
    """Every kind of file, damaged so often, and what reads it: what was written, or one of our errors, or no file of ours any more."""
    from matcher.errors import MatcherError

    row, draw = Row("a damaged file of each kind, read"), random.Random(seed)
    shutil.copytree(bench.room / "done", room / "done")
    shutil.copytree(bench.room / "added", room / "added")
    for name, read in readers(room).items():
        data = (room / name).read_bytes()
        expected = read()
        for _ in range(count):
            changed = damage(data, draw)
            (room / name).write_bytes(changed)
            said = ""
            try:
                said = "" if read() == expected else "another content"
            except MatcherError:
                pass
            except Exception as error:
                said = repr(error)
            row.expect(not said, f"{name}, {difference(data, changed)}: {said}")
        (room / name).write_bytes(data)
    return row


def difference(data: bytes, changed: bytes) -> str:
    at = next((n for n, (one, other) in enumerate(zip(data, changed, strict=False)) if one != other), len(changed))
    return f"cut at {at}" if len(changed) < len(data) else f"byte {at}"


def readers(room: Path) -> dict[str, Callable[[], Any]]:
    """Names of files within the folder -> what reads them in the product; two contents can be compared by ==."""
    from matcher.images.table import ImageSet
    from matcher.index import Index
    from matcher.index_card import read_card
    from matcher.keypoint_file import KeypointFile
    from matcher.stages.collection import Collection
    from matcher.storage.records import read_extra, read_record
    from matcher.storage.stage import Stage
    from matcher.types import Candidates, Errors, Keypoints, PairScores, Pictures, Predictions

    def record(name: str, kind: Any) -> Callable[[], Any]:
        return lambda: (plain(read_record(room / name, kind)), read_extra(room / name).to_pydict())

    def stage(name: str, kind: Any) -> Callable[[], Any]:
        def read() -> Any:
            found = Stage.load(room / name, kind)
            return plain(found.read()), plain(found.errors()), found.extra().to_pydict(), found.fingerprint

        return read

    index, keypoints = "done/index", "added/00000/keypoints.bin"
    made_by = read_card(room / index)[0].made_by
    pictures = read_record(room / "added/00000/pictures.parquet", Pictures)
    asked = np.random.default_rng(0).integers(0, 30, (4, 128), dtype=np.uint8)

    def search() -> Any:
        return [found.tobytes() for found in Index.load(room / index, made_by=made_by).search(asked, 5)]

    def points() -> Any:
        return [KeypointFile(room / keypoints, pictures.keypoints).read(number).tobytes() for number in range(len(pictures))]

    records = {
        "done/queries/images.parquet": ImageSet,
        "done/queries/errors.parquet": Errors,
        "done/fused.parquet": PairScores,
        "done/predictions.parquet": Predictions,
        "added/00000/images.parquet": ImageSet,
        "added/00000/pictures.parquet": Pictures,
    }
    stages = {"done/queries/keypoints": Keypoints, "done/candidates": Candidates, "done/pair_scores": PairScores}
    return {
        **{name: record(name, kind) for name, kind in records.items()},
        **{f"{name}/part-00000{end}": stage(name, kind) for name, kind in stages.items() for end in (".parquet", ".json")},
        f"{index}/index.faiss": search,
        f"{index}/card.json": search,
        keypoints: points,
        "added/collection.json": lambda: Collection.read(room / "added"),
    }


def plain(record: Any) -> dict[str, Any]:
    """Record -> its columns as dtype, shape and bytes."""
    columns = {field.name: getattr(record, field.name) for field in fields(record) if field.name != "extra"}
    columns |= {f"evidence.{name}": values for name, values in columns.pop("evidence", {}).items()}
    return {name: (str(values.dtype), values.shape, values.tobytes()) for name, values in columns.items()}
