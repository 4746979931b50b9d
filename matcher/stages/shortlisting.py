"""Described queries and references -> the index, and the stage of candidates."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from matcher.engine.once import Once
from matcher.engine.shards import run_shards
from matcher.errors import ImageError, StaleStageError
from matcher.features import FeatureSet
from matcher.index import Index
from matcher.index_shards import IndexShards
from matcher.keypoint_file import StoredFeatures
from matcher.settings import IndexSettings, NearestViews, Strategy
from matcher.shortlist.counts import elect_by_source, frame_crops
from matcher.shortlist.identical import near_thumbnails, same_content
from matcher.shortlist.neighbours import rows_by_id
from matcher.shortlist.rules import nearest
from matcher.shortlist.second_vote import RULE, SECOND_VOTES, Support, is_left_over, vote_again
from matcher.shortlist.similarity import PairSimilarity
from matcher.shortlist.votes import vote_all
from matcher.stages.collection import Collection, index_made_by
from matcher.stages.describing import ERRORS, load_described, refuse, warn_of_side
from matcher.stages.descriptors import compare_descriptors
from matcher.stages.job import Job
from matcher.stages.pasted import load_crops
from matcher.storage.records import write_record
from matcher.storage.stage import Stage
from matcher.types import Candidates, Errors

log = logging.getLogger("matcher")
SHARD = 32  # queries: faiss compares many keypoints with the centroids of its lists faster than few
Elected = tuple[int, int, str, float]  # row of a query, row of a reference, source, support
Found = dict[tuple[int, int], dict[str, float]]  # (row of queries, row of references) -> source -> similarity


def build_index(described: Path, folder: Path, *, strategy: Strategy, job: Job) -> Path:
    """Folder of described references -> folder of the index over their keypoints; a finished one is kept."""
    references, fingerprint = load_described(described)
    made_by = index_made_by(fingerprint, strategy.index)
    if not job.fresh and Index.exists(folder):
        try:
            Index.load(folder, made_by=made_by)
        except StaleStageError as error:
            raise StaleStageError(f"{error} (--fresh does that), or choose another --output") from error
        return folder
    rows = references.keypoints.rows
    Index.build(rows, np.arange(len(rows)), strategy.index, made_by=made_by).save(folder)
    return folder


def load_index(place: Path, library: FeatureSet, made_by: str, settings: IndexSettings) -> Index | IndexShards:
    """Folder of an index, or of a collection, the references in it and what names them -> what is searched."""
    if isinstance(library, StoredFeatures):
        return Collection.read(place).index(library, settings)
    return Index.load(place, made_by=index_made_by(made_by, settings), mapped=True, gpu=settings.gpu)


def shortlist_pairs(queries: Path, references: Path, index: Path, folder: Path, *, strategy: Strategy, job: Job) -> Stage[Candidates]:
    """Described queries, described references and their index -> the stage of candidates. A collection is its own index."""
    side, query_print = load_described(queries)
    warn_of_side(queries, strategy)
    library, reference_print = load_described(references)
    found = Once(partial(load_index, index, library, reference_print, strategy.index))
    found()  # refused before anything is begun
    similarity, prints = compare_descriptors(queries, references, library.pictures, strategy)
    counts, again = strategy.shortlist.counts, strategy.shortlist.again
    crops, crop_prints = load_crops(queries, side, strategy)
    config = {"shortlist": asdict(strategy.shortlist), "index": strategy.index.identity, "most": strategy.budget.pairs_per_query}
    config |= {"images": asdict(strategy.images), "second_votes": RULE} if again else {}
    inputs = {"queries": query_print, "references": reference_print, **prints, **crop_prints}
    stage = Stage.open(folder, Candidates, config=config, inputs=inputs, items=len(side), items_per_shard=SHARD, fresh=job.fresh)
    near = Near(similarity if not stage.is_finished else None, strategy.shortlist.descriptor)

    same: dict[int, list[int]] = {}  # row of queries -> rows of references
    for n, r in same_content(side.pictures, library.pictures) if not stage.is_finished else ():
        same.setdefault(n, []).append(r)

    def elect(rows: range) -> tuple[list[Elected], Errors]:
        """Rows of queries -> what votes find, and the queries that could not be read for a second vote."""
        voters, left_over = rows if strategy.shortlist.per_query else range(0), list[int]()
        voted_for = vote_all((side.features(n) for n in voters), library, found(), strategy.shortlist)
        every = list[Elected]()
        for n, told in zip(voters, voted_for, strict=True):
            every += elected(n, "votes", told)
            if again is not None and n not in same and is_left_over(told[1], again):
                left_over.append(n)
        more, errors = elect_again(left_over, (side, library, found()), strategy, job) if left_over else ([], Errors.empty())
        return every + more, errors

    def work(rows: range) -> tuple[Candidates, Errors]:
        pairs: Found = {(n, r): {"identical": np.inf} for n in rows for r in same.get(n, ())}
        chosen = side.pictures.take(slice(rows.start, rows.stop))
        for n, r in near_thumbnails(chosen, library.pictures):
            pairs[rows.start + n, r] = {"identical": np.inf}
        every, errors = elect(rows)
        refuse(errors, job)
        if counts is not None:
            every += elect_by_source(rows, side, crops, library, found(), counts)
        for n, r, source, support in every:
            pairs.setdefault((n, r), {})[source] = support
        voted = frame_crops(as_candidates(pairs, side, library), side, crops)
        joined = [merge(of_query(voted, id_), near.of(id_)) for id_ in chosen.id.tolist()]
        return Candidates.concat([cut(candidates, strategy.budget.pairs_per_query) for candidates in joined]), errors

    run_shards(stage, work, engine=job.engine, workers=job.workers, apart=True, label="candidates")
    if again is not None:
        write_record(folder / ERRORS, errors := stage.errors())
        if len(errors):
            log.warning("%d of %d queries could not be read for a second vote, see %s", len(errors), len(side), folder / ERRORS)
    return stage


def elected(row: int, source: str, told: tuple[NDArray[np.int64], Support]) -> list[Elected]:
    """Row of a query, and the rows of references (C,) that votes brought with their support (C,) -> one by one."""
    return [(row, reference, source, votes) for reference, votes in zip(told[0].tolist(), told[1].tolist(), strict=True)]


def elect_again(
    rows: list[int], sides: tuple[FeatureSet, FeatureSet, Index | IndexShards], strategy: Strategy, job: Job
) -> tuple[list[Elected], Errors]:
    """Rows of queries that are left over -> what their second votes find, and those that could not be read."""
    every, bad, queries = list[Elected](), list[tuple[str, str, str, str, str]](), sides[0].pictures
    for n, told in vote_again(rows, *sides, strategy.shortlist, image_settings=strategy.images, cache=job.cache_folder):
        if isinstance(told, ImageError):
            bad.append((queries.id[n], queries.path[n], SECOND_VOTES, told.code, str(told)))
        else:
            every += elected(n, SECOND_VOTES, told)
    return every, Errors.of(bad)


class Near:
    """The nearest references of every query by descriptors, found all at once, handed out by query."""

    def __init__(self, similarity: PairSimilarity | None, rules: Sequence[NearestViews]) -> None:
        self.found = nearest(similarity, rules) if similarity is not None and rules else Candidates.empty()
        self.rows = rows_by_id(self.found.query_id)

    def of(self, query_id: str) -> Candidates:
        """Id of a query -> its neighbours, nearest first."""
        return self.found.take(self.rows[query_id]) if query_id in self.rows else Candidates.empty()


def of_query(candidates: Candidates, query_id: str) -> Candidates:
    return candidates.take(candidates.query_id == query_id)


def as_candidates(pairs: Found, queries: FeatureSet, references: FeatureSet) -> Candidates:
    """Pairs and their sources -> the record, queries in order, the best source's similarity first. Votes see whole pictures."""
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


def merge(voted: Candidates, near: Candidates) -> Candidates:
    """One query's candidates by content and votes, and those by descriptors -> the former, then the latter, each pair once.

    Where both found a pair, its similarity is still that of the votes, its source says both, and its frames are the views
    that the descriptors found it by.
    """
    place = {reference: row for row, reference in enumerate(voted.reference_id.tolist())}
    both = np.array([row for row, reference in enumerate(near.reference_id.tolist()) if reference in place], dtype=np.int64)
    rows = np.array([place[reference] for reference in near.reference_id[both].tolist()], dtype=np.int64)
    source = voted.source.astype(object)
    query_frame, reference_frame = voted.query_frame.copy(), voted.reference_frame.copy()
    source[rows] += "+neighbours"
    query_frame[rows], reference_frame[rows] = near.query_frame[both], near.reference_frame[both]
    known = replace(voted, source=source.astype(np.str_), query_frame=query_frame, reference_frame=reference_frame)
    return Candidates.concat([known, near.take(np.setdiff1d(np.arange(len(near)), both))])


def cut(candidates: Candidates, most: int | None) -> Candidates:
    """One query's candidates as ``merge`` gives them -> at most so many: both kinds of them take turns, each from its best down."""
    if most is None or len(candidates) <= most:
        return candidates
    by_votes = ~(candidates.source == "neighbours")
    place = np.empty(len(candidates), dtype=np.int64)
    for kind in (by_votes, ~by_votes):
        place[kind] = np.arange(np.count_nonzero(kind))
    return candidates.take(np.sort(np.lexsort((~by_votes, place))[:most]))
