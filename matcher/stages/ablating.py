"""A grid of strategies over one set of stage files: nothing is described twice, and the same pairs are scored once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from matcher.calibration import predict
from matcher.errors import UsageError
from matcher.metrics.bootstrap import Interval
from matcher.metrics.evaluation import Evaluation, evaluate, evaluate_difference, without_nan
from matcher.metrics.truth import Edits, GroundTruth
from matcher.settings import Strategy
from matcher.stages.ablation_bench import Bench, pairs_of, share_keypoints
from matcher.stages.ablation_costs import Cost, count_cost
from matcher.stages.ablation_table import tabulate
from matcher.stages.job import Job
from matcher.stages.predicting import load_fusion, looked_at
from matcher.stages.readiness import check_ready, read_truth
from matcher.stages.scoring import Place
from matcher.stages.strategies import Part, read_strategy
from matcher.storage.aside import write_aside, write_json
from matcher.storage.lock import hold
from matcher.storage.records import write_record
from matcher.types import Candidates, PairScores, Predictions


@dataclass(frozen=True)
class Outcome:
    """What one strategy of the grid came to."""

    evaluation: Evaluation
    candidate_recall: float  # share of the true pairs that it judged; NaN = there are none
    difference: dict[str, Interval]  # by how much it is above the first strategy, by the name of the metric
    cost: Cost
    described: str  # the folder, within the output, of the described pictures


@dataclass(frozen=True)
class Ablation:
    """The outcomes of a grid, by the names of its rows."""

    output: Path
    outcomes: Mapping[str, Outcome]

    def as_dict(self) -> dict[str, Any]:
        rows = without_nan({name: asdict(outcome) for name, outcome in self.outcomes.items()})
        return {"output": str(self.output), "order": list(self.outcomes), "rows": rows}

    def __str__(self) -> str:
        return f"{tabulate(self.outcomes)}\n{self.output / 'table.md'}"


def ablate_strategies(
    queries: Place,
    references: Place,
    ground_truth: Place,
    output: Path,
    *,
    rows: Mapping[str, Sequence[Part]],
    edits: Place | None,
    job: Job,
    resamples: int,
    seed: int,
) -> Ablation:
    """Pictures, their truth and named strategies, each in parts of YAML -> what each came to, as results.json and table.md in ``output``.

    Stage files are kept there: a second call makes only what is missing. UsageError if a row is no strategy.
    """
    if not rows:
        raise UsageError("rows names no strategy: give at least one, such as {keypoints: [run/keypoints.yaml]}")
    strategies = share_keypoints({name: read_row(name, parts) for name, parts in rows.items()})
    for strategy in strategies.values():
        check_ready(strategy, queries=queries, references=references)
    truth = read_truth(ground_truth, queries=queries, references=references)
    known = Edits.read(Path(edits)) if edits is not None else None
    output.mkdir(parents=True, exist_ok=True)
    lock = hold(output)
    bench = Bench(output, queries=queries, references=references, job=job)
    groups = bench.describe(strategies)
    candidates = {name: bench.shortlist(name, groups[name], strategy) for name, strategy in strategies.items()}
    scores = bench.score(strategies, groups, candidates)
    outcomes: dict[str, Outcome] = {}
    found: dict[str, Predictions] = {}
    for name, strategy in strategies.items():
        found[name] = conclude(scores[name], strategy)
        write_record(output / "rows" / name / "predictions.parquet", found[name])
        first = found[next(iter(strategies))]
        outcomes[name] = Outcome(
            evaluate(found[name], truth, edits=known, resamples=resamples, seed=seed),
            candidate_recall(candidates[name], truth),
            evaluate_difference(first, found[name], truth, resamples=resamples, seed=seed) if found[name] is not first else {},
            count_cost(bench, name, groups[name], strategy, candidates[name], scores[name]),
            groups[name].folder.relative_to(output).as_posix(),
        )
    made = Ablation(output, outcomes)
    write_json(output / "results.json", made.as_dict())
    with write_aside(output / "table.md") as file:
        file.write(tabulate(outcomes).encode())
    del lock
    return made


def read_row(name: str, parts: Sequence[Part]) -> Strategy:
    """Name and parts of a row -> its strategy, whose fusion model is there."""
    if not name or any(sign in name for sign in "/\\") or name.startswith("."):
        raise UsageError(f"rows: {name!r} cannot be the name of a row, it becomes the name of a folder")
    if isinstance(parts, str) or not parts:
        raise UsageError(f"rows.{name} must be a list of YAML files and of differences, such as [run/full.yaml, {{fusion: keypoints}}]")
    strategy = read_strategy(parts)
    load_fusion(strategy)
    return strategy


def conclude(scores: PairScores, strategy: Strategy) -> Predictions:
    """Pair scores -> predictions, without the pairs that could not be looked at."""
    seen = scores.take(looked_at(scores))
    fusion = load_fusion(strategy)
    return predict(seen, fusion.logit(seen), fusion, answers=strategy.answers)


def candidate_recall(candidates: Candidates, truth: GroundTruth) -> float:
    """Candidates and truth -> the share of the true pairs that are among them; NaN if there are none."""
    true = set(truth.pairs())
    return len(true & set(pairs_of(candidates))) / len(true) if true else np.nan
