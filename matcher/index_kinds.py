"""Rows -> a trained, empty faiss index of the kind that the settings name.

What a row takes, beside 8 bytes for its id, and what that does to the similarity:

    kind    float rows (D)                  uint8 rows (K, 128)
    flat    4 D bytes, exact                512 bytes, exact
    fp16    2 D bytes, half precision       128 bytes, exact
    ivf     2 D bytes, half precision       128 bytes, exact
    ivfpq   ``code_bytes``, approximate     ``code_bytes``, approximate
    binary  ``bits`` / 8 bytes, approximate ``bits`` / 8 bytes, approximate
    words   likewise, but at least one byte: faiss keeps no lists of nothing

flat looks at every row with matrix products, fp16 at every row one by one (slower, smaller). The others look only at
the rows of the ``probes`` lists nearest to a query, words at one. Bits are signs of a row's products with random unit
directions: of the row less the mean of all rows in binary (Charikar 2002), less the centroid of its word in words (Hamming
embedding, Jegou, Douze and Schmid 2008, with the centroid's product in place of the median).
faiss's FastScan codes are left out on purpose: in faiss 1.15.1 their searches now and then return nothing at all for a
whole batch of queries.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from matcher.settings import IndexSettings

logger = logging.getLogger("matcher")

LISTS = ("ivf", "ivfpq", "binary", "words")  # kinds with inverted lists
CODED = ("ivfpq", "binary", "words")  # kinds that keep too little of a row to give it back
SIGNS = ("binary", "words")  # kinds whose codes are bits, compared by how many differ
POINTS_PER_LIST = 40  # for k-means; faiss asks for at least 39
POINTS_PER_WORD = 10  # words are many, and training takes time with the square of their number
PERIOD = 10**9  # beyond any product: faiss cuts products into intervals of half of it, and these are then two, below 0 and above
ROUNDS = 8  # of k-means
CODEBOOK_ROWS = 256  # entries of a product quantizer's codebook: 8 bits


def new_index(rows: NDArray[Any], settings: IndexSettings, *, seed: int, words: NDArray[np.float32] | None = None) -> tuple[Any, str]:
    """Rows (N, D), float32 or uint8, and settings -> (trained faiss index without rows, the kind it really has).

    ``words`` (W, D) are the centroids of kind words; None = they are learnt. Too few rows for lists or codebooks: a flat index,
    with a line in the log.
    """
    kind, dim = settings.kind, rows.shape[1]
    if kind in LISTS:
        lists = list_count(len(rows), settings) if words is None else len(words)
        if words is None and (lists < 2 or (kind == "ivfpq" and len(rows) < CODEBOOK_ROWS)):
            logger.info("index: %s rows are too few for %s, searching all of them instead", f"{len(rows):,}", kind)
            kind = "flat"
        elif kind in SIGNS:
            return trained_signs(rows, settings, lists=lists, seed=seed, words=words), kind
        else:
            return trained_lists(rows, settings, lists=lists, seed=seed), kind
    flat = faiss.IndexFlatIP(dim) if kind == "flat" else faiss.IndexScalarQuantizer(dim, storage(rows), faiss.METRIC_INNER_PRODUCT)
    if kind == "fp16":
        flat.train(np.zeros((1, dim), dtype=np.float32))  # neither storage has anything to learn
    return faiss.IndexIDMap2(handed_over(flat)), kind


def list_count(rows: int, settings: IndexSettings) -> int:
    """How many inverted lists to make: what the settings say, or about 2 * sqrt(rows), but never more than can be trained."""
    wanted = settings.lists or round(2 * rows**0.5)
    lists = min(wanted, rows // points_per_list(settings))
    if settings.lists and 2 <= lists < wanted:
        logger.info("index: %s rows can train %s lists, not %s", f"{rows:,}", lists, wanted)
    return lists


def trained_lists(rows: NDArray[Any], settings: IndexSettings, *, lists: int, seed: int) -> Any:
    """An inverted file whose centroids (and codebooks) are learnt from a seeded sample of the rows; the same seed gives the same bytes."""
    dim, product = rows.shape[1], faiss.METRIC_INNER_PRODUCT
    centroids = faiss.IndexFlatIP(dim)
    index: Any
    if settings.kind == "ivf":
        index = faiss.IndexIVFScalarQuantizer(centroids, dim, lists, storage(rows), product, False)
    else:
        index = faiss.IndexIVFPQ(centroids, dim, lists, code_size(dim, settings.code_bytes), 8, product)
        index.pq.cp.seed, index.pq.cp.min_points_per_centroid = seed + 1, 1  # no warning for small sets
    index.own_fields = True
    handed_over(centroids)
    index.cp.seed, index.cp.niter, index.cp.max_points_per_centroid = seed, ROUNDS, POINTS_PER_LIST
    enough = max(lists * POINTS_PER_LIST, 256 * CODEBOOK_ROWS if settings.kind == "ivfpq" else 0)
    index.train(drawn(rows, enough, seed))
    index.nprobe = min(settings.probes, lists)
    return index


def trained_signs(rows: NDArray[Any], settings: IndexSettings, *, lists: int, seed: int, words: NDArray[np.float32] | None) -> Any:
    """An inverted file of sign bits, nearest by Hamming distance; its centroids are ``words``, or learnt from a sample of the rows."""
    dim, bits, points = rows.shape[1], max(settings.bits, 8), points_per_list(settings)
    sample = drawn(rows, lists * points, seed)
    centroids = faiss.IndexFlatL2(dim)
    if words is not None:
        centroids.add(np.ascontiguousarray(words))  # faiss learns none where there are as many as lists
    index: Any = faiss.IndexIVFSpectralHash(centroids, dim, lists, bits, PERIOD)
    index.own_fields = True
    handed_over(centroids)
    index.cp.seed, index.cp.niter = seed, ROUNDS
    index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, points
    of_words = settings.kind == "words"
    origin = np.zeros(dim, dtype=np.float32) if of_words else sample.mean(axis=0)
    index.replace_vt(handed_over(directions(origin, bits, seed=seed)), True)
    index.threshold_type = index.Thresh_centroid if of_words else index.Thresh_global
    index.train(sample)
    index.nprobe = 1 if of_words else min(settings.probes, lists)
    return index


def directions(origin: NDArray[np.float32], count: int, *, seed: int) -> Any:
    """Point (D,) -> faiss's map from rows, less that point, to their products with ``count`` unit directions, D at a time orthogonal."""
    dim, rng = len(origin), np.random.default_rng(seed)
    blocks = [np.linalg.qr(rng.standard_normal((dim, dim)))[0] for _ in range(-(-count // dim))]
    chosen = np.concatenate(blocks)[:count].astype(np.float32)
    made = faiss.LinearTransform(dim, count, True)
    faiss.copy_array_to_vector(chosen.ravel(), made.A)
    faiss.copy_array_to_vector(-chosen @ origin, made.b)
    made.is_trained = True
    return made


def points_per_list(settings: IndexSettings) -> int:
    """Rows that k-means sees for each list."""
    return POINTS_PER_WORD if settings.kind == "words" else POINTS_PER_LIST


def drawn(rows: NDArray[Any], count: int, seed: int) -> NDArray[np.float32]:
    """At most ``count`` of the rows, in their order."""
    return rows[np.sort(np.random.default_rng(seed).permutation(len(rows))[:count])].astype(np.float32)


def storage(rows: NDArray[Any]) -> int:
    """faiss's name for how a number is kept: a byte as it is, a float in half precision."""
    return faiss.ScalarQuantizer.QT_8bit_direct if rows.dtype == np.uint8 else faiss.ScalarQuantizer.QT_fp16


def code_size(dim: int, code_bytes: int) -> int:
    """The largest number of bytes up to ``code_bytes`` that cuts a row of ``dim`` numbers into equal parts."""
    return max(size for size in range(1, min(dim, code_bytes) + 1) if dim % size == 0)


def handed_over(index: Any) -> Any:
    """A faiss index that its new owner frees, not Python."""
    index.this.disown()
    return index


def copied(index: Any) -> Any:
    """The same faiss index once more. Not faiss.clone_index: of sign bits both would free the one map to directions (faiss 1.15.1)."""
    return faiss.deserialize_index(faiss.serialize_index(index))


@contextmanager
def without_rows(index: Any) -> Iterator[None]:
    """Within the block an inverted file has learnt but holds no rows; its lists are put aside, not copied. Other kinds stay as they are."""
    if isinstance(index, faiss.IndexIDMap2):
        yield
        return
    lists, rows = index.invlists, index.ntotal
    index.own_invlists = False
    index.replace_invlists(handed_over(faiss.ArrayInvertedLists(index.nlist, index.code_size)), True)
    index.ntotal = 0
    try:
        yield
    finally:
        index.replace_invlists(lists, True)
        index.ntotal = rows


def list_sizes(index: Any, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many rows are in each of these inverted lists: (N,)."""
    lists = index.invlists
    return np.array([lists.list_size(number) for number in numbers.tolist()], dtype=np.int64)


def stored_ids(index: Any) -> NDArray[np.int64]:
    """The ids of an index's rows, in the order in which they lie: (N,)."""
    if (mapped := getattr(index, "ids", None)) is not None:  # see index_lists.py
        return np.asarray(mapped, dtype=np.int64)
    if isinstance(index, faiss.IndexIDMap2):
        return np.asarray(faiss.vector_to_array(index.id_map), dtype=np.int64)
    lists = index.invlists
    parts = [faiss.rev_swig_ptr(lists.get_ids(i), lists.list_size(i)).copy() for i in range(lists.nlist) if lists.list_size(i)]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def stored_rows(index: Any, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """The rows (N, D) that an index keeps under these ids, as exact as it keeps them."""
    if isinstance(index, faiss.IndexIDMap2):
        return index.reconstruct_batch(ids)
    hashed, none = faiss.DirectMap.Hashtable, faiss.DirectMap.NoMap  # type: ignore[attr-defined]
    index.set_direct_map_type(hashed)
    try:
        return index.reconstruct_batch(ids)
    finally:
        index.set_direct_map_type(none)
