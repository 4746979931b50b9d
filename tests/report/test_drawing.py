import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher import geometry
from matcher.report.drawing import PUSH, Outline, are_apart, choose_corners, outline_pair

SQUARE = (100, 100)
shares = st.floats(-0.3, 1.3).map(lambda share: round(share, 3))  # corners a rounding error apart are one


def points_of(outline: Outline | None) -> np.ndarray:
    assert outline is not None
    return np.array([[float(number) for number in point.split(",")] for point in outline.points.split()])


def marks_of(outline: Outline | None) -> np.ndarray:
    assert outline is not None
    assert [mark[0] for mark in outline.marks] == list(range(1, len(outline.marks) + 1))
    return np.array([[float(x), float(y)] for _, x, y in outline.marks])


def test_a_crop_outlines_the_whole_query_and_a_part_of_the_reference() -> None:
    query, reference = outline_pair(geometry.from_box(0.1, 0.2, 0.6, 0.9), (224, 168), (200, 100))
    assert points_of(query).tolist() == [[0, 0], [224, 0], [224, 168], [0, 168]]
    assert points_of(reference).tolist() == [[20, 20], [120, 20], [120, 90], [20, 90]]


def test_a_pasted_copy_outlines_a_part_of_the_query_and_the_whole_reference() -> None:
    query, reference = outline_pair(geometry.invert(geometry.from_box(0.5, 0.25, 1.0, 0.75)), (200, 200), (90, 60))
    assert sorted(points_of(query).tolist()) == sorted([[100, 50], [200, 50], [200, 150], [100, 150]])
    assert sorted(points_of(reference).tolist()) == sorted([[0, 0], [90, 0], [90, 60], [0, 60]])


@pytest.mark.parametrize(
    ("frame", "in_query"),
    [
        (geometry.identity(), [[0, 0], [100, 0], [100, 100], [0, 100]]),
        (geometry.flip(), [[100, 0], [0, 0], [0, 100], [100, 100]]),
        (geometry.invert(geometry.turn(1)), [[0, 100], [0, 0], [100, 0], [100, 100]]),
    ],
)
def test_marks_show_turns_and_flips(frame: np.ndarray, in_query: list[list[float]]) -> None:
    query, reference = outline_pair(frame, SQUARE, SQUARE)
    middle = np.array([50, 50])
    assert (np.sign(marks_of(reference) - middle) == [[-1, -1], [1, -1], [1, 1], [-1, 1]]).all()
    assert (np.sign(marks_of(query) - middle) == np.sign(np.array(in_query) - middle)).all()


def test_no_outline_without_a_usable_frame() -> None:
    far = geometry.from_box(2.0, 2.0, 3.0, 3.0)
    for frame in (np.full((3, 3), np.nan), np.zeros((3, 3)), np.full((3, 3), np.inf), far):
        assert outline_pair(frame, SQUARE, SQUARE) == (None, None)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(shares, shares), min_size=4, max_size=4), st.floats(-0.4, 0.4), st.floats(-0.4, 0.4))
def test_both_outlines_are_the_same_part(corners: list[tuple[float, float]], tilt_x: float, tilt_y: float) -> None:
    (x, y), (dx, dy), *_ = corners
    frame = np.array([[dx - x, dy, x], [-dy, dx, y], [tilt_x, tilt_y, 1.0]])
    query, reference = outline_pair(frame, SQUARE, SQUARE)
    if query is None or reference is None or abs(np.linalg.det(frame)) < 0.05:
        return
    for outline in (query, reference):
        assert (points_of(outline) >= 0).all() and (points_of(outline) <= 100).all()
        assert (marks_of(outline) >= -PUSH).all() and (marks_of(outline) <= 100 + PUSH).all()
    assert len(query.marks) == len(reference.marks)
    mapped = geometry.apply(frame, points_of(query) / 100)
    distances = np.abs(mapped[:, None] - points_of(reference)[None] / 100).max(-1).min(1)
    assert distances.max() < 0.05


def test_four_corners_are_chosen_of_many() -> None:
    cut = np.array([[0.05, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.05]])
    chosen = choose_corners(cut)
    assert len(chosen) == 4 and [1.0, 1.0] in chosen.tolist()
    assert choose_corners(np.array([[0, 0], [0, 0], [1, 0], [1, 1.0]])).tolist() == [[0, 0], [1, 0], [1, 1]]


def test_regions_are_apart_where_they_share_little() -> None:
    left, right, corner = (geometry.invert(geometry.from_box(*box)) for box in ((0, 0, 0.5, 1), (0.45, 0, 1, 1), (0.1, 0.1, 0.2, 0.2)))
    assert are_apart(left, right) and are_apart(corner, right)
    assert not are_apart(left, left) and not are_apart(left, corner)
    assert not are_apart(left, np.full((3, 3), np.nan)) and not are_apart(np.zeros((3, 3)), left)
