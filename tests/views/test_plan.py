import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher.errors import UsageError
from matcher.geometry import apply, covered_share, from_box, is_mirrored, to_box
from matcher.views.plan import expand, plan, single_views

GROUPS = {"turns": 3, "quarters": 4, "halves": 6, "half_grid": 9, "third_grid": 25, "grid2": 4, "grid3": 9, "tiles": 4}


@pytest.mark.parametrize(("name", "count"), GROUPS.items())
def test_groups_have_their_number_of_views(name, count):
    assert len(expand([name])) == count
    assert len(expand([name + "+flip"])) == count


@pytest.mark.parametrize(
    ("name", "share", "covers_all"),
    [
        ("halves", 1 / 2, True),
        ("half_grid", 1 / 4, True),
        ("third_grid", 1 / 9, True),
        ("grid2", 1 / 4, True),
        ("grid3", 1 / 9, True),
        ("tiles", 1 / 9, False),
    ],
)
def test_cells_have_equal_area_and_cover(name, share, covers_all):
    boxes = np.array([to_box(frame) for frame in expand([name]).values()])
    assert np.allclose([covered_share(frame) for frame in expand([name]).values()], share)
    points = np.random.default_rng(0).random((500, 1, 2))
    covered = ((points > boxes[:, :2]) & (points < boxes[:, 2:])).all(-1).any(-1)
    central = ((points[:, 0] > 1 / 6) & (points[:, 0] < 5 / 6)).all(-1)
    assert covered.all() if covers_all else (covered == central).all()


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


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(sorted(single_views())), min_size=1, max_size=3))
def test_every_composition_stays_inside(parts):
    (frame,) = expand(["+".join(parts)]).values()
    assert covered_share(frame) == pytest.approx(np.prod([covered_share(single_views()[p]) for p in parts]), abs=1e-9)


@pytest.mark.parametrize("name", ["hole", "half_grid_4_1", "left+", "", "turn45"])
def test_unknown_names_are_refused_with_the_list(name):
    with pytest.raises(UsageError, match="third_grid"):
        plan(["a"], [name])


def test_a_bare_text_or_nothing_is_refused():
    with pytest.raises(UsageError, match="list"):
        plan(["a"], "whole")
    with pytest.raises(UsageError, match="no views"):
        plan(["a"], [])
