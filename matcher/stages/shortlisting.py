"""Described queries and references -> the index, and the stage of candidates."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from matcher.engine.local import run_shards
from matcher.errors import StaleStageError
from matcher.features import FeatureSet
from matcher.index import Index
from matcher.settings import Strategy
from matcher.shortlist.identical import near_thumbnails, same_content
from matcher.shortlist.neighbours import neighbours
from matcher.shortlist.votes import vote
from matcher.stages.describing import load_described
from matcher.stages.job import Job
from matcher.storage.stage import Stage
from matcher.types import Candidates, Descriptors

SHARD = 16  # queries
Found = dict[tuple[int, int], dict[str, float]]  # (row of queries, row of references) -> source -> similarity


def build_index(described: Path, folder: Path, *, strategy: Strategy, job: Job) -> Path:
    """Folder of described references -> folder of the index over their keypoints; a finished one is kept."""
    references, made_by = load_described(described)
    made_by = f"{made_by} {asdict(strategy.index)}"
    if not job.fresh and Index.exists(folder):
        try:
            Index.load(folder, made_by=made_by)
        except StaleStageError as error:
            raise StaleStageError(f"{error} (--fresh does that), or choose another --output") from error
        return folder
    rows = references.keypoints.rows
    Index.build(rows, np.arange(len(rows)), strategy.index, made_by=made_by).save(folder)
    return folder


def shortlist_pairs(queries: Path, references: Path, index: Path, folder: Path, *, strategy: Strategy, job: Job) -> Stage[Candidates]:
    """Described queries, described references and their index -> the stage of candidates."""
    side, query_print = load_described(queries)
    library, reference_print = load_described(references)
    found = Index.load(index, made_by=f"{reference_print} {asdict(strategy.index)}")
    config = {"shortlist": asdict(strategy.shortlist), "index": asdict(strategy.index)}
    if strategy.descriptor is not None:
        config["descriptor"] = asdict(strategy.descriptor)
    inputs = {"queries": query_print, "references": reference_print}
    stage = Stage.open(folder, Candidates, config=config, inputs=inputs, items=len(side), items_per_shard=SHARD, fresh=job.fresh)
    described = descriptor_candidates(queries, references, strategy) if strategy.descriptor is not None and not stage.is_finished else None

    def work(rows: range) -> Candidates:
        pairs: Found = {}
        chosen = side.pictures.take(slice(rows.start, rows.stop))
        for n, r in [*same_content(chosen, library.pictures), *near_thumbnails(chosen, library.pictures)]:
            pairs.setdefault((rows.start + n, r), {})["identical"] = np.inf
        for n in rows:
            for r, support in zip(*vote(side.features(n), library, found, strategy.shortlist), strict=True):
                pairs.setdefault((n, int(r)), {})["votes"] = float(support)
        return merge(as_candidates(pairs, side, library), described, chosen.id.tolist())

    run_shards(stage, work, workers=job.workers, label="candidates")
    return stage


def descriptor_candidates(queries: Path, references: Path, strategy: Strategy) -> Candidates:
    """Stages of descriptors on both sides -> nearest pairs over all pairs of views."""
    first, second = (Stage.load(folder / "descriptors", Descriptors).read() for folder in (queries, references))
    return neighbours(first, second, per_query=strategy.shortlist.per_query)


def as_candidates(pairs: Found, queries: FeatureSet, references: FeatureSet) -> Candidates:
    """Pairs and their sources -> the record, queries in order and the best source's similarity first. Votes see whole pictures."""
    order = sorted(pairs, key=lambda pair: (pair[0], -max(pairs[pair].values()), pair[1]))
    rows = np.array(order, dtype=np.int64).reshape(-1, 2)
    return Candidates(
        query_id=queries.pictures.id[rows[:, 0]],
        reference_id=references.pictures.id[rows[:, 1]],
        similarity=np.array([max(pairs[pair].values()) for pair in order], dtype=np.float32),
        source=np.array(["+".join(pairs[pair]) for pair in order], dtype=np.str_),
        query_frame=np.broadcast_to(np.eye(3), (len(order), 3, 3)),
        reference_frame=np.broadcast_to(np.eye(3), (len(order), 3, 3)),
    )


def merge(votes: Candidates, described: Candidates | None, query_ids: list[str]) -> Candidates:
    """Candidates by votes and those by descriptors (None: there are none) of these queries -> both, each pair once."""
    if described is None:
        return votes
    known = set(zip(votes.query_id.tolist(), votes.reference_id.tolist(), strict=True))
    mine = described.take(np.isin(described.query_id, query_ids))
    new = [pair not in known for pair in zip(mine.query_id.tolist(), mine.reference_id.tolist(), strict=True)]
    return Candidates.concat([votes, mine.take(np.array(new, dtype=bool))])
