"""Shards of a stage in processes of this machine (loky), for work that spends much of its time in Python: threads take turns there.

The processes stay for the next stage. What the work needs is written to a file once and mapped by all of them, so that its arrays are
in memory once.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic

import cv2
from loky import get_reusable_executor

from matcher.engine.local import SECONDS_TO_FINISH, R, Work, write_shard
from matcher.engine.parcel import receive, sent
from matcher.engine.progress import progress
from matcher.errors import MatcherError
from matcher.storage.aside import remove_temporaries
from matcher.storage.stage import Stage

RETRIES = 2  # of a shard whose process died
LOOK = 0.3  # seconds between looks at whether the process that began it is there
IDLE = 60  # seconds after which a process without work ends
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
KEPT = {"LOKY_MAX_MEMORY_LEAK_SIZE": "1e18"}  # bytes; else loky takes an index that is looked into for a leak, and ends the process
log = logging.getLogger("matcher")


def run_shards(stage: Stage[R], work: Work[R], *, workers: int, label: str = "") -> None:
    """Stage and the work on a range of its items -> every shard of the stage done, as ``engine.local`` does it on threads.

    ``work`` goes to every process by cloudpickle; what it holds in a ``Once`` is made there. A shard whose process died is computed
    again by another; MatcherError if that happened three times.
    """
    pending, label = stage.pending(), label or stage.folder.name
    left = sum(len(stage.shard(number)) for number in pending)
    with progress(label, stage.items, done=stage.items - left) as advance, sent((stage, work), stage.folder) as parcel:
        crew = Crew(stage, parcel, workers)
        try:
            for number in crew.finish(pending):
                advance(len(stage.shard(number)))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                log.info("%s: stopping; finished shards are kept", label)
            crew.abandon()
            raise
        finally:
            remove_temporaries(stage.folder)  # of processes that died


class Crew(Generic[R]):
    """Processes that work on the shards of one stage."""

    def __init__(self, stage: Stage[R], parcel: Path, workers: int) -> None:
        self.stage, self.parcel, self.workers = stage, parcel, workers
        self.crew: Any = None  # loky's
        self.flying: dict[Future[None], int] = {}  # future -> number of its shard
        self.deaths: Counter[int] = Counter()  # number of a shard -> processes that died while it was handed out

    def finish(self, numbers: list[int]) -> Iterator[int]:
        """Numbers of shards -> the same numbers as they get done; at most 2 shards a process are handed out at a time.

        If one fails, those in flight still come to their end before its exception is raised.
        """
        todo = deque(numbers)
        failed: BaseException | None = None
        while self.flying or (todo and failed is None):
            while todo and failed is None and len(self.flying) < 2 * self.workers:
                self.hand_out(todo.popleft())
            ended, _ = wait(self.flying, return_when=FIRST_COMPLETED)
            for future in sorted(ended, key=self.flying.__getitem__):
                number, error = self.flying.pop(future), future.exception()
                if isinstance(error, BrokenProcessPool):
                    self.deaths[number] += 1
                    failed = failed or (self.told(number) if self.deaths[number] > RETRIES else None)
                    todo.appendleft(number)
                elif error is not None:
                    failed = failed or error
                    self.recall()
                else:
                    yield number
        if failed is not None:
            raise failed

    def hand_out(self, number: int) -> None:
        """To a process that is up, or to new ones if one has just died."""
        for last in (False,) * RETRIES + (True,):
            try:
                with unheard(signal.SIGINT):
                    self.crew = begin(self.workers)
                    self.flying[self.crew.submit(compute, os.getcwd(), self.parcel, number)] = number
                return
            except BrokenProcessPool as error:
                if last:
                    raise self.told(number) from error

    def told(self, number: int) -> MatcherError:
        items = self.stage.shard(number)
        where = f"{self.stage.folder}: shard {number} (items {items.start} to {items.stop - 1}), or one beside it,"
        return MatcherError(f"{where} ended its process {RETRIES + 1} times (out of memory?): try --workers 1")

    def recall(self) -> None:
        """Take back the shards that no process has begun."""
        for future in [future for future in self.flying if future.cancel()]:
            del self.flying[future]

    def abandon(self) -> None:
        """Let the shards in flight end for a moment, then end the processes."""
        self.recall()
        try:
            wait(self.flying, timeout=SECONDS_TO_FINISH)
        finally:
            if self.crew is not None:
                self.crew.shutdown(wait=True, kill_workers=True)


def begin(workers: int) -> Any:
    """The processes that are up if they are as many, else new ones: loky's executor.

    It would add or end some where the number differs, and wait for ever if one of them has just died: ``initargs`` that differ end all.
    """
    arguments = (os.getpid(), workers)
    return get_reusable_executor(workers, timeout=IDLE, kill_workers=True, initializer=prepare, initargs=arguments, env=ONE_THREAD | KEPT)


@contextmanager
def unheard(number: signal.Signals) -> Iterator[None]:
    """Processes that are begun in this block ignore the signal, also while they import: it is for this one to hear."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


def prepare(boss: int, beside: int) -> None:
    """In a process, first of all: it works for the process ``boss``, as one of ``beside``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    threading.Thread(target=end_with, args=(boss,), daemon=True).start()


def end_with(boss: int) -> None:
    """End this process as soon as the one that began it has: what it would write is for the next run to write."""
    while os.getppid() == boss:
        time.sleep(LOOK)
    os._exit(1)


_at_hand: dict[Path, tuple[Stage[Any], Work[Any]]] = {}  # in a process: parcel -> stage and work, of the last stage it worked on


def compute(folder: str, parcel: Path, number: int) -> None:
    """In a process: compute a shard and write it. What the first one leaves in memory serves the others: it holds no garbage.

    Loky collects garbage every second, and would look through all of it each time.
    """
    os.chdir(folder)
    if is_new := parcel not in _at_hand:
        _at_hand.clear()
        gc.unfreeze()
        _at_hand[parcel] = receive(parcel)
    write_shard(*_at_hand[parcel], number)
    if is_new:
        gc.freeze()
