"""faiss behind one name: rows and their ids go in, nearest rows come out; bigger is closer."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import faiss
import numpy as np
from numpy.typing import ArrayLike, NDArray

from matcher.errors import MatcherError, UsageError
from matcher.index_card import (
    AGAIN,
    CARD_FILE,
    Card,
    check_numbers,
    check_rows,
    check_same_maker,
    digest,
    digest_file,
    read_card,
    write_card,
)
from matcher.index_gpu import NEIGHBOURS, TURNS, check_gpu, on_gpu, sees_gpu
from matcher.index_kinds import CODED, LISTS, SIGNS, copied, new_index, stored_ids, stored_rows, without_rows
from matcher.index_lists import LIST_FILES, MappedLists, search_by_list, write_lists
from matcher.index_ties import ABSENT, Drop, Found, search_settled
from matcher.settings import IndexSettings
from matcher.storage.aside import remove_temporaries, write_aside
from matcher.storage.lock import hold

logger = logging.getLogger("matcher")

CHUNK = 65_536  # rows turned to float32 at a time
INDEX_FILE, NAMES_FILE = "index.faiss", "names.json"
if (
    (simd := getattr(faiss, "SIMDConfig", None))
    and simd.get_level_name() == "AVX512_SPR"
    and simd.is_simd_level_available(faiss.SIMDLevel_AVX512)
):
    simd.set_level(faiss.SIMDLevel_AVX512)  # faiss 1.15.1 compares bytes 1.2 times as fast there, to the same bits
# Fewer rows at a time, whose products with all lists' centroids stay in a core's own memory: an index is built in 0.9 of the time.
faiss.cvar.distance_compute_blas_query_bs, faiss.cvar.distance_compute_blas_database_bs = 512, 2048


class Index:
    """Nearest rows by inner product. Made with :meth:`build` or :meth:`load`.

    Rows are (N, D) float32 of unit norm or (N, D) uint8 of norm about 255; queries must be of the same sort. The
    similarity of uint8 rows is divided by 255 ** 2, so it is a cosine for both; of sign bits it is estimated (Card.similarity).
    Ids are integers from 0, or texts; an id may occur once. Searching from several threads is safe, changing the index
    meanwhile is not.
    """

    def __init__(self, searcher: Any, card: Card, names: list[str] | None = None, *, read_only: bool = False) -> None:
        self.card = card
        self._searcher, self._read_only = searcher, read_only
        self._gpu: Any = None  # the copy there, once something was searched
        self._names = None if names is None else np.array(names, dtype=np.str_)  # text of id i, for indexes with text ids
        check_gpu(card.settings, card.stored)

    @classmethod
    def build(
        cls, rows: ArrayLike, ids: ArrayLike, settings: IndexSettings, *, made_by: str, seed: int = 0, words: ArrayLike | None = None
    ) -> Self:
        """Rows (N, D) and ids (N,) -> index. ``made_by`` names the model and settings that made the rows.

        ``words`` (W, D) float32 are centroids that take the place of those that kind words learns from the rows.
        """
        array = np.asarray(rows)
        check_rows(array, dim=None, dtype=None)
        if words is not None and settings.kind != "words":
            raise UsageError(f"an index of kind {settings.kind} takes no words: set index.kind to words")
        searcher, stored = new_index(array, settings, seed=seed, words=None if words is None else np.asarray(words, dtype=np.float32))
        dtype = "uint8" if array.dtype == np.uint8 else "float32"
        card = Card(made_by, settings, stored, int(array.shape[1]), dtype, digest(faiss.serialize_index(searcher).tobytes()))
        index = cls(searcher, card, [] if np.asarray(ids).dtype.kind == "U" else None)
        index.add(array, ids)
        return index

    @cached_property
    def _ids(self) -> NDArray[np.int64]:
        """faiss's numbers of all rows, rising (N,)."""
        return np.sort(stored_ids(self._searcher))

    def __len__(self) -> int:
        return int(self._searcher.ntotal)

    def search(self, rows: ArrayLike, k: int, *, drop: Drop | None = None) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Queries (Q, D) -> similarity (Q, k) float32, falling, and ids (Q, k); ties in the order of the ids.

        Where there are fewer than k neighbours, the similarity is -inf and the id ABSENT ("" for text ids). ``drop`` says which
        ids (N,) are no neighbours; ABSENT may be among those it is asked about.
        """
        queries = np.asarray(rows)
        check_rows(queries, dim=self.card.dim, dtype=self.card.dtype)
        if k < 1:
            raise ValueError(f"search needs k >= 1, got {k}")
        similarity, ids = search_settled(self._look, queries, k, rows=len(self), drop=drop, often=self.card.stored in SIGNS)
        return similarity, ids if self._names is None else np.append(self._names, "")[np.where(ids == ABSENT, -1, ids)]

    def _look(self, queries: NDArray[Any], k: int) -> Found:
        """Queries (Q, D) -> similarity and faiss's numbers of any of their k nearest rows, (Q, k) each."""
        similarity = np.empty((len(queries), k), dtype=np.float32)
        ids = np.empty((len(queries), k), dtype=np.int64)
        for start in range(0, len(queries), CHUNK):
            part = slice(start, start + CHUNK)
            found, found_ids = self._search_somewhere(np.ascontiguousarray(queries[part], dtype=np.float32), k)
            similarity[part] = np.where(found_ids < 0, -np.inf, self.card.similarity(found))
            ids[part] = np.where(found_ids < 0, ABSENT, found_ids)
        return similarity, ids

    def add(self, rows: ArrayLike, ids: ArrayLike) -> None:
        """Rows (N, D) under new ids (N,). MatcherError if an id is there already."""
        array, numbers = np.asarray(rows), self._new_numbers(np.asarray(ids))
        check_rows(array, dim=self.card.dim, dtype=self.card.dtype)
        if numbers.shape != (len(array),):
            raise ValueError(f"add needs one id a row, got {numbers.shape} ids for {len(array)} rows")
        self._check_writable()
        for start in range(0, len(array), CHUNK):
            part = slice(start, start + CHUNK)
            self._searcher.add_with_ids(np.ascontiguousarray(array[part], dtype=np.float32), numbers[part])
        if self._names is not None:
            self._names = np.append(self._names, np.asarray(ids, dtype=np.str_))
        self._ids, self._gpu = np.sort(np.append(self._ids, numbers)), None

    def remove(self, ids: ArrayLike) -> None:
        """Takes the rows with these ids (N,) out. MatcherError if one is not there."""
        numbers = self._numbers(np.asarray(ids))
        self._check_writable()
        self._searcher.remove_ids(numbers)
        self._ids, self._gpu = np.setdiff1d(self._ids, numbers), None

    def merge(self, other: Index) -> None:
        """Adds the rows of another index; no id may be in both.

        Lists learnt together (see :meth:`emptied`) are joined, other rows are added anew. Codes (ivfpq, binary, words) keep too
        little of a row for that: such indexes must have been learnt together.
        """
        check_same_maker(other.card.made_by, self.card.made_by, "the index to merge")
        ids, numbers = other.ids(), other._ids
        rows = other._searcher.in_memory() if isinstance(other._searcher, MappedLists) else other._searcher
        together = other.card.training == self.card.training and self.card.stored in LISTS
        if together and self._names is None:
            self._check_writable()
            self._new_numbers(ids)
            self._searcher.merge_from(copied(rows), 0)
            self._ids, self._gpu = np.sort(np.append(self._ids, ids)), None
        elif other.card.stored in CODED:
            how = "only with integer ids, and if one began as emptied() of the other"
            raise MatcherError(f"{other.card.stored} indexes can be merged {how}")
        elif len(other):
            self.add(stored_rows(rows, numbers).astype(other.card.dtype), ids)

    def emptied(self) -> Index:
        """An index without rows that has learnt what this one has: fill it elsewhere, then merge, or search both (index_shards.py)."""
        learnt = self._searcher.searcher if isinstance(self._searcher, MappedLists) else self._searcher
        with without_rows(learnt):
            searcher = copied(learnt)
        searcher.reset()
        return Index(searcher, self.card, None if self._names is None else [])

    def made_for(self, made_by: str) -> Index:
        """The same index, to be filled with rows that another maker made."""
        return Index(self._searcher, replace(self.card, made_by=made_by), None if self._names is None else self._names.tolist())

    @property
    def lists(self) -> int:
        """Inverted lists; 1 if its kind has none."""
        return int(self._searcher.nlist) if self.card.stored in LISTS else 1

    @property
    def inverted_file(self) -> Any:
        """faiss's own index, for what only its kind can say. MatcherError where its ids are not those of this index."""
        if self._names is not None:
            raise MatcherError("this index has texts as ids: give its rows integers")
        return self._searcher

    def ids(self) -> NDArray[Any]:
        """The ids of all rows (N,)."""
        return self._ids.copy() if self._names is None else self._names[self._ids]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the index, its text ids if it has any, and last the card with their checksums.

        MatcherError if the disk refuses, or if another process writes there.
        """
        self._check_writable()
        place = Path(folder)
        try:
            place.mkdir(parents=True, exist_ok=True)
            lock = hold(place)
            (place / CARD_FILE).unlink(missing_ok=True)
        except OSError as error:
            raise MatcherError(f"cannot write the index in {place}: {error.strerror}") from error
        remove_temporaries(place)
        files = [INDEX_FILE]
        if self.card.settings.on_disk and self.card.stored in LISTS:
            files += LIST_FILES
            write_lists(self._searcher, place)
            with without_rows(self._searcher):
                self._write_searcher(place / INDEX_FILE)
        else:
            self._write_searcher(place / INDEX_FILE)
        if self._names is not None:
            with write_aside(place / NAMES_FILE) as file:
                file.write(json.dumps(self._names.tolist()).encode("ascii"))
            files.append(NAMES_FILE)
        write_card(place, self.card, rows=len(self), files=files)
        del lock

    def _write_searcher(self, path: Path) -> None:
        """Through Python's file, which tells of a full disk when it is closed too; faiss's own does not."""
        with write_aside(path) as file:
            faiss.write_index(self._searcher, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]

    @staticmethod
    def exists(folder: str | os.PathLike[str]) -> bool:
        """Was an index saved here to the end? Whose it is and whether it is sound, :meth:`load` says."""
        return (Path(folder) / CARD_FILE).is_file()

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        made_by: str,
        mapped: bool = False,
        gpu: Literal["auto", "yes", "no"] = "auto",
        remedy: str = AGAIN,
    ) -> Self:
        """Folder -> index. ``mapped``, or made with ``on_disk``: its lists stay in the file, and it can only be searched.

        ``remedy``, in brackets, is what is said of a damaged one.

        Raises:
            StaleStageError: another model or config made the rows
            MatcherError: there is no index, or a file is damaged
        """
        place = Path(folder)
        card, checksums = read_card(place, remedy)
        card = replace(card, settings=replace(card.settings, gpu=gpu))
        check_same_maker(card.made_by, made_by, f"the index in {place}")
        for name, expected in checksums.items():
            if not (place / name).is_file() or digest_file(place / name) != expected:
                raise MatcherError(f"the index in {place} is damaged: {name} is not what was written {remedy}")
        on_disk = LIST_FILES[0] in checksums
        mapped = mapped and not on_disk and card.stored in LISTS and (gpu == "no" or not sees_gpu(card.stored))
        searcher: Any = faiss.read_index(str(place / INDEX_FILE), faiss.IO_FLAG_MMAP if mapped else 0)
        if mapped:
            lists: Any = faiss.downcast_InvertedLists(searcher.invlists)
            lists.prefetch_nthread = 0  # else threads of their own read ahead in every search
        names = json.loads((place / NAMES_FILE).read_text(encoding="utf-8")) if NAMES_FILE in checksums else None
        return cls(MappedLists(searcher, place) if on_disk else searcher, card, names, read_only=on_disk or mapped)

    def _numbers(self, ids: NDArray[Any]) -> NDArray[np.int64]:
        """Ids that are there -> faiss's numbers for them (N,)."""
        if self._names is None:
            numbers = check_numbers(ids)
        else:
            present = {name: number for number, name in zip(self._ids.tolist(), self._names[self._ids].tolist(), strict=True)}
            numbers = np.array([present.get(name, -1) for name in ids.tolist()], dtype=np.int64)
        if len(missing := ids[~np.isin(numbers, self._ids)]):
            raise MatcherError(f"the index has no row with id {missing[0]!s} ({len(missing)} of the ids to remove are missing)")
        return numbers

    def _new_numbers(self, ids: NDArray[Any]) -> NDArray[np.int64]:
        """Ids that must not be there yet -> faiss's numbers for them (N,)."""
        if (self._names is None) != (ids.dtype.kind != "U") and ids.size:
            raise MatcherError(f"the index has {'integers' if self._names is None else 'texts'} as ids, got {ids.dtype}")
        known = self.ids()
        values, counts = np.unique(ids, return_counts=True)
        if len(repeated := values[(counts > 1) | np.isin(values, known)]):
            raise MatcherError(f"id {repeated[0]!s} would be in the index twice ({len(repeated)} such ids)")
        return check_numbers(ids) if self._names is None else np.arange(len(self._names), len(self._names) + len(ids), dtype=np.int64)

    def _check_writable(self) -> None:
        if self._read_only:
            raise MatcherError(
                "an index that was loaded with on_disk, or mapped, can only be searched: copy its folder, or build it again to change it"
            )

    def _fits_gpu(self) -> bool:
        """Whether it can be searched on a GPU here."""
        return not isinstance(self._searcher, MappedLists) and sees_gpu(self.card.stored)

    def _search_somewhere(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """As faiss's search: on the GPU if there is one, it is wanted and it can, else, and where its memory ends, on the CPU."""
        kind, gpu = self.card.stored, self.card.settings.gpu
        if gpu == "no" or k > NEIGHBOURS or not len(self) or self._gpu is self._searcher or not self._fits_gpu():
            return self._search_here(queries, k)
        with TURNS:
            try:
                if self._gpu is None:
                    self._gpu = on_gpu(self._searcher, self.card)
                return self._gpu.search(queries, k)
            except RuntimeError as error:
                if gpu == "yes":
                    raise MatcherError(f"index.gpu is yes, but the GPU cannot search this {kind} index: {error}") from error
                logger.info("index: searching on the CPU, the GPU cannot search this %s index (%s)", kind, error)
                self._gpu = self._searcher
        return self._search_here(queries, k)

    def _search_here(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """On the CPU."""
        if self.card.stored == "ivf" and not isinstance(self._searcher, MappedLists):
            return search_by_list(self._searcher, queries, k)
        return self._searcher.search(queries, k)

    def __getstate__(self) -> dict[str, Any]:
        """What travels to another process or is copied: all but what lies on the GPU."""
        return {**self.__dict__, "_gpu": None}
