"""Searches that cut ties anywhere -> the k nearest by similarity, then by id, without the rows that are left out.

faiss keeps any of the rows that are equally near as the k-th. Here the search widens until it is past them, so what is found depends
on the rows alone, not on the order or the parts in which an index got them. That makes searches of several parts merge exactly.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

ABSENT = int(np.iinfo(np.int64).min)  # the id where there is no neighbour: no row of any array, unlike -1
WIDER = 4  # times as many are looked for next
WIDEST = 1024  # of more rows that are equally near, any are kept

Found = tuple[NDArray[np.float32], NDArray[np.int64]]  # similarity (Q, k), falling, -inf = nothing; ids (Q, k), ABSENT = nothing
Look = Callable[[NDArray[np.float32 | np.uint8], int], Found]  # queries (Q, D), k -> any of the k nearest
Drop = Callable[[NDArray[np.int64]], NDArray[np.bool_]]  # ids (N,) -> which of them are left out


def search_settled(
    look: Look, queries: NDArray[np.float32 | np.uint8], k: int, *, rows: int, drop: Drop | None = None, often: bool = False
) -> Found:
    """A search over ``rows`` rows, and queries (Q, D) -> their k nearest rows, ties in the order of their ids.

    Where ties are ``often``, as of counted bits, more rows are looked for at once.
    """
    similarity = np.full((len(queries), k), -np.inf, dtype=np.float32)
    ids = np.full((len(queries), k), ABSENT, dtype=np.int64)
    left, wide, most = np.arange(len(queries)), WIDER * (k + 1) if often else k + 1, rows if drop else min(rows, max(k, WIDEST))
    while len(left) and most:
        wide = min(wide, most)
        near, found = look(queries[left], wide)
        beyond = near.min(axis=1)  # rows that were not seen are no nearer than this
        if drop is not None:
            gone = drop(found.ravel()).reshape(found.shape)
            near, found = np.where(gone, -np.inf, near), np.where(gone, ABSENT, found)
        near, found = in_order(near, found, k)
        settled = np.isneginf(beyond) | (wide == most)
        if near.shape[1] == k:
            settled |= near[:, -1] > beyond
        done = left[settled]
        similarity[done, : near.shape[1]], ids[done, : near.shape[1]] = near[settled], found[settled]
        left, wide = left[~settled], WIDER * wide
    return similarity, ids


def in_order(similarity: NDArray[np.float32], ids: NDArray[np.int64], k: int) -> Found:
    """Similarities and ids (Q, n) in any order -> the k first of each query, or all, by similarity, then by id."""
    order = np.lexsort((ids, -similarity), axis=-1)[:, :k]
    return np.take_along_axis(similarity, order, axis=1), np.take_along_axis(ids, order, axis=1)
