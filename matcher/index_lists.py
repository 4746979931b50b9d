"""The inverted lists of an index as two files that are mapped, not read: codes, and ids in as few bytes as they need.

    codes.bin   the codes of list 0, of list 1, ... without gaps
    ids.bin     the ids of the same rows, uint32 where they fit, else uint64; faiss itself keeps 8 bytes
    sizes.npy   rows of each list, int64

faiss is told where the codes lie and answers with places in lists, from which the ids follow. Only what a search looks at is
brought into memory.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from matcher.index_kinds import copied, without_rows
from matcher.storage.aside import write_aside

CODES_FILE, IDS_FILE, SIZES_FILE = "codes.bin", "ids.bin", "sizes.npy"
LIST_FILES = (CODES_FILE, IDS_FILE, SIZES_FILE)
AT_ONCE = 2**17  # times that a query looks into a list
ONE_LIST = faiss.SearchParametersIVF(nprobe=1)  # type: ignore[call-arg]
OFFSET_BITS = 32  # a place is the number of a list, then that of a row in it


def write_lists(searcher: Any, folder: Path) -> None:
    """The lists of a faiss index -> files in the folder, each whole or not at all. MatcherError if the disk refuses."""
    lists, width = searcher.invlists, searcher.code_size
    sizes = np.array([lists.list_size(number) for number in range(lists.nlist)], dtype=np.int64)
    largest = max((int(ids_of(lists, number).max()) for number in np.flatnonzero(sizes).tolist()), default=0)
    dtype = np.uint32 if largest < 2**32 else np.uint64
    with write_aside(folder / CODES_FILE) as codes, write_aside(folder / IDS_FILE) as ids:
        for number in np.flatnonzero(sizes).tolist():
            codes.write(np.asarray(faiss.rev_swig_ptr(lists.get_codes(number), int(sizes[number]) * width)).data)
            ids.write(ids_of(lists, number).astype(dtype).data)
    with write_aside(folder / SIZES_FILE) as file:
        np.save(file, sizes)


@cache
def blas() -> Any:
    """What computes products, to be held to one thread: how they are shared out decides the last bits of a row's distances to the
    centroids, and which list is its fourth may hang on one. And sign bits are turned query by query: threads that wait for each
    other every time take 100 times as long as none where other work keeps a core busy."""
    return ThreadpoolController().select(user_api="blas")


def ids_of(lists: Any, number: int) -> NDArray[np.int64]:
    return np.asarray(faiss.rev_swig_ptr(lists.get_ids(number), lists.list_size(number)))


def search_by_list(searcher: Any, rows: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """As faiss's own search of inverted lists for the largest products, in any order: products (Q, k) and ids (Q, k), -1 = none.

    List by list, not query by query: what many queries look at stays in a core's own memory.
    """
    products, ids = np.empty((len(rows), k), dtype=np.float32), np.empty((len(rows), k), dtype=np.int64)
    step = max(1, AT_ONCE // searcher.nprobe)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        of_lists, their_ids = look_into_lists(searcher, rows[part], k)
        largest = np.argpartition(-of_lists, k - 1, axis=1)[:, :k]
        products[part], ids[part] = np.take_along_axis(of_lists, largest, axis=1), np.take_along_axis(their_ids, largest, axis=1)
    return products, ids


def look_into_lists(searcher: Any, rows: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Queries (Q, D) -> the k largest products of each with each of the P lists that it looks into, and their ids (Q, P * k)."""
    with blas().limit(limits=1):
        away, lists = searcher.quantizer.search(rows, searcher.nprobe)
    order = np.argsort(lists, axis=None, kind="stable")
    asked = [np.ascontiguousarray(array) for array in (rows[order // lists.shape[1]], lists.ravel()[order], away.ravel()[order])]
    products, ids = np.empty((len(order), k), dtype=np.float32), np.empty((len(order), k), dtype=np.int64)
    asked_rows, *others = [faiss.swig_ptr(array) for array in (*asked, products, ids)]
    searcher.search_preassigned_c(len(order), asked_rows, k, *others, False, ONE_LIST, None)
    back = np.argsort(order)
    return products[back].reshape(len(rows), -1), ids[back].reshape(len(rows), -1)


class MappedLists:
    """A faiss index that has learnt but holds no rows, and the files of its lists -> one that can be searched."""

    def __init__(self, searcher: Any, folder: Path) -> None:
        self.searcher, self.nlist, self.quantizer = searcher, searcher.nlist, searcher.quantizer
        self.sizes: NDArray[np.int64] = np.load(folder / SIZES_FILE)
        self.start = np.concatenate([[0], np.cumsum(self.sizes)])
        self.ntotal = int(self.start[-1])
        width = (folder / IDS_FILE).stat().st_size // max(self.ntotal, 1)
        self.ids = np.memmap(folder / IDS_FILE, dtype=f"<u{width}", mode="r") if self.ntotal else np.empty(0, dtype=np.uint32)
        if self.ntotal:
            searcher.replace_invlists(map_codes(folder / CODES_FILE, self.sizes, self.start, searcher.code_size), True)
            searcher.ntotal = self.ntotal

    @property
    def invlists(self) -> Any:
        """faiss's lists, for their sizes."""
        return self.searcher.invlists

    def search(self, rows: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Queries (Q, D) -> what faiss measured (Q, k) and the ids (Q, k), -1 = none."""
        measured, places = np.empty((len(rows), k), dtype=np.float32), np.empty((len(rows), k), dtype=np.int64)
        with blas().limit(limits=1):
            away, lists = self.quantizer.search(rows, self.searcher.nprobe)
            arrays = [faiss.swig_ptr(array) for array in (lists, away, measured, places)]
            self.searcher.search_preassigned_c(len(rows), faiss.swig_ptr(rows), k, *arrays, True, None, None)
        return measured, self.ids_at(places)

    def range_search_preassigned(
        self, rows: NDArray[np.float32], radius: float, lists: NDArray[np.int64], away: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
        """As faiss has it: where the rows (M,) that each query found begin (Q + 1,), what it measured (M,), ids (M,)."""
        found = faiss.RangeSearchResult(len(rows))
        asked = [np.ascontiguousarray(array) for array in (rows, lists, away)]
        asked_rows, *others = [faiss.swig_ptr(array) for array in asked]
        with blas().limit(limits=1):
            self.searcher.range_search_preassigned_c(len(rows), asked_rows, radius, *others, found, True, None, None)
        limits = faiss.rev_swig_ptr(found.lims, len(rows) + 1).copy().astype(np.int64)
        count = int(limits[-1])
        measured, places = (faiss.rev_swig_ptr(array, count).copy() for array in (found.distances, found.labels))
        return limits, measured, self.ids_at(places)

    def in_memory(self) -> Any:
        """The same rows in a faiss index of their own."""
        lists = self.searcher.invlists
        with without_rows(self.searcher):
            whole = copied(self.searcher)
        for number in np.flatnonzero(self.sizes).tolist():
            ids = self.ids[self.start[number] : self.start[number + 1]].astype(np.int64)
            whole.invlists.add_entries(number, len(ids), faiss.swig_ptr(ids), lists.get_codes(number))
        whole.ntotal = self.ntotal
        return whole

    def ids_at(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places in lists, -1 = none -> the ids there."""
        found, there = np.full(places.shape, -1, dtype=np.int64), places >= 0
        seen = places[there]
        found[there] = self.ids[self.start[seen >> OFFSET_BITS] + (seen & (2**OFFSET_BITS - 1))]
        return found


def map_codes(path: Path, sizes: NDArray[np.int64], start: NDArray[np.int64], width: int) -> Any:
    """The file of codes, the size of each list and the row at which it begins -> faiss's lists. They have no ids."""
    lists: Any = faiss.OnDiskInvertedLists()
    lists.nlist, lists.code_size, lists.filename, lists.read_only = len(sizes), width, str(path), True
    lists.totsize = path.stat().st_size
    table = np.stack([sizes, sizes, start[:-1] * width], axis=1).astype(np.uint64)  # size, capacity and offset of each
    lists.lists.resize(len(sizes))
    ctypes.memmove(int(lists.lists.data().this), table.ctypes.data, table.nbytes)
    lists.do_mmap()
    lists.this.disown()
    return lists
