import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher.models.corners import MARGIN, RATIO, SMALLEST, cornerness, find, peaks, pyramid


def grey(picture):
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def box(x0, y0, x1, y1, size_hw=(120, 160)):
    """A bright box with soft edges (corners lie on them, in pixels from the first pixel's centre)."""
    image = np.full((size_hw[0] * 8, size_hw[1] * 8), 60, np.uint8)
    image[round((y0 + 0.5) * 8) : round((y1 + 0.5) * 8), round((x0 + 0.5) * 8) : round((x1 + 0.5) * 8)] = 200
    return cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA)


@given(st.integers(1, 700), st.integers(1, 700))
@settings(max_examples=40, deadline=None)
def test_levels_shrink_by_the_ratio_down_to_the_smallest(height, width):
    levels = pyramid(np.zeros((height, width), np.uint8))
    assert levels[0].shape == (height, width)
    for number, level in enumerate(levels[1:], start=1):
        assert min(level.shape) >= SMALLEST
        assert abs(level.shape[0] - height / RATIO**number) <= 0.5 and abs(level.shape[1] - width / RATIO**number) <= 0.5
    assert min(height, width) / RATIO ** len(levels) < SMALLEST + 0.5


def test_cornerness_agrees_with_a_slow_sum():
    image = np.random.default_rng(0).integers(0, 256, (20, 24), dtype=np.uint8)
    found = cornerness(image).copy()
    numbers = image.astype(float)
    across = lambda y, x: sum(w * (numbers[y + d, x + 1] - numbers[y + d, x - 1]) for d, w in ((-1, 1), (0, 2), (1, 1)))  # noqa: E731
    down = lambda y, x: sum(w * (numbers[y + 1, x + d] - numbers[y - 1, x + d]) for d, w in ((-1, 1), (0, 2), (1, 1)))  # noqa: E731
    for y, x in [(8, 9), (10, 12), (5, 17)]:
        window = [(across(y + i, x + j), down(y + i, x + j)) for i in range(-2, 3) for j in range(-2, 3)]
        xx, yy, xy = (sum(a * b for a, b in pairs) / 25 for pairs in zip(*[((a, a), (b, b), (a, b)) for a, b in window], strict=True))
        assert found[y, x] == pytest.approx((xx * yy - xy * xy) / (xx + yy + 4), rel=1e-4)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.25, 0.5), (0.5, 0.125)])
def test_the_corners_of_a_box_are_found_and_nothing_along_its_edges(shift):
    x0, y0, x1, y1 = 40 + shift[0], 30 + shift[1], 110 + shift[0], 90 + shift[1]
    found = peaks(cornerness(box(x0, y0, x1, y1)), 100)
    wanted = np.array([(x0, y0), (x1, y0), (x0, y1), (x1, y1)])
    distance = np.linalg.norm(found[:, None] - wanted, axis=2)
    assert len(found) == 4 and (distance.min(axis=0) < 3).all()  # a little inside, where most of both edges is in the window


def test_a_shift_by_parts_of_a_pixel_moves_the_corners_by_as_much():
    first, second = (peaks(cornerness(box(40 + dx, 30, 110 + dx, 90)), 4) for dx in (0, 0.5))
    order = [rows[np.lexsort(np.round(rows).T)] for rows in (first, second)]
    assert np.allclose(np.mean(order[1] - order[0], axis=0), [0.5, 0], atol=0.15)


@pytest.mark.parametrize("count", [0, 7, 60, 5000])
def test_no_more_corners_than_wanted_the_highest_of_every_level(pictures, count):
    levels = pyramid(cv2.resize(grey(pictures["astronaut"]), (200, 200)))
    points, of_level = find(levels, count)
    assert len(points) == len(of_level) <= count and points.dtype == np.float32
    for number, level in enumerate(levels):
        here = points[of_level == number]
        assert (here > MARGIN - 1).all() and (here < np.array(level.shape[::-1]) - MARGIN).all()
        assert np.array_equal(here, peaks(cornerness(level), len(here)))


def test_every_level_has_its_share_and_gives_what_it_does_not_need_to_finer_ones(pictures):
    levels = pyramid(cv2.resize(grey(pictures["astronaut"]), (300, 300)))
    counts = np.bincount(find(levels, 100)[1], minlength=len(levels))
    shares = RATIO ** -np.arange(len(levels))
    assert counts.sum() == 100 and np.abs(counts - 100 * shares / shares.sum()).max() <= 2
    many = np.bincount(find(levels, 600)[1], minlength=len(levels))
    assert many[-1] < 600 * shares[-1] / shares.sum() - 5  # the coarsest has not so many
    assert many.sum() > 590 and many[0] > 600 * shares[0] / shares.sum()


def test_nothing_in_a_plain_picture():
    assert len(find(pyramid(np.full((100, 150), 128, np.uint8)), 100)[0]) == 0
