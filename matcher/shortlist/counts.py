"""Keypoints of a query and an index of all reference keypoints -> the one reference that most of them are nearest to, if that is clear.

Each keypoint has one vote, for the owner of its nearest reference keypoint; the rules are those of imgFp (Sun et al. 2021, third
in the matching track of the Image Similarity Challenge). No geometry, no mirror image, no weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from matcher.crops import CropSet
from matcher.features import FeatureSet
from matcher.index import Index
from matcher.index_shards import IndexShards
from matcher.models.sift import LocalFeatures
from matcher.settings import CountSettings
from matcher.types import Candidates

COUNTS, CROP_COUNTS = "counts", "crop_counts"  # sources of candidates: who voted


def elect_all(
    queries: Sequence[LocalFeatures], references: FeatureSet, index: Index | IndexShards, settings: CountSettings
) -> Iterator[tuple[int, int] | None]:
    """Keypoints of queries -> for each the row of the reference that wins and its votes; None if none does.

    The index is asked once for all: faiss compares a thousand rows with all
    references, or with the centroids of its lists, several times as fast as a few hundred.
    """
    if not queries:
        return
    similarity, neighbour = index.search(np.concatenate([query.rows for query in queries]), 1)
    ends = np.cumsum([len(query) for query in queries])[:-1]
    for near in zip(np.split(similarity[:, 0], ends), np.split(neighbour[:, 0], ends), strict=True):
        yield winner_of(*near, references, settings)


def winner_of(
    similarity: NDArray[np.float32], neighbour: NDArray[np.int64], references: FeatureSet, settings: CountSettings
) -> tuple[int, int] | None:
    """The nearest reference keypoint (K,) of each keypoint of a query, and how similar it is -> as :func:`elect_all`."""
    seen = np.flatnonzero(neighbour >= 0)
    if not len(seen):
        return None
    squared = np.maximum(2 - 2 * similarity[seen].astype(np.float64), 0)
    owner = references.owner(neighbour[seen])
    voted, votes = np.unique(owner, return_counts=True)
    first = int(votes.argmax())
    runner_up = int(np.delete(votes, first).max(initial=0))
    wanted = max(settings.least, runner_up + 1) if runner_up else settings.alone
    if votes[first] < wanted or squared[owner == voted[first]].mean() >= settings.farthest:
        return None
    return int(voted[first]), int(votes[first])


def elect_by_source(
    rows: Iterable[int],
    queries: FeatureSet,
    crops: CropSet | None,
    references: FeatureSet,
    index: Index | IndexShards,
    settings: CountSettings,
) -> Iterator[tuple[int, int, str, float]]:
    """Rows of queries -> for each whole picture and each crop that has a winner: the query's row, the winner's, the source, its votes."""
    looks: list[tuple[int, str, LocalFeatures]] = []
    for row in rows:
        looks.append((row, COUNTS, queries.features(row)))
        if crops is not None and (crop := crops.features(row)) is not None:
            looks.append((row, CROP_COUNTS, crop))
    winners = elect_all([features for *_, features in looks], references, index, settings)
    for (row, source, _), winner in zip(looks, winners, strict=True):
        if winner is not None:
            yield row, winner[0], source, float(winner[1])


def frame_crops(candidates: Candidates, queries: FeatureSet, crops: CropSet | None) -> Candidates:
    """Candidates (P,) -> the same, those that only a crop found with the crop's frame as that of the query."""
    if crops is None or not len(candidates):
        return candidates
    frames = candidates.query_frame.copy()
    for row in np.flatnonzero(candidates.source == CROP_COUNTS):
        frames[row] = crops.frame[queries.number[str(candidates.query_id[row])]]
    return replace(candidates, query_frame=frames)
