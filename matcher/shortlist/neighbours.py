"""Descriptors of query views and reference views -> the references with the nearest views."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from matcher.errors import MatcherError
from matcher.index import Index
from matcher.settings import IndexSettings
from matcher.types import Candidates, Descriptors, Float, Text

Ints = NDArray[np.int64]
Pairs = tuple[Ints, Ints, NDArray[np.float32]]  # rows of the queries, rows of the references, similarity


def neighbours(
    queries: Descriptors,
    references: Descriptors,
    *,
    per_query: int,
    index: Index | None = None,
    penalty: Float | None = None,
    length: Float | None = None,
) -> Candidates:
    """Views of queries and of references -> for each query its ``per_query`` nearest references, nearest first.

    The similarity of a pair is that of its closest view pair, and the frames say which one that was. ``index`` holds the
    references' rows under their row numbers; without one, all are compared. The cosines of a query view are multiplied by its
    ``length`` (1), and its ``penalty`` (0) is taken off, see background. The search widens until every query has its number of
    references or nothing is left, so many views of one reference cannot crowd out the others. Ties go to the reference, then to
    the view of the reference, then to that of the query, that comes first.
    """
    if index is None:
        index = Index.build(references.rows, np.arange(len(references)), IndexSettings(gpu="no"), made_by="")
    if len(index) != len(references):
        raise MatcherError(f"the index holds {len(index):,} rows, the references have {len(references):,} views: build the index again")
    if not len(queries) or not len(references) or not per_query:
        return Candidates.empty()
    penalty = np.zeros(len(queries), dtype=np.float32) if penalty is None else penalty
    length = np.ones(len(queries), dtype=np.float32) if length is None else length
    query_rows, reference_rows, similarity = nearest_pairs(queries, references, index, per_query=per_query, penalty=penalty, length=length)
    return Candidates(
        query_id=queries.image_id[query_rows],
        reference_id=references.image_id[reference_rows],
        similarity=similarity,
        source=np.full(len(similarity), "neighbours"),
        query_frame=queries.frame[query_rows],
        reference_frame=references.frame[reference_rows],
    )


def nearest_pairs(queries: Descriptors, references: Descriptors, index: Index, *, per_query: int, penalty: Float, length: Float) -> Pairs:
    """The best view pair of each of the ``per_query`` nearest references of each query, queries in the order they came."""
    query_of, reference_of = first_seen(queries.image_id), first_seen(references.image_id)
    wanted = min(per_query, int(reference_of.max()) + 1)
    rows, k, done = np.arange(len(queries)), wanted + 1, []
    while len(rows):
        k = min(k, len(index))
        similarity, found = index.search(queries.rows[rows], k)
        similarity = length[rows][:, None] * similarity - penalty[rows][:, None]
        pairs = best_views(rows, similarity, found, query_of, reference_of)
        rank = rank_within(query_of[pairs[0]])
        beyond = np.full(query_of.max() + 1, -np.inf)  # no view that was not found is closer to the query than this
        np.maximum.at(beyond, query_of[rows], similarity[:, -1] if k < len(index) else -np.inf)
        certain = np.isneginf(beyond)
        last = rank == wanted - 1
        certain[query_of[pairs[0][last]]] |= pairs[2][last] > beyond[query_of[pairs[0][last]]]
        finished = certain[query_of[pairs[0]]] & (rank < wanted)
        done.append([column[finished] for column in pairs])
        rows, k = rows[~certain[query_of[rows]]], 4 * k
    query_rows, reference_rows, values = (np.concatenate(column) for column in zip(*done, strict=True))
    order = np.argsort(query_of[query_rows], kind="stable")
    return query_rows[order], reference_rows[order], values[order]


def best_views(rows: Ints, similarity: NDArray[np.float32], found: Ints, query_of: Ints, reference_of: Ints) -> Pairs:
    """What these rows of the queries found, (R, k) -> the closest view pair of each query and reference; by query, closest first."""
    r, column = np.nonzero(np.isfinite(similarity))
    query_rows, reference_rows, values = rows[r], found[r, column], similarity[r, column]
    pair = query_of[query_rows] * (reference_of.max() + 1) + reference_of[reference_rows]
    order = np.lexsort((query_rows, reference_rows, -values, pair))
    best = order[np.unique(pair[order], return_index=True)[1]]
    best = best[np.lexsort((reference_of[reference_rows[best]], -values[best], query_of[query_rows[best]]))]
    return query_rows[best], reference_rows[best], values[best]


def rows_by_id(ids: Text) -> dict[str, Ints]:
    """Ids (V,) -> the rows of each, rising."""
    order = np.argsort(ids, kind="stable")
    names, starts = np.unique(ids[order], return_index=True)
    return dict(zip(names.tolist(), np.split(order, starts[1:]), strict=True)) if len(ids) else {}


def rank_within(groups: Ints) -> Ints:
    """Group of each row (N,), rows of a group side by side -> the row's place within its group, from 0: (N,)."""
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    return np.arange(len(groups)) - np.repeat(starts, np.diff(np.append(starts, len(groups))))


def first_seen(ids: Text) -> Ints:
    """Ids (N,) -> the number of each, counted in the order in which the distinct ones first appear: (N,)."""
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    place = np.empty(len(first), dtype=np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    return place[inverse]
