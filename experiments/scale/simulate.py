"""Made-up descriptors in growing numbers -> what codes of them still find, in how much time and memory. See README.md beside this file."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from matcher.errors import UsageError
from matcher.metrics.csv_file import write_rows

BLOCK = 100_000  # rows made at a time
WITHIN = 48  # dimensions in which the descriptors of photographs really vary
TRAINED = 65_536  # rows that centroids and codebooks are learnt from
NAMES = ("rows", "exact_1", "codes_1", "codes_10", "codes_100", "ms_per_query", "bytes_per_row", "seconds_to_add")


def simulate(
    output: str,
    *,
    sizes: tuple[int, ...] = (100_000, 1_000_000, 10_000_000),
    dim: int = 256,
    code_bytes: int = 32,
    lists: int = 4096,
    probes: int = 16,
    queries: int = 500,
    seed: int = 0,
) -> None:
    """Fill one index with ever more rows and ask it, at each size, for the originals of edited rows.

    Rows are unit vectors that vary in a few dimensions; a query is one of the first rows, turned away by noise to a cosine between 0.55
    and 0.95. Time is that of one thread. Sizes beyond memory are refused by the system: a row takes ``code_bytes`` and 8 for its id.

    Args:
        output: CSV file
        sizes: rows, rising
        dim: numbers of a row
        code_bytes: bytes of a row's code (product quantisation)
        lists: inverted lists
        probes: of these, so many are looked at
        queries: how many are asked
        seed: of everything
    """
    if list(sizes) != sorted(sizes) or sizes[0] < TRAINED or sizes[0] < queries or dim % code_bytes:
        raise UsageError(f"sizes must rise from at least {max(TRAINED, queries):,}, and {code_bytes} bytes must divide {dim} numbers")
    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(seed)
    along = np.linalg.qr(rng.standard_normal((dim, WITHIN)))[0].T.astype(np.float32)
    index = faiss.IndexIVFPQ(faiss.IndexFlatIP(dim), dim, lists, code_bytes, 8, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.nprobe, index.cp.min_points_per_centroid = 8, probes, 1
    asked, best, found, spent = np.empty((0, dim), np.float32), np.full(queries, -np.inf), np.full(queries, -1), 0.0
    lines: list[tuple[str, ...]] = [NAMES]
    for size in sizes:
        while index.ntotal < size:
            rows = make_rows(min(BLOCK, size - index.ntotal), along, rng)
            if not index.is_trained:
                index.train(rows[:TRAINED])
                asked = turn_away(rows[:queries], along, rng)
            nearest = asked @ rows.T
            closer = nearest.max(axis=1) > best
            found[closer] = index.ntotal + nearest.argmax(axis=1)[closer]
            best = np.maximum(best, nearest.max(axis=1))
            began = time.process_time()
            index.add(rows)
            spent += time.process_time() - began
        began = time.process_time()
        _, ids = index.search(asked, 100)
        milliseconds = 1000 * (time.process_time() - began) / queries
        right = ids == np.arange(queries)[:, None]
        recalls = [float((found == np.arange(queries)).mean()), *(float(right[:, :k].any(axis=1).mean()) for k in (1, 10, 100))]
        lines.append((str(size), *(f"{value:.3f}" for value in recalls), f"{milliseconds:.2f}", str(code_bytes + 8), f"{spent:.0f}"))
        print(dict(zip(NAMES, lines[-1], strict=True)), flush=True)
        write_rows(Path(output), lines)


def make_rows(count: int, along: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Directions (W, D) in which rows vary -> unit rows (count, D): the first directions matter most."""
    drawn = rng.standard_normal((count, len(along)), dtype=np.float32) / np.arange(1, len(along) + 1, dtype=np.float32) ** np.float32(0.25)
    return unit(drawn @ along)


def turn_away(rows: NDArray[np.float32], along: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Unit rows (Q, D) -> what an edit makes of them."""
    noise = make_rows(len(rows), along, rng)
    noise = unit(noise - (noise * rows).sum(axis=1, keepdims=True) * rows)
    cosine = rng.uniform(0.55, 0.95, (len(rows), 1)).astype(np.float32)
    return np.asarray(cosine * rows + np.sqrt(1 - cosine**2) * noise)


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
    from script import run_script

    raise SystemExit(run_script(simulate))
