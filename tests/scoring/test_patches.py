import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher.geometry import apply, compose, flip, from_box, identity, invert, turn
from matcher.scoring.patches import found_patches, is_sound, locate

SIDE = 12
CENTRES = (np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), axis=-1).reshape(-1, 2) + 0.5) / SIDE


def table_of(frame, side=SIDE):
    """Frame -> probabilities (T, T + 1) whose means are exactly where it sends the patches; "nowhere" outside the outer centres."""
    table = np.zeros((side**2, side**2 + 1), np.float32)
    centres = (np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2) + 0.5) / side
    for row, (x, y) in enumerate(apply(frame, centres) * side - 0.5):
        if not (0 <= x <= side - 1 and 0 <= y <= side - 1):
            table[row, -1] = 1
            continue
        left, top = min(int(x), side - 2), min(int(y), side - 2)
        for across, down, share in [(0, 0, (1 - x + left) * (1 - y + top)), (1, 0, (x - left) * (1 - y + top)),
                                    (0, 1, (1 - x + left) * (y - top)), (1, 1, (x - left) * (y - top))]:  # fmt: skip
            table[row, (top + down) * side + left + across] = share
    return table


def tables_of(frame, side=SIDE):
    return table_of(frame, side), table_of(invert(frame), side)


def assert_same(found, frame, tolerance=1e-3):
    assert found is not None and np.abs(apply(found, CENTRES) - apply(frame, CENTRES)).max() < tolerance


boxes = st.tuples(st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0.45, 1), st.floats(0.45, 1))


@settings(max_examples=60, deadline=None)
@given(boxes, st.integers(0, 3), st.booleans(), st.booleans())
def test_exact_correspondences_give_the_frame_back(box, quarters, mirrored, enlarges):
    x, y, width, height = box
    frame = compose(from_box(x, y, min(x + width, 1), min(y + height, 1)), compose(turn(quarters), flip() if mirrored else identity()))
    frame = invert(frame) if enlarges else frame
    assert_same(locate(*tables_of(frame)), frame)


def test_a_slanted_frame_comes_back():
    frame = np.array([[0.6, 0.2, 0.1], [-0.15, 0.7, 0.2], [0, 0, 1.0]])
    assert_same(locate(*tables_of(frame)), frame)


def test_a_third_of_wrong_patches_does_no_harm():
    rng = np.random.default_rng(0)
    frame = compose(from_box(0.1, 0.05, 0.8, 0.9), flip())
    tables = tables_of(frame)
    for table in tables:
        wrong = rng.choice(SIDE**2, SIDE**2 // 3, replace=False)
        table[wrong] = np.eye(SIDE**2 + 1, dtype=np.float32)[rng.integers(0, SIDE**2, len(wrong))]
    assert_same(locate(*tables), frame, 0.02)


def test_a_small_pasted_picture_is_found_though_its_patches_are_coarse():
    rng = np.random.default_rng(1)
    frame = invert(from_box(0.3, 0.4, 0.62, 0.7))  # the reference fills a tenth of the query
    tables = tables_of(frame)
    rounded = [np.eye(SIDE**2 + 1, dtype=np.float32)[table.argmax(1)] for table in tables]
    found = locate(*(0.9 * table + 0.1 * rng.dirichlet(np.ones(SIDE**2 + 1), SIDE**2).astype(np.float32) for table in rounded))
    assert found is not None
    assert np.abs(apply(invert(found), CENTRES) - apply(invert(frame), CENTRES)).max() < 0.03


def test_places_are_means_of_the_cells_around_the_likeliest():
    table = np.zeros((9, 10), np.float32)
    table[:, -1] = 1
    table[4] = [0.2, 0, 0, 0.6, 0, 0.1, 0, 0, 0, 0.1]  # 0.1 lies two cells from the likeliest one and does not count
    table[7] = [0.1, 0, 0, 0.3, 0, 0, 0, 0, 0, 0.6]
    centres, places = found_patches(table)
    assert np.allclose(centres, [[0.5, 0.5]])
    assert np.allclose(places, [[0.5 / 3, (0.5 * 0.2 + 1.5 * 0.6) / 0.8 / 3]])


@pytest.mark.parametrize("found", [0, 3, SIDE])
def test_no_frame_from_few_patches_or_a_single_line(found):
    tables = tables_of(identity())
    for table in tables:
        table[found:] = np.eye(SIDE**2 + 1)[-1]
    assert locate(*tables) is None


def test_no_frame_where_nothing_agrees_or_all_end_in_one_place():
    rng = np.random.default_rng(0)
    scattered = [np.eye(SIDE**2 + 1, dtype=np.float32)[rng.integers(0, SIDE**2, SIDE**2)] for _ in range(2)]
    assert locate(*scattered) is None
    nowhere = np.tile(np.eye(SIDE**2 + 1, dtype=np.float32)[-1], (SIDE**2, 1))
    assert locate(np.tile(np.eye(SIDE**2 + 1, dtype=np.float32)[5], (SIDE**2, 1)), nowhere) is None


def test_degenerate_frames_are_refused():
    good = from_box(0.2, 0.2, 0.7, 0.9)
    assert is_sound(good) and is_sound(flip())
    far, flat, thin = from_box(2, 2, 3, 3), np.diag([0.5, 0, 1]), np.diag([0.5, 1e-3, 1])
    assert not any(is_sound(frame) for frame in (far, flat, thin, np.full((3, 3), np.nan), np.diag([100.0, 100, 1])))
