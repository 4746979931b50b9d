import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher.errors import UsageError
from matcher.geometry import SQUARE, apply, compose, covered_share, from_box, is_mirrored, to_box, turn
from matcher.views.plan import expand, plan, single_views
from matcher.views.render import GREY, render, render_with_mask

GROUPS = {
    **{"turns": 3, "quarters": 4, "turns45": 7, "halves": 6, "half_grid": 9, "third_grid": 25, "grid2": 4, "quadrants": 4},
    **{"grid3": 9, "tiles": 4, "half_tiles": 4, "corners": 4},
}
PUBLISHED = [  # what a system looks at, and how many views that is
    (["whole", "halves", "half_grid", "third_grid"], 1 + 6 + 9 + 25),  # separate, queries
    (["whole", "grid2", "centre", "grid3", "tiles"], 1 + 4 + 1 + 9 + 4),  # D2LV, references
    (["whole", "turns", "centre", "tiles"], 9),  # D2LV, queries, beside proposals and overlays
    (["halves", "corners"], 10),  # CopyNCE: half the area
    (["whole", "halves", "corners", "half_grid", "third_grid"], 45),  # CopyNCE, queries
    (["whole", "two_thirds", "half_tiles", "turns"], 9),  # CopyNCE, references
    (["whole", "grid3_2_2", "tiles", "quadrants", "grid3", "turns45"], 25),  # CopyNCE's verdict: 26, the middle ninth counted twice
    (["whole", "grid3_2_2", "tiles", "quadrants"], 10),  # the references of that
]


@pytest.mark.parametrize(("name", "count"), GROUPS.items())
def test_groups_have_their_number_of_views(name, count):
    assert len(expand([name])) == count
    assert len(expand([name + "+flip"])) == count


@pytest.mark.parametrize(("names", "count"), PUBLISHED)
def test_published_sets_can_be_written(names, count):
    assert len(expand(names)) == count


@pytest.mark.parametrize(
    ("name", "share", "covers_all"),
    [
        ("halves", 1 / 2, True),
        ("half_grid", 1 / 4, True),
        ("third_grid", 1 / 9, True),
        ("grid2", 1 / 4, True),
        ("grid3", 1 / 9, True),
        ("corners", 1 / 2, True),
        ("tiles", 1 / 9, 1 / 6),
        ("half_tiles", 1 / 4, 1 / 8),
    ],
)
def test_cells_have_equal_area_and_cover(name, share, covers_all):
    boxes = np.array([to_box(frame) for frame in expand([name]).values()])
    assert (boxes > -1e-12).all() and (boxes < 1 + 1e-12).all()
    assert np.allclose((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), share)
    points = np.random.default_rng(0).random((500, 1, 2))
    covered = ((points > boxes[:, :2]) & (points < boxes[:, 2:])).all(-1).any(-1)
    margin = 0 if covers_all is True else covers_all
    assert (covered == ((points[:, 0] > margin) & (points[:, 0] < 1 - margin)).all(-1)).all()


def test_known_boxes():
    boxes = {
        "left": (0, 0, 0.5, 1),
        "middle_column": (0.25, 0, 0.75, 1),
        "bottom": (0, 0.5, 1, 1),
        "centre": (0.25, 0.25, 0.75, 0.75),
        "half_grid_1_2": (0.25, 0, 0.75, 0.5),
        "third_grid_5_1": (0, 2 / 3, 1 / 3, 1),
        "grid3_2_3": (2 / 3, 1 / 3, 1, 2 / 3),
        "tiles_2_1": (1 / 6, 1 / 2, 1 / 2, 5 / 6),
        "half_tiles_1_2": (3 / 8, 1 / 8, 7 / 8, 5 / 8),
        "corners_1_2": (1 - 0.5**0.5, 0, 1, 0.5**0.5),
        "two_thirds": (1 / 6, 1 / 6, 5 / 6, 5 / 6),
        "middle_row": (0, 0.25, 1, 0.75),
    }
    for name, box in boxes.items():
        assert np.allclose(expand([name])[name], from_box(*box)), name


def test_order_kinds_and_repeated_names():
    views = plan(["b", "a"], ["whole", "quarters", "flip", "whole"])
    assert views.kind.tolist() == ["whole", "turn90", "turn180", "turn270", "flip"] * 2
    assert views.image_id.tolist() == ["b"] * 5 + ["a"] * 5
    assert (views.confidence == 1).all()


def test_no_images_no_views():
    views = plan([], ["half_grid"])
    assert len(views) == 0 and views.frame.shape == (0, 3, 3)


def test_whole_disappears_from_compositions():
    assert list(expand(["quarters+flip"])) == ["flip", "turn90+flip", "turn180+flip", "turn270+flip"]
    assert list(expand(["whole+whole"])) == ["whole"]


def test_composition_is_crop_then_turn_then_flip():
    frame = expand(["left+turn90+flip"])["left+turn90+flip"]
    # the top left corner of the mirrored view is the turned view's top right, which is the left half's top left
    assert np.allclose(apply(frame, np.array([[0.0, 0.0], [1.0, 0.0]])), [[0, 0], [0, 1]])
    assert not is_mirrored(expand(["left+turn90"])["left+turn90"]) and is_mirrored(frame)


def test_quadrants_are_the_cells_of_the_grid():
    assert list(expand(["quadrants", "grid2"])) == ["grid2_1_1", "grid2_1_2", "grid2_2_1", "grid2_2_2"]


def test_turns45_go_round_in_order():
    frames = expand(["turns45"])
    assert list(frames) == ["turn45", "turn90", "turn135", "turn180", "turn225", "turn270", "turn315"]
    around = [np.degrees(np.arctan2(-frame[1, 0], frame[0, 0])) % 360 for frame in frames.values()]  # of the view's x axis, backwards
    assert np.allclose(around, range(45, 360, 45))
    assert np.allclose(frames["turn225"], compose(turn(2), frames["turn45"]))


@pytest.mark.parametrize("name", ["turn45", "turn135", "turn225", "turn315"])
def test_a_turn_by_45_degrees_shows_all_of_the_picture_and_grey_corners(name):
    (frame,) = expand([name]).values()
    inside = apply(np.linalg.inv(frame), SQUARE)  # where the picture's corners lie in the view: the middles of its sides
    assert np.allclose(sorted(inside.tolist()), [[0, 0.5], [0.5, 0], [0.5, 1], [1, 0.5]], atol=1e-12)
    view, mask = render_with_mask(np.full((90, 60, 3), 200, dtype=np.uint8), frame, (80, 80))
    assert mask.mean() == pytest.approx(0.5, abs=0.02) and (view[mask] == 200).all() and (view[~mask] == GREY).all()
    assert not mask[[0, 0, -1, -1], [0, -1, 0, -1]].any() and mask[30:50, 30:50].all()


def test_two_turns_by_45_degrees_are_a_quarter_turn_half_as_large():
    twice = expand(["turn45+turn45"])["turn45+turn45"]
    assert np.allclose(twice, compose(turn(1), from_box(-0.5, -0.5, 1.5, 1.5)))


def test_a_square_stays_a_square_and_turns_clockwise():
    picture = np.zeros((200, 200, 3), dtype=np.uint8)
    picture[80:120, 80:120] = 255
    picture[20:40, 95:105] = (255, 0, 0)  # a mark above
    view = render(picture, expand(["turn45"])["turn45"], (200, 200))
    square, mark = view[..., 1] > 128, (view[..., 0] > 128) & (view[..., 1] < 100)
    assert square.sum() == pytest.approx(40 * 40 / 2, rel=0.06)
    y, x = np.nonzero(square)
    assert np.ptp(x) == pytest.approx(38, abs=2) and np.ptp(y) == pytest.approx(
        38, abs=2
    )  # its diagonal (40) less blunt tips, in a view sqrt(2) as wide
    y, x = np.abs(y - 99.5), np.abs(x - 99.5)
    assert (x + y).max() <= 21 and square[80:120, 80:120].sum() == square.sum()  # stands on a corner, as a rhomb with equal diagonals
    assert np.nonzero(mark)[0].mean() < 80 and np.nonzero(mark)[1].mean() > 120  # up becomes up and right


def test_inside_a_crop_it_reaches_past_the_crop():
    frame = expand(["centre+turn45"])["centre+turn45"]
    assert np.allclose(to_box(frame), [0, 0, 1, 1]) and covered_share(frame) == pytest.approx(0.5)


UPRIGHT = sorted(name for name in single_views() if name not in {"turn45", "turn135", "turn225", "turn315"})


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(UPRIGHT), min_size=1, max_size=3))
def test_every_composition_stays_inside(parts):
    (frame,) = expand(["+".join(parts)]).values()
    assert covered_share(frame) == pytest.approx(np.prod([covered_share(single_views()[p]) for p in parts]), abs=1e-9)


@pytest.mark.parametrize("name", ["hole", "half_grid_4_1", "left+", "", "turn30", "quadrants_1_1"])
def test_unknown_names_are_refused_with_the_list(name):
    with pytest.raises(UsageError, match="third_grid"):
        plan(["a"], [name])


def test_a_bare_text_or_nothing_is_refused():
    with pytest.raises(UsageError, match="list"):
        plan(["a"], "whole")
    with pytest.raises(UsageError, match="no views"):
        plan(["a"], [])
