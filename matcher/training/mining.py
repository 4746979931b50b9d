"""Which photos look alike: the groups that hard pairs are made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from matcher.models.descriptor import Descriptor
from matcher.storage.aside import write_aside

BATCH = 128
Edit = Callable[[Tensor], Tensor]  # rows (B,) -> their pictures (B, 3, P, P) float32, 0 to 1


@dataclass(frozen=True)
class Mining:
    """How neighbours are found.

    Args:
        descriptor: that looks for them: a checkpoint file, or the bare name of one in checkpoints/descriptor
        nearest: photos among which the members of a group are drawn
        same: cosine from which two photos count as one, and are never taken for strangers
        refresh: steps after which neighbours are looked for anew, among newly edited photos; 0 = once, as they are
    """

    descriptor: str = "copydetect"
    nearest: int = 24
    same: float = 0.9
    refresh: int = 0


@torch.inference_mode()
def mine(pictures: Edit, count: int, model: Descriptor, *, nearest: int, same: float) -> Tensor:
    """Photos -> for each the nearest others (N, K) int64, nearest first, without those that are the same photo: as many as each has."""
    rows = torch.cat([model(resized(pictures(torch.arange(i, min(i + BATCH, count))), model.size)) for i in range(0, count, BATCH)])
    kept = fewest = min(nearest, count - 1)
    found = []
    for start in range(0, count, 1024):
        similarity = rows[start : start + 1024] @ rows.T
        similarity.masked_fill_(similarity >= same, -1.0)  # the photo itself, too
        similarity[torch.arange(len(similarity)), torch.arange(start, start + len(similarity))] = -2.0
        values, places = similarity.topk(kept, dim=1)
        fewest = min(fewest, int((values > -1).sum(dim=1).min()))
        found.append(places)
    return torch.cat(found)[:, :fewest]


def resized(pictures: Tensor, size: int) -> Tensor:
    """(B, 3, P, P), 0 to 1 -> (B, 3, size, size)."""
    return interpolate(pictures, size=(size, size), mode="bilinear", antialias=True).clamp(0, 1)


def remember(make: Callable[[], Tensor], cache: Path | None, **made_of: object) -> Tensor:
    """Neighbours from the cache, or made and kept there; ``made_of`` says what they depend on."""
    if cache is None:
        return make()
    said = json.dumps(made_of, sort_keys=True, default=str)
    place = cache / f"neighbours-{hashlib.sha256(said.encode()).hexdigest()[:16]}.npy"
    if place.exists():
        return torch.from_numpy(np.load(place))
    found = make()
    cache.mkdir(parents=True, exist_ok=True)
    with write_aside(place) as file:
        np.save(file, found.cpu().numpy())
    return found
