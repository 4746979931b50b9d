"""Location: known overlaps, the direction of frames, counted medians."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher import geometry
from matcher.metrics.location import counted_median, counted_share, measure_overlap, measure_overlaps

UNIT = st.floats(0.05, 0.95)
ROW = st.tuples(st.integers(0, 3), st.sampled_from([0.1, 0.5, 0.7, 1.0, np.nan]))


def place(x0, y0, x1, y1):
    """The reference lies in this box of the query: the true frame, reference -> query."""
    return geometry.from_box(x0, y0, x1, y1)


@settings(max_examples=40, deadline=None)
@given(st.tuples(UNIT, UNIT, UNIT, UNIT), st.integers(0, 3), st.booleans(), st.floats(-0.1, 0.1), st.floats(-0.1, 0.1))
def test_the_right_frame_is_perfect(numbers, quarters, mirrored, tilt_x, tilt_y):
    x, y, width, height = numbers
    true = geometry.compose(place(x - 0.3, y - 0.3, x + width, y + height), geometry.turn(quarters))
    true = geometry.compose(true, geometry.flip()) if mirrored else true
    true = geometry.compose(true, np.array([[1, 0, 0], [0, 1, 0], [tilt_x, tilt_y, 1]]))
    query_iou, reference_iou, error = measure_overlap(geometry.invert(true), true)
    assert (query_iou, reference_iou) == (pytest.approx(1, abs=1e-6), pytest.approx(1, abs=1e-6))
    assert error == pytest.approx(0, abs=1e-6)


def test_overlap_by_hand():
    true, found = place(0.0, 0.0, 0.5, 1.0), geometry.invert(place(0.25, 0.0, 0.75, 1.0))
    query_iou, reference_iou, error = measure_overlap(found, true)
    assert query_iou == pytest.approx(1 / 3)  # a quarter in common, three quarters together
    assert reference_iou == pytest.approx(1)  # both say that the whole reference is seen
    assert error == pytest.approx(0.5)  # half a reference to the right


def test_a_crop_is_measured_in_the_reference():
    seen = geometry.from_box(0.5, 0.0, 1.0, 1.0)  # the query shows the right half of the reference: query -> reference
    query_iou, reference_iou, error = measure_overlap(geometry.identity(), geometry.invert(seen))
    assert query_iou == pytest.approx(1)
    assert reference_iou == pytest.approx(0.5)
    assert error == pytest.approx(0.25, abs=0.01)  # x against 0.5 + x / 2, on average


def test_frames_are_read_in_their_own_directions():
    true = place(0.1, 0.2, 0.5, 0.4)
    assert measure_overlap(true, true)[0] < 0.5


def test_a_flip_in_the_right_place_shows_in_the_point_error():
    true = place(0.2, 0.2, 0.8, 0.8)
    query_iou, reference_iou, error = measure_overlap(geometry.invert(geometry.compose(true, geometry.flip())), true)
    assert (query_iou, reference_iou) == (pytest.approx(1), pytest.approx(1))
    assert error == pytest.approx(0.5, abs=0.01)  # mean of |x - (1 - x)|


def test_regions_apart_share_nothing():
    query_iou, _, error = measure_overlap(geometry.invert(place(0.6, 0.6, 0.9, 0.9)), place(0.1, 0.1, 0.4, 0.4))
    assert query_iou == 0 and np.isnan(error)


def test_a_horizon_inside_the_query_does_not_lose_the_region():
    true = np.array([[0.2, 0.0, 0.05], [0.0, 0.2, 0.05], [0.7, 0.0, 1.0]])  # its inverse has a horizon right of the copy
    assert measure_overlap(geometry.invert(true), true) == (pytest.approx(1), pytest.approx(1), pytest.approx(0, abs=1e-9))


@pytest.mark.parametrize("broken", [np.zeros((3, 3)), np.ones((3, 3)), np.full((3, 3), np.inf)])
def test_a_frame_that_is_none_overlaps_nothing(broken):
    with np.errstate(all="ignore"):
        assert measure_overlap(broken, place(0.1, 0.1, 0.5, 0.5))[:2] == (0, 0)


def test_absent_frames_are_not_measured():
    absent, frame = np.full((3, 3), np.nan), place(0.1, 0.1, 0.5, 0.5)
    overlaps = measure_overlaps([absent, geometry.invert(frame), geometry.invert(frame)], [frame, absent, frame])
    assert np.isnan(overlaps.iou).tolist() == [True, True, False]
    assert overlaps.iou[2] == pytest.approx(1)
    assert len(measure_overlaps(np.empty((0, 3, 3)), np.empty((0, 3, 3))).iou) == 0


def slow_point_error(found, true_forth, box):
    total, count = 0.0, 0
    for x, y in np.ndindex(16, 16):
        point = [box[0] + (x + 0.5) / 16 * (box[2] - box[0]), box[1] + (y + 0.5) / 16 * (box[3] - box[1])]
        first, second = (geometry.apply(frame, np.array([point]))[0] for frame in (found, true_forth))
        if min(*first, *second) >= 0 and max(*first, *second) <= 1:
            total, count = total + float(np.hypot(*(first - second))), count + 1
    return total / count, count


@pytest.mark.parametrize(("half", "box"), [(0.6, (0.15, 0.15, 0.85, 0.85)), (0.3, (0.2, 0.2, 0.8, 0.8))])
@pytest.mark.parametrize("swapped", [False, True])
def test_points_outside_of_either_reference_do_not_count(half, box, swapped):
    turned = np.array([[0.4, -0.3, 0.45], [0.3, 0.4, 0.15], [0, 0, 1]])
    straight = place(0.5 - half, 0.5 - half, 0.5 + half, 0.5 + half)
    found_back, true = (turned, straight) if swapped else (straight, turned)
    expected, count = slow_point_error(geometry.invert(found_back), geometry.invert(true), box)
    assert measure_overlap(geometry.invert(found_back), true)[2] == pytest.approx(expected) and 100 < count < 250


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, max_size=9), st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_counted_median_and_share_equal_repeated_rows(rows, counts):
    query, values = np.array([q for q, _ in rows], dtype=int), np.array([v for _, v in rows])
    block = np.array([counts, [1, 1, 1, 1]])
    medians, shares = counted_median(values, query, block), counted_share(values >= 0.5, query, block)
    for median, share, times in zip(medians, shares, block, strict=True):
        repeated = np.repeat(values, times[query]) if rows else np.empty(0)
        known = repeated[~np.isnan(repeated)]
        np.testing.assert_allclose(median, np.median(known) if len(known) else np.nan)
        np.testing.assert_allclose(share, (repeated >= 0.5).mean() if len(repeated) else np.nan)
