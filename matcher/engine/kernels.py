"""Workers times kernel threads should not exceed the cores: while shards run side by side, each computes on one thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import threadpoolctl


def available_cores() -> int:
    """How many cores this process may use, 1 or more."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Limits:
    """How many threads OpenCV and a BLAS with threads of its own take while any thread of the process is in a block.

    The first block in sets it, the last one out sets it back.
    """

    def __init__(self) -> None:
        self.guard, self.blocks, self.undo = threading.Lock(), 0, ExitStack()

    def enter(self) -> None:
        import cv2

        with self.guard:
            if self.blocks == 0:
                self.undo.callback(cv2.setNumThreads, cv2.getNumThreads())
                cv2.setNumThreads(1)
                self.undo.enter_context(threadpoolctl.ThreadpoolController().select(threading_layer="pthreads").limit(limits=1))
            self.blocks += 1

    def leave(self) -> None:
        with self.guard:
            self.blocks -= 1
            if self.blocks == 0:
                self.undo.close()


_limits = Limits()


@contextmanager
def single_threaded_kernels() -> Iterator[None]:
    """OpenCV, BLAS and OpenMP compute on the calling thread only; as before when the block ends, and all others on other threads.

    OpenMP (faiss, torch) keeps its number for each thread: a worker thread also calls :func:`single_thread_here` once.
    """
    _limits.enter()
    try:
        own = threadpoolctl.ThreadpoolController().select(user_api="openmp", threading_layer=["openmp", "gnu", "intel"])
        with own.limit(limits=1):
            yield
    finally:
        _limits.leave()


def single_thread_here() -> None:
    """The calling thread starts no OpenMP threads from now on."""
    threadpoolctl.threadpool_limits(limits=1, user_api="openmp")
