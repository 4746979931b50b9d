"""Keypoints of a query and an index of all reference keypoints -> the references with the most consistent votes.

Every keypoint of the query, and every one of its mirror image, votes for the owners of its nearest reference keypoints.
A vote weighs by how much nearer its keypoint is than the last neighbour looked at (local naive Bayes nearest neighbour,
McCann and Lowe 2012): a word that is common in the collection has many equally near neighbours and weighs nothing,
unless it is so near that these are the same picture many times over (FAR). In an index of visual words it votes for the owners of
all keypoints of its word, the rarer the word the heavier (visual_words.py).
The references with the heaviest votes are then tested for one transform that their votes agree on (models/similarity.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from matcher.features import FeatureSet
from matcher.index import Index
from matcher.index_shards import IndexShards
from matcher.models.sift import LocalFeatures
from matcher.models.similarity import agree
from matcher.settings import ShortlistSettings
from matcher.visual_words import companions

ROUNDED = 1 + 1e-4  # times a sum of weights: more than the same numbers, added in another order, can make
FAR = 0.05  # squared distance of unit rows that the last neighbour is held to have at least


@dataclass(frozen=True)
class Votes:
    """Single votes, sorted by reference: rows of the query's keypoints, of all reference keypoints, their owners, their weights."""

    query_row: NDArray[np.int64]  # (M,)
    reference_row: NDArray[np.int64]  # (M,)
    reference: NDArray[np.int64]  # (M,) rows of Pictures
    weight: NDArray[np.float32]  # (M,)


def vote(
    query: LocalFeatures, references: FeatureSet, index: Index | IndexShards, settings: ShortlistSettings
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Query keypoints -> rows of references (C,), best first, and their support (C,); C <= settings.per_query."""
    return next(vote_all([query], references, index, settings))


def vote_all(
    queries: Iterable[LocalFeatures], references: FeatureSet, index: Index | IndexShards, settings: ShortlistSettings
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """As :func:`vote` for each of the queries; the index is asked once for all, which is faster."""
    sides = [side for query in queries for side in (query.first(settings.keypoints), query.first(settings.keypoints).mirrored)]
    votes = cast_all(sides, references, index, settings)
    for images in zip(sides[::2], sides[1::2], strict=True):
        heavy = [(float(some.weight.sum()), side, of, some) for side in images for of, some in heaviest(next(votes), settings.tried)]
        support: dict[int, float] = {}
        for weight, side, reference, theirs in sorted(heavy, key=itemgetter(0), reverse=True):
            if weight * ROUNDED >= least_wanted(support, settings):
                found = agree_on(side, references, reference, theirs, settings)
                support[reference] = max(support.get(reference, 0.0), found)
        ranked = sorted(support, key=lambda reference: (-support[reference], reference))[: settings.per_query]
        best = [reference for n, reference in enumerate(ranked) if n < settings.always or support[reference] >= settings.support]
        yield np.array(best, dtype=np.int64), np.array([support[reference] for reference in best], dtype=np.float32)


def least_wanted(support: dict[int, float], settings: ShortlistSettings) -> float:
    """Supports so far -> what a further reference needs to become a candidate; votes that weigh less in all need not be tested."""
    best = sorted(support.values(), reverse=True) + [0.0] * (settings.per_query + settings.always + 1)
    return max(best[max(settings.per_query, 1) - 1], min(best[max(settings.always, 1) - 1], settings.support))


def cast_all(
    queries: Sequence[LocalFeatures], references: FeatureSet, index: Index | IndexShards, settings: ShortlistSettings
) -> Iterator[Votes]:
    """Look up the neighbours of every keypoint of every query, in one search -> each query's votes."""
    if index.card.stored == "words":
        yield from (cast_words(query, references, index) for query in queries)
    elif queries:
        similarity, neighbour = index.search(np.concatenate([query.rows for query in queries]), settings.neighbours)
        ends = np.cumsum([len(query) for query in queries])[:-1]
        for near in zip(np.split(similarity, ends), np.split(neighbour, ends), strict=True):
            yield weigh(*near, references)


def cast(query: LocalFeatures, references: FeatureSet, index: Index | IndexShards, settings: ShortlistSettings) -> Votes:
    """The votes of one query."""
    return next(cast_all([query], references, index, settings))


def weigh(similarity: NDArray[np.float32], neighbour: NDArray[np.int64], references: FeatureSet) -> Votes:
    """Neighbours (K, n) of a query's keypoints, nearest first -> votes; a keypoint votes for a reference once, with its nearest there."""
    squared = np.maximum(2 - 2 * similarity, 0)  # of unit rows; absent ones are infinitely far
    last = np.where(np.isfinite(squared), squared, -np.inf).max(axis=1, keepdims=True)
    weight = 1 - squared / np.maximum(last, FAR)
    query_row = np.repeat(np.arange(len(neighbour)), neighbour.shape[1])
    flat, weights = neighbour.ravel(), weight.ravel().astype(np.float32)
    kept = (flat >= 0) & (weights > 0)
    query_row, flat, weights = query_row[kept], flat[kept], weights[kept]
    owner = references.owner(flat)
    _, first = np.unique(query_row * len(references) + owner, return_index=True)
    order = first[np.argsort(owner[first], kind="stable")]
    return Votes(query_row[order], flat[order], owner[order], weights[order])


def cast_words(query: LocalFeatures, references: FeatureSet, index: Index | IndexShards) -> Votes:
    """Look up the keypoints of every keypoint's word. Nothing tells which of them is meant, so all vote, and share one vote.

    The votes between a keypoints of the query and b of a reference that have one word weigh as much as min(a, b) keypoints: what
    repeats itself within a picture (burstiness, Jegou, Douze and Schmid 2009) is not counted a * b times.
    """
    query_row, flat, weight = companions(index, query.rows)
    owner = references.owner(flat)
    _, shared, times = np.unique(query_row * len(references) + owner, return_inverse=True, return_counts=True)
    weight /= np.maximum(times[shared], np.bincount(flat)[flat] if len(flat) else 1)
    order = np.argsort(owner, kind="stable")
    return Votes(query_row[order], flat[order], owner[order], weight[order])


def heaviest(votes: Votes, count: int) -> Iterator[tuple[int, Votes]]:
    """The ``count`` references with the largest sums of weights, each with its own votes."""
    references, start = np.unique(votes.reference, return_index=True)
    if len(references) == 0:
        return
    total = np.add.reduceat(votes.weight, start)
    end = np.append(start[1:], len(votes.weight))
    for n in np.argsort(-total, kind="stable")[:count]:
        rows = slice(start[n], end[n])
        yield int(references[n]), Votes(votes.query_row[rows], votes.reference_row[rows], votes.reference[rows], votes.weight[rows])


def agree_on(query: LocalFeatures, references: FeatureSet, reference: int, votes: Votes, settings: ShortlistSettings) -> float:
    """Summed weight of a reference's votes that fit one similarity; a single vote fits itself. Words cast many: the heaviest count."""
    best = np.argsort(-votes.weight, kind="stable")[: settings.keypoints] if len(votes.weight) > settings.keypoints else slice(None)
    local = votes.reference_row[best] - references.start[reference]
    pairs = np.stack([votes.query_row[best], local], axis=1)
    found = agree(query, references.features(reference), pairs, votes.weight[best], tolerance=settings.tolerance)
    return 0.0 if found is None else found.support
