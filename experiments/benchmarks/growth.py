"""How seconds, memory and bytes grow with the number of references: the peers and `matcher run`. See README.md beside this file."""

from __future__ import annotations

import csv
import logging
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from peers import METHODS, ROOT, Benchmark, Method, Run, check_request, run_method
from script import run_script
from table import TITLES, render_rows

from matcher.errors import UsageError
from matcher.images.table import read_images

logger = logging.getLogger("matcher")


def measure_growth(
    benchmark: str,
    *,
    photos: str | None = None,
    output: str = "outputs/growth",
    sizes: Sequence[int] = (100, 1_000, 10_000),
    queries: int = 60,
    methods: Sequence[Method] = METHODS,
    run_file: str = str(ROOT / "experiments/run/keypoints.yaml"),
    repeats: int = 3,
) -> None:
    """Run the methods on ever more references, and print a table of seconds, memory and bytes.

    Args:
        benchmark: folder with queries/, references/ and ground_truth.csv
        photos: folder whose pictures join where the benchmark has too few references
        output: folder for table.md and each method's log
        sizes: numbers of references, growing
        queries: the first so many of the benchmark's
        methods: which of them to run
        run_file: what `matcher run` is given as --config; `--config` itself is a file of these arguments
        repeats: rounds; each starts with the next method; numbers are medians
    """
    check_request(methods, repeats)
    if len(sizes) < 2 or sorted(set(sizes)) != list(sizes) or sizes[0] < 1 or queries < 1:
        raise UsageError(f"sizes must be two or more numbers that grow, and queries at least 1, got {list(sizes)} and {queries}")
    source, target = Benchmark(Path(benchmark).resolve()), Path(output).resolve()
    more = photos_beside(source, Path(photos).resolve()) if photos else []
    if (there := len(os.listdir(source.folder / "references")) + len(more)) < sizes[-1]:
        raise UsageError(f"{sizes[-1]:,} references are wanted and there are {there:,}: give a folder of more as --photos")
    target.mkdir(parents=True, exist_ok=True)
    runs: dict[tuple[Method, int], list[Run]] = {(method, size): [] for method in methods for size in sizes}
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="growth_") as folder:
            bench = cut_down(source, Path(folder), size=size, queries=queries, more=more)
            bench.read_all()
            for number in range(repeats):
                start = number % len(methods)
                for method in [*methods[start:], *methods[:start]]:
                    runs[method, size].append(run_method(method, bench, target, Path(run_file).resolve(), keep=False))
                    seconds = runs[method, size][-1].cost.wall_s
                    logger.info("%s references, round %d: %s took %.1f s", f"{size:,}", number + 1, TITLES[method], seconds)
        page = render_growth({key: found for key, found in runs.items() if found}, queries=queries)
        (target / "table.md").write_text(page + "\n", encoding="utf-8")  # after every size: a later one may fail
    print(page)


def photos_beside(source: Benchmark, folder: Path) -> list[Path]:
    """The pictures in a folder that are not the benchmark's own."""
    found, own = map(Path, read_images(folder, "photos")[0].path.tolist()), [source.folder / side for side in ("queries", "references")]
    return sorted(path for path in found if not any(path.is_relative_to(place) for place in own))


def cut_down(source: Benchmark, folder: Path, *, size: int, queries: int, more: Sequence[Path]) -> Benchmark:
    """A benchmark -> one with its first queries and so many references: those that the queries show, then others, then more."""
    asked = sorted((source.folder / "queries").iterdir())[:queries]
    names = {path.stem for path in asked}
    with open(source.folder / "ground_truth.csv", encoding="utf-8", newline="") as file:
        truth = [(row["query_id"], row["reference_id"]) for row in csv.DictReader(file) if row["query_id"] in names]
    shown = {reference for _, reference in truth}
    there = sorted((source.folder / "references").iterdir(), key=lambda path: (path.stem not in shown, path.name))
    for side, paths in (("queries", asked), ("references", [*there, *more][:size])):
        (folder / side).mkdir()
        for number, path in enumerate(paths):
            own = path.parent == source.folder / side
            prefix = "" if own else f"x{number}_"  # folders of photos may repeat names
            os.symlink(path, folder / side / f"{prefix}{path.name}")
    kept = {path.stem for path in (folder / "references").iterdir()}
    lines = [f"{query},{reference if reference in kept else ''}" for query, reference in truth]
    (folder / "ground_truth.csv").write_text("\n".join(["query_id,reference_id", *lines, ""]), encoding="utf-8")
    return Benchmark(folder)


def render_growth(runs: dict[tuple[Method, int], list[Run]], *, queries: int) -> str:
    """Runs by method and size -> a table. Growth is the power of the number of references, from the size before to this one."""
    rows = [["", "references", "seconds", "s a query", "growth", "peak MiB", "bytes a reference more", "index bytes a reference"]]
    for (method, size), found in runs.items():
        seconds, peak = median(run.cost.wall_s for run in found), median(run.cost.peak_mib for run in found)
        before = max((other for name, other in runs if name == method and other < size), default=None)
        growth = grown = "-"
        if before is not None:
            earlier = runs[method, before]
            growth = f"{math.log(seconds / median(run.cost.wall_s for run in earlier)) / math.log(size / before):.2f}"
            grown = f"{(peak - median(run.cost.peak_mib for run in earlier)) * 2**20 / (size - before):,.0f}"
        index = f"{median(run.index_bytes for run in found) / size:,.0f}" if found[0].index_bytes else "-"
        rows.append([TITLES[method], f"{size:,}", f"{seconds:.1f}", f"{seconds / queries:.3f}", growth, f"{peak:.0f}", grown, index])
    rounds = len(next(iter(runs.values())))
    return f"{render_rows(rows)}\n\n{queries} queries; seconds with start-up and the references; medians of {rounds} rounds."


if __name__ == "__main__":
    raise SystemExit(run_script(measure_growth))
