"""A benchmark folder -> one table: how well and how fast PDQ, pHash, a plain OpenCV pipeline and `matcher run` do on it.

Every method runs in a fresh process, one after the other on the same machine. See README.md beside this file.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from measure import Cost, measure
from results import write_results
from script import run_script
from table import TITLES, Outcome

from matcher.errors import MatcherError, UsageError
from matcher.metrics.evaluation import evaluate

logger = logging.getLogger("matcher")

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
Method = Literal["pdq", "phash", "opencv_sift", "matcher"]
METHODS: tuple[Method, ...] = ("pdq", "phash", "opencv_sift", "matcher")
NEEDS = {"pdq": "pdqhash", "phash": "imagehash"}  # modules of the extra `bench`


@dataclass(frozen=True)
class Benchmark:
    """A folder with queries/, references/, ground_truth.csv and, if the edits are known, edits.csv."""

    folder: Path

    def __post_init__(self) -> None:
        for name in ("queries", "references", "ground_truth.csv"):
            if not (self.folder / name).exists():
                raise UsageError(f"{self.folder} is no benchmark folder: it holds no {name}")

    @property
    def pictures(self) -> list[str]:
        """The words that every method takes."""
        return ["--queries", str(self.folder / "queries"), "--references", str(self.folder / "references")]

    @property
    def edits(self) -> Path | None:
        return path if (path := self.folder / "edits.csv").exists() else None

    def read_all(self) -> None:
        """Read every picture once, so that no method is the first to wait for the disk."""
        for side in ("queries", "references"):
            for path in (self.folder / side).iterdir():
                if path.is_file():
                    path.read_bytes()


@dataclass(frozen=True)
class Run:
    """One run of a method: its cost, what it says itself about its stages (None = nothing), and the bytes of the index that it wrote."""

    cost: Cost
    stages: Any
    index_bytes: int


def compare_peers(
    benchmark: str,
    *,
    output: str = "outputs/peers",
    methods: Sequence[Method] = METHODS,
    run_file: str = str(ROOT / "experiments/run/keypoints.yaml"),
    repeats: int = 1,
    resamples: int = 1000,
    seed: int = 0,
) -> None:
    """Run the peers and `matcher run` side by side on a benchmark, and print one table of accuracy and time.

    Args:
        benchmark: folder with queries/, references/, ground_truth.csv and perhaps edits.csv
        output: folder for table.md, results.json and each method's predictions and log
        methods: which of them to run
        run_file: what `matcher run` is given as --config; `--config` itself is a file of these arguments
        repeats: rounds; each starts with the next method, times are medians over rounds, accuracy is that of the first
        resamples: bootstrap resamples of the queries
        seed: of the resamples
    """
    bench = Benchmark(Path(benchmark).resolve())
    check_request(methods, repeats)
    target = Path(output).resolve()
    target.mkdir(parents=True, exist_ok=True)
    bench.read_all()
    runs: dict[str, list[Run]] = {method: [] for method in methods}
    for number in range(repeats):
        start = number % len(methods)
        for method in [*methods[start:], *methods[:start]]:
            logger.info("round %d of %d: %s ...", number + 1, repeats, TITLES[method])
            runs[method].append(run_method(method, bench, target, Path(run_file).resolve(), keep=number == 0))
            logger.info("round %d of %d: %s took %.1f s", number + 1, repeats, TITLES[method], runs[method][-1].cost.wall_s)
    truth = bench.folder / "ground_truth.csv"
    outcomes = []
    for method in methods:
        evaluation = evaluate(target / f"{method}.csv", truth, edits=bench.edits, resamples=resamples, seed=seed)
        costs = tuple(run.cost for run in runs[method])
        outcomes.append(Outcome(method=method, costs=costs, evaluation=evaluation, stages=runs[method][0].stages))
    print(write_results(target, bench.folder, outcomes))


def check_request(methods: Sequence[Method], repeats: int) -> None:
    """Refuse what could only fail after minutes."""
    if repeats < 1:
        raise UsageError(f"repeats must be at least 1, got {repeats}")
    if not methods or len(set(methods)) < len(methods):
        raise UsageError("methods must name at least one method, and none twice")
    if lacking := [NEEDS[method] for method in methods if method in NEEDS and find_spec(NEEDS[method]) is None]:
        raise UsageError(f"{' and '.join(lacking)} not installed: pip install -e '.[bench]'")


def run_method(method: Method, bench: Benchmark, target: Path, run_file: Path, *, keep: bool) -> Run:
    """One method in a fresh process and an empty folder -> its run. ``keep``: its predictions are kept in ``target``."""
    log = target / f"{method}.log"
    with tempfile.TemporaryDirectory(prefix=f"peers_{method}_") as folder:
        predictions, timings = Path(folder, "predictions.csv"), Path(folder, "timings.json")
        if method == "matcher":
            words = ["-m", "matcher", "run", "--config", str(run_file), *bench.pictures, "--output", folder]
        else:
            words = [str(HERE / "peers" / f"{method}.py"), *bench.pictures, "--output", str(predictions)]
        cost = measure(TITLES[method], [sys.executable, *words], log=log, folder=ROOT)
        if not predictions.exists():
            raise MatcherError(f"{TITLES[method]} ended well but wrote no {predictions.name}; see {log}")
        if keep:
            shutil.copyfile(predictions, target / f"{method}.csv")
        stages = json.loads(timings.read_text(encoding="utf-8")) if timings.exists() else None
        return Run(cost, stages, sum(path.stat().st_size for path in Path(folder, "index").rglob("*") if path.is_file()))


if __name__ == "__main__":
    raise SystemExit(run_script(compare_peers))
