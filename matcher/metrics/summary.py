"""An evaluation as text for a terminal: aligned, at most 100 columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from matcher.metrics.bootstrap import Interval
from matcher.metrics.evaluation import Evaluation, Location, Sources
from matcher.metrics.groups import GroupRow

WIDEST_NAME = 30


def summarise(evaluation: Evaluation) -> str:
    """Evaluation -> text of several tables, without a line feed at the end."""
    parts = [describe_counts(evaluation), tabulate_metrics(evaluation)]
    if evaluation.several is not None:
        parts.append(tabulate_sources(evaluation.several))
    if evaluation.location is not None:
        parts.append(tabulate_location(evaluation.location))
    tables = {"family of edits": evaluation.by_family, "covered share": evaluation.by_covered, "severity": evaluation.by_severity}
    parts += [tabulate_groups(name, rows) for name, rows in tables.items() if rows]
    if any(tables.values()):
        parts.append(
            "recall: share predicted at or above threshold_at_p90 of the whole set\n"
            "micro_ap: of these pairs among the wrong predictions of their queries and of all copies of nothing"
        )
    return "\n\n".join(parts)


def describe_counts(evaluation: Evaluation) -> str:
    lines = [
        f"{evaluation.queries:,} queries, {evaluation.queries_without_match:,} of them copies of nothing",
        f"{evaluation.positives:,} true pairs, {evaluation.predictions:,} predictions",
    ]
    if evaluation.dropped:
        lines.append(f"{evaluation.dropped:,} predictions left out: the ground truth does not list their queries")
    return "\n".join(lines)


def tabulate_metrics(evaluation: Evaluation) -> str:
    e = evaluation
    reached = not math.isnan(e.threshold_at_p90)
    rows = [
        ["micro_ap", *show_interval(e.micro_ap)],
        ["recall_at_p90", *show_interval(e.recall_at_p90)],
        ["threshold_at_p90", f"{e.threshold_at_p90:.6g}" if reached else "-", "" if reached else "precision 0.9 is never reached"],
        ["recall_at_rank1", *show_interval(e.recall_at_rank1)],
        ["recall_at_rank10", *show_interval(e.recall_at_rank10)],
        ["calibration_error", *show_interval(e.calibration_error)],
        ["brier", *show_interval(e.brier)],
    ]
    text = align(["metric", "value", f"95 % interval, {e.resamples} resamples"], rows)
    if e.reliability:
        return f"{text}\ncalibration_error: {len(e.reliability)} bins of equal mass over the predicted pairs"
    return f"{text}\nno calibration: the scores are not probabilities" if e.predictions else text


def tabulate_sources(several: Sources) -> str:
    rows = [["recall_of_sources", *show_interval(several.recall_of_sources)], ["all_sources", *show_interval(several.all_sources)]]
    counts = f"{several.queries:,} queries are copies of several references, {several.pairs:,} pairs"
    shares = (
        "recall_of_sources: share of these pairs at or above threshold_at_p90\nall_sources: share of these queries with all pairs there"
    )
    return f"{counts}\n{align(['several sources', 'value', '95 % interval'], rows)}\n{shares}"


def tabulate_location(location: Location) -> str:
    rows = [
        ["median_iou", *show_interval(location.median_iou)],
        ["share_iou_half", *show_interval(location.share_iou_half)],
        ["median_query_iou", *show_interval(location.median_query_iou)],
        ["median_reference_iou", *show_interval(location.median_reference_iou)],
        ["median_point_error", *show_interval(location.median_point_error)],
    ]
    counts = f"{location.found:,} true pairs found, {location.without_frame:,} of them without a frame"
    return f"{align(['location', 'value', '95 % interval'], rows)}\n{counts}"


def tabulate_groups(name: str, rows: Sequence[GroupRow]) -> str:
    header = [name, "positives", "recall", "recall_at_rank1", "micro_ap", "median_iou"]
    cells = [
        [shorten(r.group), f"{r.positives:,}", *map(show, (r.recall_at_threshold, r.recall_at_rank1, r.micro_ap, r.median_iou))]
        for r in rows
    ]
    return align(header, cells)


def show_interval(interval: Interval) -> tuple[str, str]:
    """Interval -> its value and its range."""
    known = not math.isnan(interval.low)
    return show(interval.value), f"{show(interval.low)} - {show(interval.high)}" if known else ""


def show(number: float) -> str:
    return "-" if math.isnan(number) else f"{number:.4f}"


def shorten(name: str) -> str:
    return name if len(name) <= WIDEST_NAME else f"{name[: WIDEST_NAME - 3]}..."


def align(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells -> lines; the first column is flush left, the others flush right."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))] for line in lines)
    return "\n".join("  ".join(cells).rstrip() for cells in padded)
