import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from matcher import geometry
from matcher.geometry import SQUARE, apply, area, clip, compose, corners, covered_share, flip, from_box, identity, invert, iou, region, turn

# two random frames seldom lie in view both, and what is drawn is the same each time
quick = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.filter_too_much])
small = st.floats(-0.6, 0.6)


@st.composite
def boxes(draw):
    x0, y0 = draw(st.floats(-1, 1)), draw(st.floats(-1, 1))
    return x0, y0, x0 + draw(st.floats(0.05, 2)), y0 + draw(st.floats(0.05, 2))


@st.composite
def frames(draw, perspective=0.4):
    """Invertible frames, turned, stretched, mirrored and tilted."""
    bent = st.floats(-perspective, perspective)
    linear = draw(st.lists(st.floats(-1.5, 1.5), min_size=4, max_size=4))
    frame = np.array([[*linear[:2], draw(small)], [*linear[2:], draw(small)], [draw(bent), draw(bent), 1.0]])
    assume(abs(np.linalg.det(frame)) > 0.05)
    return frame


def grid(cells=160):
    steps = (np.arange(cells) + 0.5) / cells
    return np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)


def shown(frame):
    """Which of the grid's points of the image lie in the view: the slow way to a region."""
    points = apply(invert(frame), grid())
    return ((points >= 0) & (points <= 1)).all(axis=1)


def is_readable(frame):
    """Whether a horizon passes through the view or through the image, but not through both."""
    return any((d > 1e-6).all() or (d < -1e-6).all() for d in (SQUARE @ m[2, :2] + m[2, 2] for m in (frame, invert(frame))))


@quick
@given(boxes())
def test_box_to_frame_to_box(box):
    assert np.allclose(geometry.to_box(from_box(*box)), box)
    assert np.allclose(corners(from_box(*box)), [box[:2], (box[2], box[1]), box[2:], (box[0], box[3])])


@pytest.mark.parametrize("box", [(0, 0, 0, 1), (0, 1, 1, 1), (0.5, 0, 0.2, 1), (0, 0, np.nan, 1)])
def test_a_box_without_area_is_refused(box):
    with pytest.raises(ValueError, match="a box needs"):
        from_box(*box)


@quick
@given(boxes(), boxes())
def test_a_crop_of_a_crop_is_a_product(outer, inner):
    x0, y0, x1, y1 = outer
    lay_over = [x0 + inner[0] * (x1 - x0), y0 + inner[1] * (y1 - y0), x0 + inner[2] * (x1 - x0), y0 + inner[3] * (y1 - y0)]
    assert np.allclose(geometry.to_box(compose(from_box(*outer), from_box(*inner))), lay_over)


def test_turns():
    assert np.allclose(apply(turn(1), [[0, 0]]), [[0, 1]])  # the picture turned clockwise shows its bottom left corner at the top left
    assert np.allclose(apply(turn(1), [[1, 0]]), [[0, 0]])
    assert np.array_equal(turn(0), identity()) and np.array_equal(turn(4), identity())
    for quarters in range(-5, 6):
        assert np.allclose(compose(turn(quarters), turn(1)), turn(quarters + 1))
        assert np.allclose(compose(turn(quarters), turn(-quarters)), identity())
        assert not geometry.is_mirrored(turn(quarters)) and covered_share(turn(quarters)) == pytest.approx(1)


def test_a_turn_is_what_numpy_turns():
    image = np.arange(6).reshape(2, 3)
    turned = np.rot90(image, -1)  # clockwise
    for row, column in np.ndindex(turned.shape):
        x, y = apply(turn(1), [[(column + 0.5) / 2, (row + 0.5) / 3]])[0]
        assert turned[row, column] == image[int(y * 2), int(x * 3)]


@quick
@given(frames())
def test_flips_and_inverses_undo_themselves(frame):
    assert np.allclose(compose(compose(frame, flip()), flip()), frame)
    assert geometry.is_mirrored(frame @ flip()) != geometry.is_mirrored(frame)
    assert np.allclose(compose(frame, invert(frame)), identity(), atol=1e-6)
    assert np.allclose(compose(invert(frame), frame), identity(), atol=1e-6)


@quick
@given(frames(perspective=0.3), st.lists(st.tuples(small, small), min_size=1, max_size=5))
def test_apply_agrees_with_a_slow_loop_and_with_composing(frame, points):
    slow = [(frame @ (x, y, 1))[:2] / (frame @ (x, y, 1))[2] for x, y in points]
    assert np.allclose(apply(frame, points), slow)
    assert np.allclose(apply(invert(frame), apply(frame, points)), points, atol=1e-6)
    box = from_box(0.1, 0.2, 0.7, 0.5)
    assert np.allclose(apply(compose(frame, box), points), apply(frame, apply(box, points)))


def test_stacks_of_frames():
    stack = np.stack([turn(1), flip(), from_box(0, 0, 0.5, 0.5)])
    assert np.allclose(corners(stack), [corners(frame) for frame in stack])
    assert np.allclose(invert(stack), [invert(frame) for frame in stack])
    assert np.allclose(compose(stack, turn(1)), [compose(frame, turn(1)) for frame in stack])
    assert geometry.is_mirrored(stack).tolist() == [False, True, False]


def test_points_at_infinity_are_no_numbers_and_make_no_warning():
    frame = np.array([[1.0, 0, 0], [0, 1, 0], [1, 0, 0]])
    assert not np.isfinite(apply(frame, [[0.0, 0.5]])).all()
    assert np.allclose(apply(frame, [[0.5, 0.5]]), [[1, 1]])


@quick
@given(frames(perspective=0.3), *[st.integers(1, 4000)] * 4)
def test_from_pixels_and_to_pixels_are_inverse(frame, a, b, c, d):
    assert np.allclose(geometry.from_pixels(geometry.to_pixels(frame, (a, b), (c, d)), (a, b), (c, d)), frame, rtol=1e-6)


def test_pixels_to_unit_squares():
    shift = np.array([[1.0, 0, 20], [0, 1, 30], [0, 0, 1]])  # a view of 40 x 50 (H x W) cut at (20, 30) from a picture of 100 x 200
    assert np.allclose(geometry.from_pixels(shift, (40, 50), (100, 200)), from_box(0.1, 0.3, 0.35, 0.7))


@quick
@given(frames())
def test_covered_share_agrees_with_counting_pixels(frame):
    assume(is_readable(frame))
    assert covered_share(frame) == pytest.approx(shown(frame).mean(), abs=0.02)


@quick
@given(frames(), frames())
def test_iou_agrees_with_counting_pixels(first, second):
    assume(is_readable(first) and is_readable(second))
    a, b = shown(first), shown(second)
    assume((a | b).mean() > 0.05)
    assert iou(first, second) == pytest.approx((a & b).sum() / (a | b).sum(), abs=0.06)
    assert iou(first, second) == pytest.approx(iou(second, first), abs=1e-9)
    assume(covered_share(first) > 0.01)
    assert iou(first, compose(first, turn(1))) == pytest.approx(1, abs=1e-6)


def test_where_the_horizon_passes_through_the_view():
    frame = np.array([[0.6, 0.6, -0.2], [1.0, -0.5, 0.4], [0.1, -1.3, 1.0]])
    assert len(set(np.sign(SQUARE @ frame[2, :2] + 1))) == 2  # corners on both sides
    assert len(region(frame)) >= 3
    assert covered_share(frame) == pytest.approx(shown(frame).mean(), abs=0.01) and 0.05 < covered_share(frame) < 0.95


def test_where_it_passes_through_both_there_is_no_region():
    frame = np.array([[0.5, -0.7, 0.6], [1.3, -1.1, 1.1], [-1.3, -0.4, 1.0]])
    assert not is_readable(frame) and region(frame).shape == (0, 2) and iou(frame, identity()) == 0


def test_degenerate_frames_show_nothing():
    line, none = np.diag([0.0, 1, 1]), np.zeros((3, 3))
    touching = from_box(1, 0, 2, 1)
    for frame in (np.full((3, 3), np.nan), np.full((3, 3), np.inf), none, line, touching):
        assert covered_share(frame) == 0
        assert iou(frame, frame) == 0 and iou(identity(), frame) == 0 and iou(frame, identity()) == 0
    with pytest.raises(np.linalg.LinAlgError):
        invert(line)


def test_clip():
    low, high = corners(from_box(0, 0, 0.4, 0.4)), corners(from_box(0.5, 0.5, 0.9, 0.9))
    assert area(clip(low, high)) == 0 and clip(np.empty((0, 2)), SQUARE).shape == (0, 2)
    beyond = corners(from_box(-1, -1, 2, 2))
    assert area(clip(beyond, SQUARE)) == pytest.approx(1) and area(clip(SQUARE, beyond)) == pytest.approx(1)
    half = corners(from_box(0.5, 0, 1.5, 1))
    for polygon in (half, half[::-1]):  # in any orientation
        for window in (SQUARE, SQUARE[::-1]):
            assert area(clip(polygon, window)) == pytest.approx(0.5)


def test_two_corners_in_one_place_do_not_matter():
    tilted = np.array([[0.0, -1, 0.46875], [1, 1, -3e-176], [0, 0.25, 1]])  # its region has two corners 1e-176 apart
    mirrored = flip() @ turn(1)
    assert iou(mirrored, tilted) == pytest.approx(iou(tilted, mirrored)) and iou(tilted, mirrored) == pytest.approx(covered_share(tilted))
    doubled = np.repeat(SQUARE, 2, axis=0) + np.tile([[0.0, 0.0], [1e-17, -1e-17]], (4, 1))
    assert area(clip(SQUARE, doubled)) == pytest.approx(1)


def test_areas_have_signs():
    assert geometry.signed_area(SQUARE) == 1 and geometry.signed_area(SQUARE[::-1]) == -1
    assert area(SQUARE[:2]) == 0 and area(np.array([[0, 0], [1, 0], [0, 1.0]])) == 0.5
