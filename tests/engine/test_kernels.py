"""Side by side, workers compute on one thread each, and everything is as before afterwards."""

import threading

import cv2
import faiss
import pytest
import threadpoolctl

from matcher.engine.kernels import available_cores, single_thread_here, single_threaded_kernels


def threads() -> list[int]:
    return [cv2.getNumThreads(), *(pool["num_threads"] for pool in threadpoolctl.threadpool_info())]


def test_one_thread_inside_and_as_before_outside():
    cv2.setNumThreads(2)
    with threadpoolctl.threadpool_limits(2):
        before = threads()
        assert max(before) == 2
        with single_threaded_kernels():
            assert set(threads()) == {1}
        assert threads() == before
        with pytest.raises(ZeroDivisionError), single_threaded_kernels():
            raise ZeroDivisionError
        assert threads() == before


def test_blocks_that_overlap_on_two_threads_leave_all_as_before():
    cv2.setNumThreads(2)
    first_is_in, second_is_in = threading.Event(), threading.Event()

    def first():
        with single_threaded_kernels():
            first_is_in.set()
            second_is_in.wait(10)

    with threadpoolctl.threadpool_limits(2):
        before = threads()
        thread = threading.Thread(target=first)
        thread.start()
        first_is_in.wait(10)
        with single_threaded_kernels():
            second_is_in.set()
            thread.join()
            assert cv2.getNumThreads() == 1  # the first to come in has left
        assert threads() == before


def test_a_worker_thread_starts_no_openmp_threads():
    seen = []

    def work():
        faiss.omp_set_num_threads(2)
        single_thread_here()
        seen.append(faiss.omp_get_max_threads())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [1]


def test_there_is_a_core():
    assert available_cores() >= 1
