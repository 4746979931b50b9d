"""What is lost when keypoint descriptors are replaced by codes, bits or visual words. See README.md beside this file."""

from __future__ import annotations

import csv
import hashlib
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from codes import Code, list_codes
from measuring import Bench, Measured, Ranked, spread

from matcher import pipeline
from matcher.calibration import probability
from matcher.engine.kernels import single_thread_here, single_threaded_kernels
from matcher.errors import UsageError
from matcher.metrics.csv_file import write_rows
from matcher.metrics.evaluation import evaluate
from matcher.metrics.judged import judge
from matcher.metrics.predicted import ScoredPairs
from matcher.metrics.ranking import recall_at_rank
from matcher.metrics.truth import GroundTruth
from matcher.settings import Strategy
from matcher.stages.describing import load_described
from matcher.stages.job import Job
from matcher.stages.predicting import load_fusion
from matcher.storage.aside import write_aside
from matcher.storage.stage import Stage
from matcher.types import PairScores

logger = logging.getLogger("matcher")

STRATEGY, JOB = Strategy(), Job(workers=1)  # experiments/run/keypoints.yaml is the defaults
VERIFIED = 10  # candidates of a query that keypoints judge


@dataclass(frozen=True)
class Result:
    """A row of results.csv. NaN: only a few queries were looked at."""

    name: str
    family: str
    recall_1: float
    recall_10: float
    recall_100: float
    uap: float
    uap_low: float
    uap_high: float
    picture_bytes: float
    id_bytes: float
    place_bytes: float
    shared_bytes: int
    build_seconds: float
    ms_per_query: float
    lookup_ms: float
    queries: int


def compare_codes(
    benchmark: str,
    output: str,
    *,
    words: tuple[int, ...] = (1000, 4000, 16000),
    only: tuple[str, ...] | None = None,
    queries: int | None = None,
    exact_queries: int = 8,
    resamples: int = 1000,
) -> list[Result]:
    """Build every code over the references of a benchmark, rank them for every query, verify the best, and write what that gave and cost.

    Args:
        benchmark: folder with queries/, references/ and ground_truth.csv
        output: folder of the described pictures, candidates, pair scores, results.csv and table.md; running again resumes
        words: sizes of the vocabularies
        only: names of the codes to compare, as the table has them; null = all
        queries: about so many queries are asked, evenly spread; null = all
        exact_queries: those that the exact search is timed on, which takes seconds for each; its accuracy is measured if these are all
        resamples: of the queries, for the intervals of uAP
    """
    if min((*words, exact_queries, resamples, 1 if queries is None else queries)) < 1:
        raise UsageError(f"numbers must be at least 1, got words {words}, queries {queries}, {exact_queries} exact, {resamples} resamples")
    codes = [code for code in list_codes(words) if only is None or code.name in only]
    if not codes:
        raise UsageError(f"there is no code {', '.join(only or ())}; there are: {'; '.join(code.name for code in list_codes(words))}")
    source, folder = Path(benchmark), Path(output)
    places = [
        pipeline.describe(source / name, folder / name, side=side, strategy=STRATEGY, job=JOB)
        for name, side in (("queries", "query"), ("references", "reference"))
    ]
    (described, query_print), (references, reference_print) = (load_described(place) for place in places)
    asked = spread(len(described), queries)
    timed = asked[spread(len(asked), exact_queries)]
    bench = Bench(described, references, asked, timed, STRATEGY.shortlist, folder / "codes", made_of=f"{query_print} {reference_print}")
    with single_threaded_kernels():
        single_thread_here()
        measured = bench.measure_all(codes)
    pairs = {pair for found in measured for pair in id_pairs(found.ranked[:, :VERIFIED], bench)}
    scores = score_once(sorted(pairs), places, folder / "pair_scores")
    truth = GroundTruth.read(source / "ground_truth.csv")
    truth = truth.take(np.isin(truth.query_id, described.pictures.id[asked]))
    results = [judge_code(code, found, bench, scores, truth, resamples) for code, found in zip(codes, measured, strict=True)]
    write_rows(folder / "results.csv", [list(asdict(results[0])), *(list(map(str, asdict(row).values())) for row in results)])
    with write_aside(folder / "table.md") as file:
        file.write(render_table(results).encode())
    print(render_table(results))
    return results


def id_pairs(ranked: Ranked, bench: Bench) -> list[tuple[str, str]]:
    """Rows of references (Q, k), -1 = none -> ids of the pairs, query after query, best first."""
    rows, columns = np.nonzero(ranked >= 0)
    ids = bench.queries.pictures.id[rows].tolist(), bench.references.pictures.id[ranked[rows, columns]].tolist()
    return list(zip(*ids, strict=True))


def score_once(pairs: list[tuple[str, str]], places: Sequence[Path], folder: Path) -> dict[tuple[str, str], float]:
    """Pairs of ids -> their probabilities; those that an earlier run has scored are not scored again."""
    scores = read_scores(folder)
    missing = [pair for pair in pairs if pair not in scores]
    if missing:
        name = hashlib.sha256(repr(missing).encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        write_rows(folder / f"{name}.csv", [("query_id", "reference_id"), *missing])
        pipeline.score(folder / f"{name}.csv", *places, folder / name, strategy=STRATEGY, job=JOB)
        scores = read_scores(folder)
    return scores


def read_scores(folder: Path) -> dict[tuple[str, str], float]:
    """Folder of finished stages of pair scores -> probabilities by pair of ids."""
    fusion, found = load_fusion(STRATEGY), {}
    for manifest in sorted(folder.glob("*/manifest.json")):
        if (stage := Stage.load(manifest.parent, PairScores)).is_finished:
            scores = stage.read()
            ids = zip(scores.query_id.tolist(), scores.reference_id.tolist(), strict=True)
            found |= dict(zip(ids, probability(fusion.logit(scores), fusion).tolist(), strict=True))
    return found


def judge_code(
    code: Code, found: Measured, bench: Bench, scores: dict[tuple[str, str], float], truth: GroundTruth, resamples: int
) -> Result:
    """Candidates of a code, the scores of the verified ones and the truth about the queries that were asked -> its row."""
    if found.costs["queries"] < len(bench.asked):
        unknown = dict.fromkeys(("recall_1", "recall_10", "recall_100", "uap", "uap_low", "uap_high"), float("nan"))
        return Result(name=code.name, family=code.family, **unknown, **found.costs)
    pairs = id_pairs(found.ranked, bench)
    order = np.nonzero(found.ranked >= 0)[1]
    candidates = judge(ScoredPairs.from_scores(*zip(*pairs, strict=True), -1.0 - order), truth).ranking
    verified = id_pairs(found.ranked[:, :VERIFIED], bench)
    judged = evaluate(
        ScoredPairs.from_scores(*zip(*verified, strict=True), [scores[pair] for pair in verified]), truth, resamples=resamples
    )
    recalls = {f"recall_{k}": float(recall_at_rank(candidates, k)) for k in (1, 10, 100)}
    uap = {"uap": judged.micro_ap.value, "uap_low": judged.micro_ap.low, "uap_high": judged.micro_ap.high}
    return Result(name=code.name, family=code.family, **recalls, **uap, **found.costs)


HEAD = "| | recall@1 | @10 | @100 | uAP | bytes a picture | of these ids | places | shared MB | build s | ms a query | of these look-up |"


def render_table(results: Sequence[Result]) -> str:
    """Results -> a table in Markdown."""
    lines = [HEAD, "| --- |" + " ---: |" * (HEAD.count("|") - 2)]
    for row in results:
        sure = f"{row.uap:.3f} [{row.uap_low:.3f}, {row.uap_high:.3f}]" if row.uap == row.uap else "–"
        recalls = [f"{value:.3f}" if value == value else "–" for value in (row.recall_1, row.recall_10, row.recall_100)]
        sizes = [f"{value:,.0f}" for value in (row.picture_bytes, row.id_bytes, row.place_bytes)]
        costs = [f"{row.shared_bytes / 1e6:.1f}", *(f"{value:.0f}" for value in (row.build_seconds, row.ms_per_query, row.lookup_ms))]
        lines.append("| " + " | ".join([row.name, *recalls, sure, *sizes, *costs]) + " |")
    return "\n".join(lines) + "\n"


def read_results(path: str | Path) -> list[Result]:
    """results.csv -> its rows."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return [Result(**{name: value if name in ("name", "family") else float(value) for name, value in row.items()}) for row in rows]


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
    from script import run_script

    raise SystemExit(run_script(compare_codes))
