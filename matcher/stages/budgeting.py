"""Candidates -> those of which there is time to judge, by a pace that is measured once and kept."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import numpy as np

from matcher.engine.kernels import available_cores, single_threaded_kernels
from matcher.settings import Strategy
from matcher.shortlist.neighbours import rows_by_id
from matcher.shortlist.second_vote import voted_again
from matcher.stages.job import Job
from matcher.stages.scoring import judge_rows, load_judge, scorer_config
from matcher.stages.shortlisting import cut
from matcher.storage.aside import read_json, write_json
from matcher.storage.stage import Stage
from matcher.types import Candidates

TRIED = 5  # queries whose candidates are judged to measure the pace; the first of them warms up
log = logging.getLogger("matcher")


def keep_to_budget(
    candidates: Path, queries: Path, references: Path, folder: Path, *, seconds: float, strategy: Strategy, job: Job
) -> Path:
    """Folders of candidates and of both described sides -> the folder of the candidates that so many seconds a query allow.

    How many pairs of a query that are is measured before the first is judged, and written beside them: a run that goes on keeps to
    it, on whatever machine.
    """
    made = Stage.load(candidates, Candidates)
    found, pace = made.read(), folder / "pace.json"
    made_for = json.dumps([scorer_config(strategy), made.fingerprint], sort_keys=True)
    told = read_json(pace) if pace.is_file() and not job.fresh else {}
    if told.get("made_for") != made_for:
        folder.mkdir(parents=True, exist_ok=True)
        told = {"made_for": made_for, "seconds_per_pair": measure_pace(found, queries, references, strategy=strategy, job=job)}
        write_json(pace, told)
    most = max(1, int(seconds / max(float(told["seconds_per_pair"]), 1e-9)))
    stage = Stage.open(
        folder / "candidates",
        Candidates,
        config={"pairs_per_query": most},
        inputs={"candidates": made.fingerprint},
        items=1,
        items_per_shard=1,
        fresh=job.fresh,
    )
    if not stage.is_finished:
        by_query = sorted(rows_by_id(found.query_id).values(), key=lambda rows: int(rows[0]))
        kept = Candidates.concat([cut(found.take(rows), most) for rows in by_query])
        stage.write(0, kept)
        log.info("%.3g s a query: at most %d pairs each, %d of %d candidates are judged", seconds, most, len(kept), len(found))
    return stage.folder


def measure_pace(candidates: Candidates, queries: Path, references: Path, *, strategy: Strategy, job: Job) -> float:
    """Candidates -> the seconds that judging one takes while all workers are busy; 0 if there are none."""
    by_query = list(rows_by_id(candidates.query_id).values())
    if not by_query:
        return 0.0
    judge, _ = load_judge(queries, references, strategy=strategy, job=job)
    chosen = [by_query[n] for n in np.unique(np.linspace(0, len(by_query) - 1, TRIED).astype(int))]
    began, count = 0.0, 0
    with single_threaded_kernels():  # as while all workers judge
        for place, rows in enumerate(chosen):
            if place == min(1, len(chosen) - 1):
                began = time.perf_counter()
            pairs = candidates.take(rows)
            judge_rows(judge(), pairs.query_id, pairs.reference_id, voted_again(pairs.source))
            count += len(rows) if began else 0
    return (time.perf_counter() - began) / count / (job.workers or available_cores())
