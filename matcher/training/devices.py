"""Several processes train as one (Lightning's ddp): each sends its own part of a batch through the network, and sees all rows.

Every process draws the whole batch and makes all of its views, so edits and mixtures are those of a training on one device. The
network, which costs most, sees the process's own part only. Without several processes nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


def process() -> tuple[int, int]:
    """Number of this process, and how many there are: 0 and 1 outside of a training on several devices."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def own_part(count: int) -> slice:
    """Rows of a batch, a multiple of the processes -> those of this process: the parts lie side by side."""
    rank, world = process()
    return slice(rank * count // world, (rank + 1) * count // world)


def gather(rows: Tensor) -> Tensor:
    """Rows (B / processes, ...) of this process -> the rows (B, ...) of all, in their order.

    The gradient of a loss that every process takes of all rows comes back to each process's own, summed over the processes, so
    that ddp's mean over them is the gradient of that loss.
    """
    return rows if process()[1] == 1 else Gather.apply(rows.contiguous())


class Gather(torch.autograd.Function):
    """Rows of all processes; their gradients are summed."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        found = [torch.empty_like(rows) for _ in range(process()[1])]
        distributed.all_gather(found, rows)
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total[own_part(len(total))]


def collect(item: T) -> list[T]:
    """Something that can be pickled -> in the first process that of all, in their order; in the others nothing."""
    rank, world = process()
    if world == 1:
        return [item]
    found: list[Any] | None = [None] * world if rank == 0 else None
    distributed.gather_object(item, found)
    return found or []


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process goes through the block alone; then the others do, and find the files that it wrote."""
    rank, world = process()
    if world > 1 and rank:
        distributed.barrier()
    yield
    if world > 1 and not rank:
        distributed.barrier()
