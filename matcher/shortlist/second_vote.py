"""A second vote for the queries whose first one found next to nothing: more keypoints, found on a larger picture.

Of a copy that covers little of the query few keypoints are found at the size at which all pictures are described, and among those of
its surroundings fewer still vote. The index of the references stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from matcher.errors import ImageError
from matcher.features import FeatureSet, describe_picture
from matcher.index import Index
from matcher.index_shards import IndexShards
from matcher.models.sift import LocalFeatures
from matcher.settings import ImageSettings, SecondVoteSettings, ShortlistSettings
from matcher.shortlist.votes import vote_all

SECOND_VOTES = "second votes"  # the source of its candidates
Support = NDArray[np.float32]  # (C,) of the references that votes brought, best first
RULE = 2  # counts up when the same settings bring other candidates than before
TOGETHER = 8  # queries whose votes are in memory at a time


def is_left_over(support: Support, settings: SecondVoteSettings) -> bool:
    """Whether first votes found so little that the query votes again."""
    return not len(support) or bool(support[0] < settings.below)


def voted_again(source: Iterable[str | None]) -> list[bool]:
    """What found each candidate -> whether second votes were among it."""
    return [SECOND_VOTES in str(said).split("+") for said in source]


def vote_again(
    rows: Sequence[int],
    queries: FeatureSet,
    references: FeatureSet,
    index: Index | IndexShards,
    settings: ShortlistSettings,
    *,
    image_settings: ImageSettings,
    cache: Path | None,
) -> Iterator[tuple[int, tuple[NDArray[np.int64], Support] | ImageError]]:
    """Rows of queries that are left over -> each with the rows of references that it votes for, best first, and their support: the best
    one, and others whose support would have left the query out. In place of one whose picture cannot be read any more, the error.
    """
    assert settings.again is not None
    most, wanted = settings.again.most, settings.again.query
    voting = replace(settings, keypoints=wanted.keypoints, per_query=most, always=1, support=settings.again.below)
    for start in range(0, len(rows), TOGETHER):
        found: dict[int, LocalFeatures] = {}
        for n in rows[start : start + TOGETHER]:
            try:
                path, key = queries.pictures.path[n], queries.pictures.file_key[n]
                found[n] = describe_picture(path, wanted, image_settings=image_settings, cache=cache, known=key)[1]
            except ImageError as error:
                yield n, error
        for n, (elected, support) in zip(found, vote_all(found.values(), references, index, voting), strict=True):
            yield n, (elected, support)
