"""What the page says about the predictions as a whole when the truth is known: a curve, its caption, tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from matcher.metrics.evaluation import Evaluation
from matcher.metrics.ranking import Ranking, micro_ap, precision_recall_curve, recall_at_precision
from matcher.metrics.summary import show, show_interval
from matcher.report.curve import draw_curve
from matcher.report.words import name_in_words

METRICS = ("micro_ap", "recall_at_p90", "recall_at_rank1", "recall_at_rank10", "calibration_error", "brier")
SOURCES = ("recall_of_sources", "all_sources")  # of the queries that are copies of several references
LOCATION = ("median_iou", "share_iou_half", "median_point_error")
GROUPS = {"family of edits": "by_family", "covered share": "by_covered", "severity": "by_severity"}


@dataclass(frozen=True)
class Table:
    """A name, a heading for each column, then rows of as many texts; the first column holds names, the others numbers."""

    name: str
    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Quality:
    """The section above the cards."""

    curve: Markup
    caption: str
    tables: list[Table]


def describe_quality(ranking: Ranking, evaluation: Evaluation | None) -> Quality:
    """Ranked predictions, and their evaluation if there is one -> what the page shows of them."""
    recall, threshold = (float(number) for number in recall_at_precision(ranking))
    reached = f"recall at precision 0.9 is {show(recall)} (threshold {threshold:.4g})"
    where = "precision 0.9 is never reached" if np.isnan(threshold) else reached
    caption = f"Precision over recall as the threshold falls. uAP, the area under the curve, is {show(float(micro_ap(ranking)))}; {where}."
    return Quality(draw_curve(precision_recall_curve(ranking)), caption, tabulate(evaluation) if evaluation else [])


def tabulate(evaluation: Evaluation) -> list[Table]:
    """Evaluation -> the table of metrics, then one for each grouping of the true pairs that it holds."""
    intervals = {name: getattr(evaluation, name) for name in METRICS}
    if evaluation.several is not None:
        intervals |= {name: getattr(evaluation.several, name) for name in SOURCES}
    if evaluation.location is not None:
        intervals |= {name: getattr(evaluation.location, name) for name in LOCATION}
    rows = [[name_in_words(name), *show_interval(interval)] for name, interval in intervals.items()]
    tables = [Table("metrics", ["metric", "value", "95 % interval"], rows)]
    for name, field in GROUPS.items():
        groups = [
            [group.group, f"{group.positives:,}", *map(show, (group.recall_at_threshold, group.micro_ap, group.median_iou))]
            for group in getattr(evaluation, field)
        ]
        tables += [Table(f"by {name}", [name, "pairs", "recall at p90", "micro ap", "median iou"], groups)] if groups else []
    return tables
