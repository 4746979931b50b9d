"""What a descriptor computes on the way to its row."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from matcher.models.descriptor import Descriptor
from matcher.models.heads import NECK_LAYERS


class Rows(NamedTuple):
    """Rows of one batch of pictures."""

    pooled: Tensor  # (A, width)
    neck: Tensor  # (A, neck); the pooled rows where the descriptor has no neck
    narrow: Tensor  # (A, D), before it is scaled
    unit: Tensor  # (A, D) float32 on the unit sphere: the descriptors


Reader = Callable[[Descriptor, Tensor], Rows]


def read_rows(model: Descriptor, pictures: Tensor) -> Rows:
    """Pictures (A, 3, S, S) -> their rows."""
    pooled = neck = narrow = model.pool(pictures)
    if model.head is not None:
        neck = model.head[:NECK_LAYERS](pooled) if model.neck else pooled
        narrow = model.head[NECK_LAYERS:](neck) if model.neck else model.head(pooled)
    return Rows(pooled, neck, narrow, normalize(narrow.float(), dim=-1))


def reader(compiled: bool) -> Reader:
    """``read_rows``, compiled or not."""
    return torch.compile(read_rows) if compiled else read_rows
