import cv2
import numpy as np
import pytest
from skimage import data
from skimage.measure import label

from matcher.views.segments import segment


def test_plain_areas_are_segments():
    truth = np.zeros((60, 80), dtype=np.int64)
    truth[10:40, 20:50] = 1
    truth[:, 70:] = 2
    pixels = np.array([[20, 20, 20], [200, 60, 60], [60, 60, 220]], dtype=np.uint8)[truth]
    found = segment(pixels, least=100)
    sure = cv2.dilate(cv2.morphologyEx(truth.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3))), np.ones((3, 3))) == 0  # off the blur
    assert len(np.unique(found[sure])) == 3 and len(np.unique(np.stack([found[sure], truth[sure]]), axis=1).T) == 3


def test_a_slow_change_is_one_segment_a_step_is_not():
    slope = np.arange(50)[:, None] + np.arange(100)
    ramp = slope.astype(np.uint8)[..., None].repeat(3, axis=2)
    assert segment(ramp, least=20).max() == 0
    ramp[:, 50:] += 60
    assert segment(ramp, least=120).max() == 1  # the blurred rim of the step is too small


@pytest.mark.parametrize("least", [1, 40, 400])
def test_segments_are_whole_and_large_enough(least):
    pixels = data.astronaut()[::4, ::4]
    found = segment(pixels, least=least)
    sizes = np.bincount(found.ravel())
    assert found.shape == pixels.shape[:2] and sizes.min() >= least and len(sizes) > 10 / least
    assert label(found + 1, connectivity=1).max() == len(sizes)  # each hangs together


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 2)])
def test_thin_and_tiny_pictures(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = segment(pixels, least=1)
    assert found.shape == shape and set(np.unique(found)) == set(range(found.max() + 1))


def test_noise_gives_no_more_segments_than_allowed():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    assert segment(pixels, least=16).max() < 300
