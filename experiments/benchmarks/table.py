"""Outcomes of the methods -> tables in Markdown, padded so that they also read well in a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from measure import Cost

from matcher.metrics.bootstrap import Interval
from matcher.metrics.evaluation import Evaluation

TITLES = {"pdq": "PDQ", "phash": "pHash", "opencv_sift": "plain OpenCV SIFT", "matcher": "matcher"}
UNIT = "opencv_sift"  # whose time the others are divided by


@dataclass(frozen=True)
class Outcome:
    """What one method did on a benchmark.

    Args:
        method: its name, one of TITLES
        costs: one for each round, in order
        evaluation: of the predictions of the first round
        stages: what the method itself says about its stages (`timings.json` of `matcher run`), None = nothing
    """

    method: str
    costs: tuple[Cost, ...]
    evaluation: Evaluation
    stages: Any = None

    @property
    def title(self) -> str:
        return TITLES[self.method]

    @property
    def wall_s(self) -> float:
        """Median over the rounds, seconds."""
        return median(cost.wall_s for cost in self.costs)

    @property
    def cpu_s(self) -> float:
        return median(cost.cpu_s for cost in self.costs)

    @property
    def peak_mib(self) -> float:
        return max(cost.peak_mib for cost in self.costs)

    @property
    def s_per_query(self) -> float:
        return self.wall_s / self.evaluation.queries

    def time_ratio(self, unit: Outcome) -> float:
        """Median over the rounds of this method's seconds over those of ``unit`` in the same round."""
        return median(own.wall_s / other.wall_s for own, other in zip(self.costs, unit.costs, strict=True))


def find_unit(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The outcome whose time the others are divided by, None if it was not run."""
    return next((outcome for outcome in outcomes if outcome.method == UNIT), None)


def render_table(outcomes: Sequence[Outcome]) -> str:
    """Outcomes -> accuracy with 95 % intervals, and cost; one row a method."""
    unit = find_unit(outcomes)
    rows = [["", "uAP", "recall at P90", "recall@1", "seconds", "s a query", "CPU s", "peak MiB", "time ratio"]]
    for outcome in outcomes:
        accuracy = (outcome.evaluation.micro_ap, outcome.evaluation.recall_at_p90, outcome.evaluation.recall_at_rank1)
        cost = [f"{outcome.wall_s:.1f}", f"{outcome.s_per_query:.3f}", f"{outcome.cpu_s:.1f}", f"{outcome.peak_mib:.0f}"]
        ratio = f"{outcome.time_ratio(unit):.2f}" if unit else "-"
        rows.append([outcome.title, *map(render_interval, accuracy), *cost, ratio])
    return render_rows(rows)


def render_families(outcomes: Sequence[Outcome]) -> str:
    """Outcomes -> recall@1 of each method for the copies that went through each family of edits, the largest families first."""
    tables = [{row.group: row for row in outcome.evaluation.by_family} for outcome in outcomes]
    families = sorted(tables[0].values(), key=lambda row: (-row.positives, row.group))
    header = ["family of edits", "copies", *(outcome.title for outcome in outcomes)]
    rows = [[f.group, str(f.positives), *(f"{table[f.group].recall_at_rank1:.2f}" for table in tables)] for f in families]
    return render_rows([header, *rows])


def render_interval(interval: Interval) -> str:
    if math.isnan(interval.value):
        return "-"
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def render_rows(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the first one the header -> a Markdown table, first column to the left, the others to the right."""
    widths = [max(3, *map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = [[cell.ljust(w) if n == 0 else cell.rjust(w) for n, (cell, w) in enumerate(zip(row, widths, strict=True))] for row in rows]
    rule = ["-" * w if n == 0 else "-" * (w - 1) + ":" for n, w in enumerate(widths)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])
