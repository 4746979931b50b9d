"""Outcomes of the methods -> table.md and results.json."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from table import Outcome, find_unit, render_families, render_table

VERSIONS = ("numpy", "pillow", "opencv-python", "faiss-cpu", "imagehash", "pdqhash", "matcher")


def write_results(target: Path, benchmark: Path, outcomes: Sequence[Outcome]) -> str:
    """Outcomes, at least one -> table.md and results.json in ``target``; the page of tables as text."""
    machine = describe_machine()
    parts = [render_table(outcomes), describe_run(benchmark, outcomes, machine)]
    if outcomes[0].evaluation.by_family:
        parts += ["Recall@1 by family of edits (a copy counts in each of its families):", render_families(outcomes)]
    page = "\n\n".join(parts)
    (target / "table.md").write_text(page + "\n", encoding="utf-8")
    results = {"benchmark": str(benchmark), "machine": machine, "methods": [describe_outcome(outcome, outcomes) for outcome in outcomes]}
    (target / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return page


def describe_run(benchmark: Path, outcomes: Sequence[Outcome], machine: dict[str, Any]) -> str:
    """One paragraph: what was run on what, and how quiet the machine was."""
    first, rounds, unit = outcomes[0].evaluation, len(outcomes[0].costs), find_unit(outcomes)
    load = max(cost.load_before for outcome in outcomes for cost in outcome.costs)
    sentences = [
        f"{benchmark.name}: {first.queries} queries, {first.positives} true pairs.",
        f"In brackets 95 % intervals over {first.resamples} resamples of the queries.",
        f"Seconds include start-up and the references; {'median of ' if rounds > 1 else ''}{rounds} round{'s' if rounds > 1 else ''} on "
        f"{machine['cores']} cores ({machine['processor']}), load average before a run at most {load:.1f}.",
    ]
    if unit:
        sentences.append(f"Time ratio: seconds over those of {unit.title} in the same round.")
    return " ".join(sentences)


def describe_outcome(outcome: Outcome, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """An outcome -> what JSON takes, every number of it."""
    unit = find_unit(outcomes)
    return {
        "method": outcome.method,
        "wall_s": outcome.wall_s,
        "cpu_s": outcome.cpu_s,
        "peak_mib": outcome.peak_mib,
        "s_per_query": outcome.s_per_query,
        "time_ratio": outcome.time_ratio(unit) if unit else None,
        "rounds": [asdict(cost) for cost in outcome.costs],
        "stages": outcome.stages,
        "evaluation": outcome.evaluation.as_dict(),
    }


def describe_machine() -> dict[str, Any]:
    """Cores, processor, Python and the packages that count."""
    versions = {}
    for name in VERSIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cores": os.cpu_count(),
        "processor": names[0] if names else platform.machine(),
        "python": platform.python_version(),
        "versions": versions,
    }
