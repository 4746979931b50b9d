"""Shards of a stage on the threads of this machine. The heavy calls (OpenCV, NumPy, Pillow, torch) let other threads run."""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from itertools import islice
from typing import Any, Generic, TypeVar

from matcher.engine.kernels import available_cores, single_thread_here, single_threaded_kernels
from matcher.engine.progress import progress
from matcher.storage.records import Extra
from matcher.storage.stage import Stage
from matcher.types import Errors, Record

R = TypeVar("R", bound=Record)
Work = Callable[[range], R | tuple[R, Errors] | tuple[R, Errors, Extra]]
log = logging.getLogger("matcher")

SECONDS_TO_FINISH = 1.0  # after Ctrl-C shards in flight may end by themselves for so long
SECONDS_TO_STOP = 5.0  # and have so long to leave the call they are in, once told to stop


class Abandoned(BaseException):
    """Raised inside the work of a shard that nobody waits for any more."""


def run_shards(stage: Stage[R], work: Work[R], *, workers: int = 0, label: str = "") -> None:
    """Stage and the work on a range of its items -> every shard of the stage done, each written as soon as it is computed.

    ``work`` returns the record, or record and bad items, or these and the user's columns; it runs on several threads
    at once. The files do not depend on ``workers`` (0 = all cores). Shards that are done already are not computed.
    An exception in a shard is raised as it is, with a note that names the items; Ctrl-C raises KeyboardInterrupt
    within seconds. After either, the finished shards stay.
    """
    pending, label = stage.pending(), label or stage.folder.name
    left = sum(len(stage.shard(number)) for number in pending)
    workers = max(1, min(workers or available_cores(), len(pending)))
    several = workers > 1
    with (
        progress(label, stage.items, done=stage.items - left) as advance,
        single_threaded_kernels() if several else nullcontext(),
    ):
        crew = Crew(stage, work, workers, initializer=single_thread_here if several else None)
        try:
            for number in crew.finish(pending):
                advance(len(stage.shard(number)))
        except KeyboardInterrupt:
            log.info("%s: stopping; finished shards are kept", label)
            crew.abandon()
            raise
        finally:
            crew.pool.shutdown(wait=False, cancel_futures=True)


def write_shard(stage: Stage[R], work: Work[R], number: int) -> None:
    """Stage, the work and the number of a shard -> the shard done. An exception gets a note that names the items."""
    items = stage.shard(number)
    try:
        result: Any = work(items)
        stage.write(number, *(result if isinstance(result, tuple) else (result,)))
    except Exception as error:
        error.add_note(f"in {stage.folder}, shard {number} (items {items.start} to {items.stop - 1})")
        raise


class Crew(Generic[R]):
    """Threads that work on the shards of one stage."""

    def __init__(self, stage: Stage[R], work: Work[R], workers: int, *, initializer: Callable[[], None] | None) -> None:
        self.stage, self.work, self.ahead = stage, work, 2 * workers
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix=stage.folder.name, initializer=initializer)
        self.flying: dict[Future[None], int] = {}  # future -> number of its shard
        self.busy: set[int] = set()  # ids of the threads inside a shard
        self.gate = threading.Lock()  # held to change busy, and to stop those in it
        self.is_abandoned = False

    def finish(self, numbers: list[int]) -> Iterator[int]:
        """Numbers of shards -> the same numbers as they get done; at most 2 shards a worker are handed out at a time.

        If one fails, those in flight still come to their end before its exception is raised.
        """
        todo, failed = iter(numbers), None
        while True:
            for number in islice(todo, 0 if failed is not None else self.ahead - len(self.flying)):
                self.flying[self.pool.submit(self.one, number)] = number
            if not self.flying:
                break
            ended, _ = wait(self.flying, return_when=FIRST_COMPLETED)
            for future in sorted(ended, key=self.flying.__getitem__):
                number = self.flying.pop(future)
                if (error := future.exception()) is not None:
                    failed = error if failed is None else failed
                    self.recall()
                else:
                    yield number
        if failed is not None:
            raise failed

    def recall(self) -> None:
        """Take back the shards that no thread has begun."""
        for future in [future for future in self.flying if future.cancel()]:
            del self.flying[future]

    def one(self, number: int) -> None:
        """Compute a shard and write it."""
        with self.gate:
            if self.is_abandoned:
                return
            self.busy.add(threading.get_ident())
        try:
            write_shard(self.stage, self.work, number)
        finally:
            with self.gate:
                self.busy.discard(threading.get_ident())

    def abandon(self) -> None:
        """Let the shards in flight end for a moment, then stop them at their next line of Python."""
        self.recall()
        try:
            wait(self.flying, timeout=SECONDS_TO_FINISH)
        finally:
            with self.gate:
                self.is_abandoned = True
                for thread in self.busy:
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Abandoned))
            wait(self.flying, timeout=SECONDS_TO_STOP)
