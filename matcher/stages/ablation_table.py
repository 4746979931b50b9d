"""The outcomes of an ablation as Markdown: one table of all rows, one of the families of edits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from matcher.metrics.bootstrap import Interval

if TYPE_CHECKING:
    from matcher.stages.ablating import Outcome

HEADER = (
    "strategy",
    "uAP",
    "against the first",
    "recall at P90",
    "candidate recall",
    "pairs",
    "views",
    "passes",
    "s a query",
    "s a reference",
    "bytes a reference",
)


def tabulate(outcomes: Mapping[str, Outcome]) -> str:
    """Outcomes by name -> Markdown that ends in a line feed."""
    rows = [
        (
            name,
            show(outcome.evaluation.micro_ap),
            show(outcome.difference["micro_ap"], sign="+") if outcome.difference else "",
            show(outcome.evaluation.recall_at_p90),
            "-" if math.isnan(outcome.candidate_recall) else f"{outcome.candidate_recall:.3f}",
            *(f"{number:.1f}" for number in (outcome.cost.pairs, outcome.cost.views, outcome.cost.passes)),
            f"{outcome.cost.seconds:.3f}",
            f"{outcome.cost.reference_seconds:.3f}",
            f"{outcome.cost.reference_bytes:,.0f}",
        )
        for name, outcome in outcomes.items()
    ]
    legend = (
        "In brackets 95 % intervals over resamples of the queries; differences on the same resamples. pairs, views, passes: of a query "
        "judged, described, shown to the pair model. s a query: describing, shortlist and judging, without start-up.\n"
    )
    return f"{markdown(HEADER, rows)}\n{legend}\n{families(outcomes)}"


def families(outcomes: Mapping[str, Outcome]) -> str:
    """Outcomes by name -> for each group of copies the recall at each strategy's own P90 threshold; empty if the edits are not known."""
    tables = [[*outcome.evaluation.by_family, *outcome.evaluation.by_covered] for outcome in outcomes.values()]
    names = list(dict.fromkeys(row.group for row in tables[0])) if tables else []
    if not names:
        return ""
    found = [{row.group: row for row in table} for table in tables]
    cells = [
        (name, str(found[0][name].positives), *(f"{one[name].recall_at_threshold:.3f}" if name in one else "-" for one in found))
        for name in names
    ]
    return f"{markdown(('recall at P90 of', 'copies', *outcomes), cells)}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells -> a Markdown table, the first column flush left."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, rule, *rows))


def show(interval: Interval, *, sign: str = "") -> str:
    """Interval -> its value and its range."""
    return f"{interval.value:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"
