"""The nearest two keypoints: exact, with ties, the same on every device and in every batch."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from matcher.errors import MatcherError
from matcher.models import device as devices
from matcher.models.device import torch_sees_gpu
from matcher.models.sift import LocalFeatures
from matcher.scoring import nearest
from matcher.scoring.nearest import choose_device, cosines, halves, nearest_two

DEVICES = ["cpu", "cpu:0", *(["cuda"] if torch.cuda.is_available() else [])]  # NumPy, torch on the CPU, torch on a GPU


def keypoints(rows):
    count = len(rows)
    place, one = np.zeros((count, 2), np.float32), np.ones(count, np.float32)
    return LocalFeatures(place, one, one, np.asarray(rows, np.uint8), np.float32([1, 1]))


def drawn(count, seed, most=120):
    return keypoints(np.random.default_rng(seed).integers(0, most, (count, 128)))


def slowly(query, reference):
    """The cosines of two sides in integers and double precision -> nearest, best, second."""
    here, there = (rows.astype(np.int64) for rows in (query.rows, reference.rows))
    norms = [np.sqrt(np.maximum((rows**2).sum(axis=1), 1)) for rows in (here, there)]
    cosine = here @ there.T / norms[0][:, None] / norms[1]
    ordered = np.sort(cosine, axis=1)
    return cosine.argmax(axis=1), ordered[:, -1], ordered[:, -2]


@pytest.mark.parametrize("device", DEVICES)
def test_it_agrees_with_a_slow_search_in_integers(device):
    query, references = drawn(60, 0), [drawn(40, 1), drawn(2, 2), drawn(75, 3)]
    for both, reference in zip(nearest_two(query, references, device), references, strict=True):
        for found, side in zip(both, (query, query.mirrored), strict=True):
            row, best, second = slowly(side, reference)
            assert np.array_equal(found.row, row)
            assert np.allclose(found.best, best, atol=1e-6) and np.allclose(found.second, second, atol=1e-6)
            assert np.array_equal(found.best, cosines(side.rows, reference.rows[found.row]))


@pytest.mark.parametrize("device", DEVICES)
def test_the_first_of_equal_neighbours_is_the_nearest(device):
    reference = drawn(9, 4)
    tied = keypoints(reference.rows[[3, 5, 3, 5, 3]])
    both = nearest_two(reference, [tied], device)[0]
    assert both.plain.row[[3, 5]].tolist() == [0, 1]
    assert np.array_equal(both.plain.best[[3, 5]], both.plain.second[[3, 5]]) and both.plain.best[3] == pytest.approx(1)


@pytest.mark.parametrize("device", DEVICES)
def test_too_few_keypoints_have_no_nearest(device):
    some, one, none = drawn(5, 5), drawn(1, 6), drawn(0, 7)
    assert [both is None for both in nearest_two(some, [none, some, one, some], device)] == [True, False, True, False]
    assert nearest_two(one, [some], device) == nearest_two(none, [some], device) == [None] and nearest_two(some, [], device) == []


@pytest.mark.parametrize("device", DEVICES[1:])
@pytest.mark.parametrize("at_once", [1, 3000, 2**24])
def test_devices_agree_to_the_last_bit_in_every_batch(monkeypatch, device, at_once):
    monkeypatch.setattr(nearest, "AT_ONCE", at_once)
    query, references = drawn(33, 8, most=256), [drawn(20 + 7 * seed, seed, most=256) for seed in range(5)]
    together, alone = nearest_two(query, references, device), [nearest_two(query, [one])[0] for one in references]
    for left, right in zip(together, alone, strict=True):
        for first, second in zip(left, right, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("device", DEVICES)
def test_the_largest_numbers_are_still_exact(device):
    rows = np.full((3, 128), 255, np.uint8)
    rows[1, 0], rows[2, 5] = 254, 253
    both = nearest_two(keypoints(rows), [keypoints(rows)], device)[0]
    row, best, _ = slowly(keypoints(rows), keypoints(rows))
    assert both.plain.row.tolist() == row.tolist() == [0, 1, 2] and np.allclose(both.plain.best, best, atol=2e-7)
    sums, differences = halves(rows)
    assert sums.shape == differences.shape == (3, 64) and float((sums**2).sum(axis=1, dtype=np.float64).max()) < 2**24


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_where_there_is_no_gpu(monkeypatch):
    assert choose_device("no") == choose_device("auto") == "cpu"
    with pytest.raises(MatcherError, match="torch sees no GPU"):
        choose_device("yes")
    torch_sees_gpu.cache_clear()
    monkeypatch.setattr(devices.shutil, "which", lambda _: "/usr/bin/nvidia-smi")  # a driver, and no GPU that torch can use
    assert choose_device("auto") == "cpu"
    torch_sees_gpu.cache_clear()


def test_torch_stays_away_from_keypoints():
    code = "import sys; from matcher.scoring.nearest import choose_device; choose_device('no'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
