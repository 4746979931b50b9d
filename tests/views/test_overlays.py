from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from matcher.geometry import to_box
from matcher.settings import BoxRules
from matcher.views.overlays import COLOURS, draw_boxes, draw_sheet, overlay_views
from matcher.views.render import render

BOXES = np.array([[0.1, 0.2, 0.5, 0.6], [0.0, 0.0, 0.3, 0.3], [0.5, 0.5, 0.9, 0.8]], dtype=np.float32)


def found(boxes, classes, confidence, size_hw=(60, 90), **rules):
    kept = {"kept": rules.pop("kept")} if "kept" in rules else {}
    return overlay_views("Q0001", boxes, classes=classes, confidence=confidence, size_hw=size_hw, rules=BoxRules(**rules), **kept)


def test_pasted_pictures_become_views_the_most_certain_first():
    views = found(BOXES, [0, 1, 0], [0.4, 0.9, 0.7])
    assert views.image_id.tolist() == ["Q0001", "Q0001"]
    assert views.kind.tolist() == ["overlay", "overlay"]
    np.testing.assert_allclose(to_box(views.frame), BOXES[[2, 0]], atol=1e-6)
    np.testing.assert_allclose(views.confidence, [0.7, 0.4], atol=1e-6)


def test_other_classes_on_demand_and_at_most_so_many():
    assert len(found(BOXES, [0, 1, 2], [0.4, 0.9, 0.7], kept=(0, 1, 2))) == 3
    views = found(BOXES, [0, 1, 2], [0.4, 0.9, 0.7], kept=(1, 2), most=1)
    np.testing.assert_allclose(to_box(views.frame), BOXES[[1]], atol=1e-6)


@pytest.mark.parametrize("box", [[0, 0, 1, 1], [0.01, 0.0, 1, 0.99], [0.2, 0.2, 0.2, 0.5]])
def test_the_whole_picture_and_nothing_are_no_views(box):
    assert len(found([box], [0], [0.9])) == 0


def test_nothing_found_is_an_empty_record():
    assert len(found(np.empty((0, 4)), [], [])) == 0


def test_a_view_shows_what_was_pasted():
    picture = np.zeros((60, 90, 3), dtype=np.uint8)
    picture[12:36, 9:45] = 200
    view = found(BOXES[:1], [0], [1.0])
    assert (render(picture, view.frame[0], (24, 36)) == 200).all()


def test_boxes_are_drawn_where_they_lie_in_the_colour_of_their_class():
    sheet = draw_boxes(np.zeros((50, 100, 3), dtype=np.uint8), [[0.5, 0.5, 0.9, 0.9]], [2], [0.5], side=100)
    assert sheet.shape == (100, 100, 3)
    assert tuple(sheet[35, 50]) == COLOURS[2]
    assert (sheet[50:] == 128).all()
    assert (sheet[:20, :40] == 0).all()


def test_a_sheet_holds_all_pictures(tmp_path):
    for name in ("a", "b", "c"):
        Image.new("RGB", (40, 40)).save(tmp_path / f"{name}.png")
    found = (np.array([[0.1, 0.1, 0.5, 0.5]]), np.array([0]), np.array([0.8]))
    detector = SimpleNamespace(detect=lambda pixels, threshold: found)
    draw_sheet(sorted(tmp_path.glob("*.png")), detector, tmp_path / "sheet.png", columns=2)
    assert Image.open(tmp_path / "sheet.png").size == (480, 480)
