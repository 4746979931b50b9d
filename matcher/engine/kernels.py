"""Workers times kernel threads should not exceed the cores: while shards run side by side, each computes on one thread."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import threadpoolctl


def available_cores() -> int:
    """How many cores this process may use, 1 or more."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def single_threaded_kernels() -> Iterator[None]:
    """OpenCV, BLAS and OpenMP compute on the calling thread only; as before when the block ends.

    OpenMP (faiss, torch) keeps its number for each thread: a worker thread also calls :func:`single_thread_here` once.
    """
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpoolctl.threadpool_limits(limits=1):
            yield
    finally:
        cv2.setNumThreads(before)


def single_thread_here() -> None:
    """The calling thread starts no OpenMP threads from now on."""
    threadpoolctl.threadpool_limits(limits=1, user_api="openmp")
