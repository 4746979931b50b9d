"""One query against the keypoints of very many references, of which all but a few are made up. See README.md beside this file."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from matcher.errors import UsageError
from matcher.index import Index
from matcher.index_lists import CODES_FILE, IDS_FILE, SIZES_FILE, MappedLists, ids_of
from matcher.index_ties import in_order, search_settled
from matcher.keypoint_file import FeatureShard, KeypointFile, StoredFeatures, write_keypoints
from matcher.shortlist.identical import near_thumbnails, same_content
from matcher.shortlist.votes import vote
from matcher.stages.collection import index_made_by
from matcher.stages.describing import load_described
from matcher.stages.strategies import read_strategy
from matcher.storage.aside import write_json
from matcher.storage.records import read_record, write_record
from matcher.types import Pictures

BLOCK = 64 * 2**20  # bytes of codes made at a time
LEARNT, PICTURES, POINTS = "learnt", "pictures.parquet", "keypoints.bin"
STRATEGY = read_strategy(["run/large.yaml"])


def fill(described: str, folder: str, *, copies: int, seed: int = 0) -> None:
    """Described references -> an index of them and of so many jittered copies of each.

    A copy of a keypoint lies in the same list; of its bits one in eight is turned, which is about as far as a stranger's nearest.

    Args:
        described: folder that `matcher describe --side reference` wrote
        folder: where the index is kept
        copies: of each reference; the first is the reference itself
        seed: of the jitter
    """
    place, (references, _) = Path(folder), load_described(Path(described))
    place.mkdir(parents=True, exist_ok=True)
    write_record(place / PICTURES, references.pictures)
    write_keypoints(place / POINTS, [references.keypoints], references.pictures.keypoints)
    rows = references.keypoints.rows
    settings = replace(STRATEGY.index, on_disk=False)
    real = Index.build(rows, np.arange(len(rows)), settings, made_by=index_made_by("real", settings))
    if len(rows) * copies >= 2**32:
        raise UsageError(f"{len(rows):,} keypoints {copies} times are more than four-byte ids can tell apart: fewer copies")
    began, rng = time.perf_counter(), np.random.default_rng(seed)
    lists, width = real.inverted_file.invlists, real.inverted_file.code_size
    sizes = np.array([lists.list_size(number) for number in range(lists.nlist)], dtype=np.int64)
    with (place / CODES_FILE).open("wb") as codes, (place / IDS_FILE).open("wb") as ids:
        for number in np.flatnonzero(sizes).tolist():
            code = np.array(faiss.rev_swig_ptr(lists.get_codes(number), int(sizes[number]) * width))
            id_ = ids_of(lists, number)
            step = max(1, BLOCK // len(code))
            for first in range(0, copies, step):
                count = min(step, copies - first)
                jitter = np.bitwise_and.reduce([rng.integers(0, 256, (count, len(code)), dtype=np.uint8) for _ in range(3)])
                jitter[: max(0, 1 - first)] = 0
                codes.write((code ^ jitter).data)
                ids.write((id_ + len(rows) * np.arange(first, first + count)[:, None]).astype(np.uint32).data)
    np.save(place / SIZES_FILE, sizes * copies)
    real.emptied().save(place / LEARNT)
    taken = {name: (place / name).stat().st_size for name in (CODES_FILE, IDS_FILE)}
    keypoints = len(rows) * copies
    facts: dict[str, Any] = {"references": len(references) * copies, "keypoints": keypoints, "bytes": taken}
    facts |= {"bytes_per_keypoint": sum(taken.values()) / keypoints, "bytes_per_reference": sum(taken.values()) / len(references) / copies}
    write_json(place / "facts.json", facts | {"seconds": time.perf_counter() - began, "copies": copies})
    print(facts)


class Many:
    """The filled lists with what has learnt them, searched as an Index is."""

    def __init__(self, folder: Path) -> None:
        learnt = Index.load(folder / LEARNT, made_by=index_made_by("real", replace(STRATEGY.index, on_disk=False)))
        self.card, self.lists = learnt.card, MappedLists(learnt.inverted_file, folder)

    def search(self, rows: NDArray[Any], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """As Index.search."""
        return in_order(*search_settled(self.look, rows, k, rows=self.lists.ntotal, often=True), k)

    def look(self, rows: NDArray[Any], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Any of the k nearest."""
        measured, ids = self.lists.search(np.ascontiguousarray(rows, dtype=np.float32), k)
        return np.where(ids < 0, -np.inf, self.card.similarity(measured)).astype(np.float32), ids


def search(described: str, folder: str, *, queries: int = 10, private_mb: int | None = None) -> None:
    """Described queries, and a folder that `fill` wrote -> seconds to the candidates of single queries, and the memory that took.

    Args:
        described: folder that `matcher describe --side query` wrote
        folder: that of the index
        queries: how many are asked, one by one
        private_mb: megabytes of private memory that the process may have at most; mapped files, which the system may drop, do not count
    """
    if private_mb is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (private_mb * 2**20,) * 2)
    faiss.omp_set_num_threads(1)
    place, (asked, _) = Path(folder), load_described(Path(described))
    opened = timed(lambda: open_many(place))
    library, index = opened[1]
    seconds = []
    for number in np.linspace(0, len(asked) - 1, queries).astype(int).tolist():
        features, alone = asked.features(number), asked.pictures.take([number])
        votes = timed(lambda features=features: vote(features, library, index, STRATEGY.shortlist))  # type: ignore[misc]
        content = timed(lambda alone=alone: [*same_content(alone, library.pictures), *near_thumbnails(alone, library.pictures)])
        seconds.append((votes[0], content[0]))
        print(f"{asked.pictures.id[number]}: votes {votes[0]:.3f} s, same content {content[0]:.3f} s, best {votes[1][1][:2]}", flush=True)
    median = np.median(np.array(seconds)[1:] if queries > 1 else np.array(seconds), axis=0).round(3).tolist()
    print(
        {"references": len(library), "opening_s": round(opened[0], 2), "first_s": round(sum(seconds[0]), 3), "median_s": median, **memory()}
    )


def open_many(folder: Path) -> tuple[StoredFeatures, Many]:
    """A filled folder -> its pictures, whose copies share the keypoints of the first, and its index."""
    pictures, index = read_record(folder / PICTURES, Pictures), Many(folder)
    copies, kept = index.lists.ntotal // int(pictures.keypoints.sum()), np.ones(len(pictures), dtype=bool)
    file = KeypointFile(folder / POINTS, pictures.keypoints)
    named = [replace(pictures, id=[f"{id_} {copy}" for id_ in pictures.id.tolist()]) for copy in range(copies)]
    return StoredFeatures([FeatureShard(part, kept, file) for part in named]), index


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """What a call returns, after the seconds that the processor worked for it: others may be at work on this machine."""
    began = time.process_time()
    found = work()
    return time.process_time() - began, found


def memory() -> dict[str, int]:
    """Megabytes of this process: private, and of mapped files that are in memory now."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return {name: int(lines[key].split()[0]) // 1024 for name, key in (("private_mb", "RssAnon"), ("mapped_mb", "RssFile"))}


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
    from script import run_script

    raise SystemExit(run_script([fill, search]))  # type: ignore[arg-type]
