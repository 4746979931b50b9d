"""Rows searched on a GPU: by faiss where faiss-gpu is installed, else, of the exact kinds, by products of torch.

Both look at every row. Bytes give the same bits as on the CPU: products of 128 of them are integers below 2 ** 24, which float32
holds exactly, and half precision every byte. Of other rows the last digits depend on the order in which a device adds up, and
faiss compares rows in half precision with queries in half precision too.
"""

from __future__ import annotations

from functools import cache
from threading import Lock
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from matcher.errors import MatcherError
from matcher.index_card import Card
from matcher.models.device import torch_sees_gpu
from matcher.settings import IndexSettings

EXACT = ("flat", "fp16")  # kinds that look at every row: a product
OF_FAISS = (*EXACT, "ivf", "ivfpq")  # kinds that faiss knows on a GPU
NEIGHBOURS = 2048  # faiss gives no more on a GPU
BLOCK = 2**17  # rows at a time
AT_ONCE = 2**26  # products held on the device
TURNS = Lock()  # threads take turns: faiss allows no two at once on one GPU, in whichever index


def sees_gpu(stored: str) -> bool:
    """Whether an index of this kind can be searched on a GPU here."""
    return (stored in OF_FAISS and faiss_gpus() > 0) or (stored in EXACT and torch_sees_gpu())


def check_gpu(settings: IndexSettings, stored: str | None = None) -> None:
    """MatcherError if an index must be searched on a GPU and cannot. ``stored``: the kind it has, if not the one asked for."""
    kind = stored or settings.kind
    if settings.gpu != "yes" or (sees_gpu(kind) and not settings.on_disk):
        return
    if settings.on_disk:
        why = "lists on disk are searched on the CPU"
    elif kind in EXACT:
        why = "neither faiss nor torch sees a GPU"
    else:
        why = "faiss, which searches its lists, sees no GPU" if kind in OF_FAISS else f"an index of kind {kind} is searched on the CPU"
    raise MatcherError(f"index.gpu is yes, but {why}: set index.gpu to auto, or ask matcher doctor")


def faiss_gpus() -> int:
    """GPUs that the installed faiss can use."""
    return faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0


@cache
def resources() -> Any:
    """Memory for faiss to compute in, which all indexes share: it takes over a gigabyte each time."""
    return faiss.StandardGpuResources()


def on_gpu(searcher: Any, card: Card) -> Any:
    """A faiss index -> a copy on the first GPU, with the same ``search``. RuntimeError where the GPU cannot keep it."""
    if not faiss_gpus():
        return Products(searcher, card, "cuda")
    options = faiss.GpuClonerOptions()
    options.useFloat16 = card.stored == "fp16"
    if card.stored == "fp16":  # faiss has no scalar quantizer there, but flat rows in half precision
        flat = faiss.IndexIDMap2(faiss.IndexFlatIP(card.dim))
        flat.add_with_ids(searcher.index.reconstruct_n(0, searcher.ntotal), faiss.vector_to_array(searcher.id_map))
        searcher = flat
    return faiss.index_cpu_to_gpu(resources(), 0, searcher, options)


class Products:
    """The rows of a flat faiss index with ids, on a device of torch in as few bytes as keep them exactly."""

    def __init__(self, searcher: Any, card: Card, device: str) -> None:
        import torch

        self.device = device
        self.ids: NDArray[np.int64] = faiss.vector_to_array(searcher.id_map)
        dtype = torch.uint8 if card.dtype == "uint8" else torch.float16 if card.stored == "fp16" else torch.float32
        starts = range(0, searcher.ntotal, BLOCK)
        rows = (searcher.index.reconstruct_n(start, min(BLOCK, searcher.ntotal - start)) for start in starts)
        self.blocks = [torch.from_numpy(block).to(dtype).to(device) for block in rows]

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Queries (Q, D) -> inner products (Q, k), falling, and ids (Q, k), -1 = none."""
        similarity = np.full((len(queries), k), -np.inf, dtype=np.float32)
        ids = np.full((len(queries), k), -1, dtype=np.int64)
        if not self.blocks:
            return similarity, ids
        import torch

        step = max(1, AT_ONCE // len(self.blocks[0]))
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            near, place = self.nearest(torch.from_numpy(queries[part]).to(self.device), k)
            similarity[part, : near.shape[1]], ids[part, : near.shape[1]] = near.cpu().numpy(), self.ids[place.cpu().numpy()]
        return similarity, ids

    def nearest(self, queries: Any, k: int) -> tuple[Any, Any]:
        """Queries on the device -> products with the k nearest rows, or all, and their places."""
        import torch

        start = 0
        near = torch.empty((len(queries), 0), device=self.device)
        place = torch.empty((len(queries), 0), dtype=torch.int64, device=self.device)
        for block in self.blocks:
            found, where = (queries @ block.to(queries.dtype).T).topk(min(k, len(block)), dim=1)
            near, place = torch.cat([near, found], dim=1), torch.cat([place, where + start], dim=1)
            near, best = near.topk(min(k, near.shape[1]), dim=1)
            place, start = place.gather(1, best), start + len(block)
        return near, place
