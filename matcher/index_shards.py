"""Indexes over parts of all rows, searched as if they were one: the nearest of each part, merged by similarity, then by id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from matcher.errors import MatcherError
from matcher.index import Index
from matcher.index_card import Card
from matcher.index_ties import ABSENT, Found, in_order


@dataclass(frozen=True)
class IndexShard:
    """The index of one part, whose ids are its rows from 0, and where these are among all rows. Rows of one picture lie side by side."""

    index: Index
    start: NDArray[np.int64]  # (n + 1,) the row at which each picture of the part begins, and how many rows there are
    place: NDArray[np.int64]  # (n,) the same row among all rows, -1 = the picture is left out

    def everywhere(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of the part (N,) -> rows of all, -1 where the picture is left out."""
        picture = np.searchsorted(self.start, rows, side="right") - 1
        return np.where(self.place[picture] < 0, -1, self.place[picture] + rows - self.start[picture])

    def is_left_out(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Rows of the part, or ABSENT, (N,) -> which are of pictures that are left out."""
        return (rows != ABSENT) & (self.place[np.searchsorted(self.start, np.maximum(rows, 0), side="right") - 1] < 0)

    def search(self, rows: ArrayLike, k: int) -> Found:
        """As Index.search, with ids among all rows."""
        drop = self.is_left_out if (self.place < 0).any() else None
        similarity, ids = self.index.search(rows, k, drop=drop)
        found = ids != ABSENT
        ids[found] = self.everywhere(ids[found])
        return similarity, ids


class IndexShards:
    """Several shards, searched one after the other."""

    def __init__(self, shards: Sequence[IndexShard]) -> None:
        self.shards = list(shards)
        cards = [shard.index.card for shard in self.shards]
        self.card: Card = cards[0]
        if any(card.stored == "words" for card in cards) and len({card.training for card in cards}) > 1:
            raise MatcherError("shards of visual words must know the same words: add the references to a new collection at once")

    def __len__(self) -> int:
        return sum(int((np.diff(shard.start) * (shard.place >= 0)).sum()) for shard in self.shards)

    def search(self, rows: ArrayLike, k: int) -> Found:
        """Queries (Q, D) -> similarity (Q, k), falling, and ids (Q, k) among all rows, as Index.search has them."""
        found = [shard.search(rows, k) for shard in self.shards]
        similarity, ids = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
        return in_order(similarity, ids, k)
