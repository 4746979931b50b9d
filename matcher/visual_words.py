"""An index of visual words (kind words): which word a row is, and which rows share a word, the rarer the word the heavier."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from matcher.errors import MatcherError
from matcher.index import CHUNK, Index
from matcher.index_card import check_rows
from matcher.index_kinds import list_sizes, stored_ids
from matcher.index_shards import IndexShard, IndexShards

NEAR = 0.375  # share of the bits of two rows of one word that may differ: 24 of 64, as Jegou, Douze and Schmid (2008) have it
WIDTH = 0.25  # share of the bits at which a weight has fallen to 1 / e: 16 of 64, as Jegou, Douze and Schmid (2010) have it


Companions = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]


def companions(index: Index | IndexShards, rows: ArrayLike) -> Companions:
    """Queries (Q, D) -> every row of the index that has a query's word: rows of the queries (M,), rising, ids (M,), weights (M,).

    A weight is the word's squared idf (Sivic and Zisserman 2003; once for either side) as a share of the most that it could be,
    ``(log(rows / rows of the word) / log(rows)) ** 2``, and falls with the share of bits that differ; beyond NEAR two rows are no
    companions. It depends on the whole collection. Time and memory grow with the rows of a word.
    """
    queries, bits = np.asarray(rows), index.card.settings.bits
    words = words_of(indexes_of(index)[0], queries)
    if isinstance(index, IndexShards):
        found = [alike_in_shard(shard, queries, words) for shard in index.shards]
    else:
        found = [alike(index, queries, words)]
    query_row, ids, differing = (np.concatenate(parts) for parts in zip(*found, strict=True))
    weight = rarity(index, words)[query_row] ** 2
    if bits:
        weight *= np.exp(-((differing / (WIDTH * bits)) ** 2))
    order = np.argsort(query_row, kind="stable")
    return query_row[order], ids[order], weight.astype(np.float32)[order]


def alike(index: Index, queries: NDArray[np.float32 | np.uint8], words: NDArray[np.int64]) -> Companions:
    """Queries (Q, D) and their words (Q,) -> rows of the queries (M,), rising, ids (M,) of their words, how many bits differ (M,)."""
    if not len(queries) or not len(index):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    bits = index.card.settings.bits
    radius = NEAR * bits + 0.5 if bits else np.inf
    nowhere = np.zeros((len(queries), 1), dtype=np.float32)  # distances to the words, of which bits know nothing
    limits, differing, ids = inverted_file(index).range_search_preassigned(queries.astype(np.float32), radius, words[:, None], nowhere)
    return np.repeat(np.arange(len(queries)), np.diff(limits.astype(np.int64))), ids, differing


def alike_in_shard(shard: IndexShard, queries: NDArray[np.float32 | np.uint8], words: NDArray[np.int64]) -> Companions:
    """Likewise, with ids among all rows, without pictures that are left out."""
    query_row, ids, differing = alike(shard.index, queries, words)
    everywhere = shard.everywhere(ids)
    kept = everywhere >= 0
    return query_row[kept], everywhere[kept], differing[kept]


def rarity(index: Index | IndexShards, words: NDArray[np.int64]) -> NDArray[np.float64]:
    """Words (N,) -> their idf over rows, as a share of that of a word with one row: (N,) from 0 (all rows have it) to 1.

    Rows of pictures that are left out count as long as their shard is there.
    """
    different, place = np.unique(words, return_inverse=True)
    indexes = indexes_of(index)
    sizes = np.maximum(sum(list_sizes(inverted_file(part), different) for part in indexes), 1)
    return np.asarray(1 - np.log(sizes) / np.log(max(sum(map(len, indexes)), 2)))[place]


def indexes_of(index: Index | IndexShards) -> list[Index]:
    return [shard.index for shard in index.shards] if isinstance(index, IndexShards) else [index]


def words_of(index: Index, rows: ArrayLike) -> NDArray[np.int64]:
    """Rows (N, D) -> the word of each (N,): its nearest centroid."""
    array, file = np.asarray(rows), inverted_file(index)
    check_rows(array, dim=index.card.dim, dtype=index.card.dtype)
    found = np.empty(len(array), dtype=np.int64)
    for start in range(0, len(array), CHUNK):
        part = slice(start, start + CHUNK)
        found[part] = file.quantizer.search(np.ascontiguousarray(array[part], dtype=np.float32), 1)[1][:, 0]
    return found


def stored_words(index: Index) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The ids of all rows (N,) and their words (N,), words rising."""
    file = inverted_file(index)
    return stored_ids(file), np.repeat(np.arange(file.nlist), list_sizes(file, np.arange(file.nlist)))


def inverted_file(index: Index) -> Any:
    """The faiss index of an index of words. MatcherError if it is none."""
    if index.card.stored != "words":
        raise MatcherError(f"an index of kind {index.card.stored} has no words: build one with index.kind words")
    return index.inverted_file
