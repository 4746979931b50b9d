"""Keypoints of a query and an index of all reference keypoints -> the one reference that most of them are nearest to, if that is clear.

Each keypoint has one vote, for the owner of its nearest reference keypoint; the rules are those of imgFp (Sun et al. 2021, third
in the matching track of the Image Similarity Challenge). No geometry, no mirror image, no weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from matcher.crops import CropSet
from matcher.features import FeatureSet
from matcher.index import Index
from matcher.index_shards import IndexShards
from matcher.models.sift import LocalFeatures
from matcher.settings import CountSettings
from matcher.types import Candidates

COUNTS, CROP_COUNTS = "counts", "crop_counts"  # sources of candidates: who voted


def elect(query: LocalFeatures, references: FeatureSet, index: Index | IndexShards, settings: CountSettings) -> tuple[int, int] | None:
    """Query keypoints -> the row of the reference that wins and its votes; None if none does."""
    if not len(query):
        return None
    similarity, neighbour = index.search(query.rows, 1)
    seen = np.flatnonzero(neighbour[:, 0] >= 0)
    if not len(seen):
        return None
    squared = np.maximum(2 - 2 * similarity[seen, 0].astype(np.float64), 0)
    owner = references.owner(neighbour[seen, 0])
    voted, votes = np.unique(owner, return_counts=True)
    first = int(votes.argmax())
    runner_up = int(np.delete(votes, first).max(initial=0))
    wanted = max(settings.least, runner_up + 1) if runner_up else settings.alone
    if votes[first] < wanted or squared[owner == voted[first]].mean() >= settings.farthest:
        return None
    return int(voted[first]), int(votes[first])


def elect_by_source(
    number: int, queries: FeatureSet, crops: CropSet | None, references: FeatureSet, index: Index | IndexShards, settings: CountSettings
) -> Iterator[tuple[str, int, int]]:
    """Row of a query -> for the whole picture and for its crop, if they have a winner: the source, the winner's row, its votes."""
    looks: Sequence[tuple[str, LocalFeatures | None]] = (
        (COUNTS, queries.features(number)),
        (CROP_COUNTS, crops.features(number) if crops is not None else None),
    )
    for source, features in looks:
        if features is not None and (winner := elect(features, references, index, settings)) is not None:
            yield source, *winner


def frame_crops(candidates: Candidates, queries: FeatureSet, crops: CropSet | None) -> Candidates:
    """Candidates (P,) -> the same, those that only a crop found with the crop's frame as that of the query."""
    if crops is None or not len(candidates):
        return candidates
    frames = candidates.query_frame.copy()
    for row in np.flatnonzero(candidates.source == CROP_COUNTS):
        frames[row] = crops.frame[queries.number[str(candidates.query_id[row])]]
    return replace(candidates, query_frame=frames)
