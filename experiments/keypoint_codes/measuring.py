"""Codes of keypoints -> what they find for the queries and what they cost, measured once and kept in a folder."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import faiss
import numpy as np
from codes import DEPTH, Built, Code, build, rank
from numpy.typing import NDArray

from matcher.errors import UsageError
from matcher.features import FeatureSet
from matcher.index_kinds import new_index
from matcher.settings import ShortlistSettings
from matcher.storage.aside import read_json, write_aside, write_json

logger = logging.getLogger("matcher")

Ranked = NDArray[np.int64]  # (queries, DEPTH) rows of references, best first, -1 = none
PARTS = ("picture_bytes", "id_bytes", "place_bytes", "shared_bytes")


@dataclass(frozen=True)
class Measured:
    """What a code found, and its costs by the names of a Result."""

    ranked: Ranked
    costs: dict[str, float]


@dataclass(frozen=True)
class Bench:
    """The described pictures, the queries that are asked, and where results are kept. What is kept is named for all that decides it."""

    queries: FeatureSet
    references: FeatureSet
    asked: NDArray[np.int64]  # rows of the queries
    timed: NDArray[np.int64]  # those of codes that are exact
    settings: ShortlistSettings
    folder: Path
    made_of: str  # names the descriptions

    def measure_all(self, codes: Sequence[Code]) -> list[Measured]:
        """Codes -> what each found and cost. Call it where libraries compute on one thread."""
        self.folder.mkdir(exist_ok=True)
        found: list[Measured] = []
        built: Built | None = None
        for code in codes:
            kept = self.place(code, self.rows(code).tolist())
            if not kept.with_suffix(".json").is_file():
                words, learning = self.learn_words(code) if code.words else (None, 0.0)
                built = build(code, self.references, words, built)
                self.keep(kept, code, self.ask(built, code), built, learning)
            found.append(Measured(np.load(kept.with_suffix(".npy")), read_json(kept.with_suffix(".json"))))
        return found

    def rows(self, code: Code) -> NDArray[np.int64]:
        """A code -> rows of the queries that it is asked for."""
        return self.timed if code.exact else self.asked

    def place(self, *parts: object) -> Path:
        """What decides a result, beside the pictures and how votes are counted -> the file that keeps it, without its suffix."""
        known = repr((self.made_of, asdict(self.settings), faiss.__version__, *parts))
        return self.folder / hashlib.sha256(known.encode()).hexdigest()[:16]

    def ask(self, built: Built, code: Code) -> tuple[Ranked, NDArray[np.float64]]:
        """What was built -> its candidates, and for each query asked the milliseconds in all and in looking up."""
        rows, seconds = self.rows(code), []
        ranked = np.full((len(self.queries), DEPTH), -1, dtype=np.int64)
        for row in rows.tolist():
            features, started = self.queries.features(row), time.thread_time()
            found, looking = rank(built, features, self.references, replace(self.settings, neighbours=code.neighbours))
            seconds.append((time.thread_time() - started, looking))
            ranked[row, : len(found)] = found
        return ranked, 1000 * np.array(seconds).reshape(-1, 2)

    def keep(self, kept: Path, code: Code, asked: tuple[Ranked, NDArray[np.float64]], built: Built, learning: float) -> None:
        """Writes what a code found, then what it cost."""
        ranked, milliseconds = asked
        whole, looking = np.median(milliseconds, axis=0).tolist()
        costs = {name: float(getattr(built, name)) for name in PARTS} | {"build_seconds": built.seconds + learning}
        costs |= {"ms_per_query": whole, "lookup_ms": looking, "queries": len(milliseconds)}
        with write_aside(kept.with_suffix(".npy")) as file:
            np.save(file, ranked)
        write_json(kept.with_suffix(".json"), costs)
        said = f"{costs['build_seconds']:.0f} s to build, {whole:.0f} ms a query, {built.picture_bytes:,.0f} bytes a picture"
        logger.info("%s: %s", code.name, said)

    def learn_words(self, code: Code) -> tuple[NDArray[np.float32], float]:
        """A code of words -> centroids (W, 128) of the references, and the seconds that learning took, once for all codes of a size."""
        kept = self.place("words", code.words).with_suffix(".npz")
        if not kept.is_file():
            started = time.thread_time()
            index, stored = new_index(self.references.keypoints.rows, code.index, seed=0)
            if stored != "words":
                raise UsageError(f"{len(self.references.keypoints)} keypoints of references are too few for words: give more references")
            with write_aside(kept) as file:
                np.savez(file, words=index.quantizer.reconstruct_n(), seconds=time.thread_time() - started)
        with np.load(kept) as file:
            return file["words"], float(file["seconds"])


def spread(count: int, wanted: int | None) -> NDArray[np.int64]:
    """About ``wanted`` of ``count`` rows, evenly spread; None = all."""
    return np.unique(np.linspace(0, max(count - 1, 0), min(wanted or count, count)).round().astype(np.int64))
