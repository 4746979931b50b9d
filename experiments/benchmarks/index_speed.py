"""Brute force against every kind of index: how fast, how small, and how many of the true nearest rows it finds. See README.md."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from pair_speed import time_rounds
from script import run_script
from table import render_rows

from matcher.errors import UsageError
from matcher.index import Index
from matcher.settings import IndexSettings
from matcher.stages.describing import load_described

KINDS = ("flat", "fp16", "ivf", "ivfpq", "binary", "words")


def compare_indexes(
    described: str | None = None,
    *,
    queries: str | None = None,
    rows: int = 100_000,
    asked: int = 1_000,
    probes: Sequence[int] = (2, 16),
    rounds: int = 5,
    threads: int = 1,
) -> None:
    """Build every kind of index over the same keypoints, time the same searches in each, and print one table.

    Args:
        described: folder that `matcher describe` wrote of references; null = drawn rows
        queries: likewise of queries; null = rows of the references, disturbed
        rows: keypoints in the index at most
        asked: keypoints looked up
        probes: lists looked at, for the kinds that have some
        rounds: each searches every index once, and starts with the next one
        threads: of faiss
    """
    if min(rows, asked, rounds, threads, *probes) < 1:
        raise UsageError("rows, asked, probes, rounds and threads must be at least 1")
    faiss.omp_set_num_threads(threads)
    rng = np.random.default_rng(0)
    stored = drawn(load_described(Path(described))[0].keypoints.rows if described else draw(rng, rows), rows, rng)
    lookups = drawn(load_described(Path(queries))[0].keypoints.rows if queries else disturb(stored, rng), asked, rng)
    built = {name: build(stored, settings) for name, settings in variants(probes).items()}
    exact = built["flat"][0].search(lookups, 1)[1][:, 0]
    seconds = time_rounds({name: lambda index=index: index.search(lookups, 5) for name, (index, *_) in built.items()}, rounds)
    table = [["", "built in s", "bytes a row", "ms for 1,000 rows", "times as fast as flat", "finds the nearest"]]
    for name, (index, built_s, size) in built.items():
        found = float((index.search(lookups, 1)[1][:, 0] == exact).mean())
        ratio, ms = float(np.median(seconds["flat"] / seconds[name])), median(seconds[name]) / len(lookups) * 1e6
        table.append([name, f"{built_s:.1f}", f"{size / len(stored):.1f}", f"{ms:.1f}", f"{ratio:.2f}", f"{found:.3f}"])
    print(render_rows(table))
    print(f"\n{len(stored):,} rows, {len(lookups):,} asked, {threads} threads, medians of {rounds} rounds, load {os.getloadavg()[0]:.1f}.")


def variants(probes: Sequence[int]) -> dict[str, IndexSettings]:
    """Names and settings: kinds that look at some lists once for every number of them."""
    found: dict[str, IndexSettings] = {}
    for kind in KINDS:
        if kind in ("ivf", "ivfpq", "binary"):
            found |= {f"{kind}, {number} probes": IndexSettings(kind=kind, probes=number) for number in probes}
        else:
            found[kind] = IndexSettings(kind=kind)
    return found


def build(rows: NDArray[np.uint8], settings: IndexSettings) -> tuple[Index, float, int]:
    """Rows and settings -> the index, seconds it took, bytes of its file."""
    started = time.perf_counter()
    index = Index.build(rows, np.arange(len(rows)), settings, made_by="benchmark")
    seconds = time.perf_counter() - started
    with tempfile.TemporaryDirectory(prefix="index_speed_") as folder:
        index.save(folder)
        return index, seconds, sum(path.stat().st_size for path in Path(folder).iterdir())


def draw(rng: np.random.Generator, count: int) -> NDArray[np.uint8]:
    """Rows (count, 128) uint8 of norm about 255, in clumps as keypoints are."""
    middles = rng.gamma(0.6, size=(max(2, count // 50), 128))
    return as_bytes(middles[rng.integers(0, len(middles), count)] + rng.gamma(0.6, size=(count, 128)) * 0.7)


def disturb(rows: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    return as_bytes(np.maximum(rows + rng.normal(0, 6, rows.shape), 0) ** 2)


def as_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Numbers (n, 128), not negative -> square roots of their shares, times 255, as RootSIFT does."""
    return np.round(np.sqrt(values / values.sum(axis=1, keepdims=True)) * 255).astype(np.uint8)


def drawn(rows: NDArray[np.uint8], count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    return rows[np.sort(rng.permutation(len(rows))[:count])]


if __name__ == "__main__":
    raise SystemExit(run_script(compare_indexes))
