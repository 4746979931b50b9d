"""Several processes train as one (Lightning's ddp): each sends its own part of a batch through the network, and sees all rows.

Every process draws the whole batch and makes all of its views, so edits and mixtures are those of a training on one device. The
network, which costs most, sees the process's own part only. Without several processes nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, distributed

from matcher.errors import MatcherError

T = TypeVar("T")
Group: TypeAlias = "distributed.ProcessGroup | None"  # which processes; None = all, as Lightning made them known to each other
PATIENCE = timedelta(days=30)


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


def collect(item: T, group: Group = None) -> list[T]:
    """Something that can be pickled -> in the first process that of all, in their order; in the others nothing."""
    rank, world = process()
    if world == 1:
        return [item]
    found: list[Any] | None = [None] * world if rank == 0 else None
    with meeting():
        distributed.gather_object(item, found, group=group)
    return found or []


def hand_out(item: T, group: Group = None) -> T:
    """Something that can be pickled -> what the first process gave."""
    given = [item]
    if process()[1] > 1:
        with meeting():
            distributed.broadcast_object_list(given, group=group)
    return given[0]


def patient_group() -> Group:
    """All processes once more, who wait for each other as long as it takes, on CPUs; made by all of them at once."""
    return distributed.new_group(backend="gloo", timeout=PATIENCE) if process()[1] > 1 else None


@contextmanager
def meeting() -> Iterator[None]:
    """What all processes do together in the block -> MatcherError if one of them is gone."""
    try:
        yield
    except RuntimeError as error:
        raise MatcherError(
            f"another process than number {process()[0]} has ended before its work was done: start the same command again"
        ) from error


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process goes through the block alone; then the others do, and find the files that it wrote."""
    rank, world = process()
    if world > 1 and rank:
        distributed.barrier()
    yield
    if world > 1 and not rank:
        distributed.barrier()
