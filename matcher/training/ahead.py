"""Batches made in a process of their own while the last one is trained on: for trainings on the CPU, whose cores would else take turns."""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.queues import Queue
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from matcher.training.sampling import Draw, Draws

log = logging.getLogger("matcher")
WAITING = 4  # batches that may be ready before they are wanted


class Ahead(IterableDataset[Any]):
    """Draws -> what is made of each, in their order: the same batches as without it."""

    def __init__(self, draws: Draws, make: Callable[[Draw, int], Any]) -> None:
        self.draws, self.make = draws, make  # make: draw, number of the step -> batch

    def __iter__(self) -> Iterator[Any]:
        yield from (self.make(draw, step) for step, draw in enumerate(self.draws, start=self.draws.first()))


def load_ahead(draws: Draws, make: Callable[[Draw, int], Any]) -> DataLoader[Any]:
    """A loader that makes batches on one core beside the training, which gets them through shared memory."""
    ending = multiprocessing.get_context("fork").Value("b", 0, lock=False)
    atexit.register(setattr, ending, "value", 1)  # before multiprocessing asks what is left to end, and waits for it
    return DataLoader(
        Ahead(draws, make),
        batch_size=None,
        num_workers=1,
        prefetch_factor=WAITING,
        multiprocessing_context="fork",  # the photos lie in memory already
        worker_init_fn=partial(leave_stopping, ending),
    )


def leave_stopping(ending: Any, worker: int) -> None:
    """Signals may reach every process of a terminal or a job: the training stops after its step, and ends this process then.

    A batch that cannot be handed over ends it too: the training would wait for it for ever.
    ``ending``: its value is 1 once the process of the training comes to its end, after an error too; then SIGTERM is meant.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0) if ending.value else None)
    Queue._on_queue_feeder_error = staticmethod(give_up)  # type: ignore[attr-defined]


def give_up(error: Exception, batch: Any) -> None:
    """What multiprocessing calls, in a thread, when a batch did not fit into shared memory."""
    log.error("a batch made ahead could not be handed over: %s (is shared memory full? df -h /dev/shm; or say --data.ahead false)", error)
    os._exit(1)
