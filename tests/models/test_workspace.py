import threading

import numpy as np

from matcher.models.workspace import room


def test_the_same_name_gives_the_same_memory_in_any_shape():
    first = room("test", (4, 6))
    assert first.shape == (4, 6) and first.dtype == np.float32
    assert np.shares_memory(first, room("test", (3, 5))) and room("test", (3, 5)).flags.c_contiguous
    assert not np.shares_memory(first, room("other", (4, 6))) and not np.shares_memory(first, room("test", (4, 6), np.uint8))
    assert room("test", (100, 100)).shape == (100, 100)


def test_another_thread_has_its_own():
    mine, theirs = room("test", (8,)), []
    thread = threading.Thread(target=lambda: theirs.append(room("test", (8,))))
    thread.start()
    thread.join()
    assert not np.shares_memory(mine, theirs[0])
