"""What several processes share travels in one file, and its arrays stay there."""

import numpy as np
import pytest

from matcher.engine.parcel import receive, sent
from matcher.errors import MatcherError


def test_everything_comes_back_and_the_file_goes(tmp_path):
    arrays = [np.arange(7, dtype=np.uint8), np.eye(3), np.empty((0, 4), np.float32), np.arange(24).reshape(2, 3, 4)[:, ::2]]
    factor = 3
    with sent((arrays, lambda x: factor * x, "text"), tmp_path) as path:
        found, work, text = receive(path)
        assert all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(arrays, found, strict=True))
        assert work(14) == 42 and text == "text"
        assert all(array.ctypes.data % 64 == 0 for array in found[:2])
    assert list(tmp_path.iterdir()) == []
    assert found[1].sum() == 3  # what is mapped stays readable


def test_arrays_are_mapped_not_copied(tmp_path):
    with sent(np.zeros(10**6), tmp_path) as path:
        array = receive(path)
        assert not array.flags.writeable and not array.flags.owndata
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        assert path.stat().st_size < 8 * 10**6 + 1000


def test_a_disk_that_refuses_is_told(tmp_path):
    with pytest.raises(MatcherError, match=r"cannot write .*gone.*: No such file or directory"), sent(np.zeros(10), tmp_path / "gone"):
        pass


def test_what_a_killed_process_left_is_temporary(tmp_path):
    from matcher.storage.aside import remove_temporaries

    with sent("x", tmp_path):
        remove_temporaries(tmp_path)
        assert list(tmp_path.iterdir()) == []
