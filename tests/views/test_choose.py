import numpy as np
import pytest

from matcher.errors import UsageError
from matcher.geometry import from_box
from matcher.types import Views
from matcher.views.choose import choose, choose_first, frames_of, kinds_of

KINDS = np.array(["whole", "left", "right+flip", "overlay", "overlay+turn90"])


def test_names_mean_kinds():
    assert kinds_of("halves") == ["left", "middle_column", "right", "top", "middle_row", "bottom"]
    assert kinds_of("overlays") == ["overlay"] and kinds_of("overlays+quarters")[:2] == ["overlay", "overlay+turn90"]
    with pytest.raises(UsageError, match="no view named 'nothing'"):
        kinds_of("overlays+nothing")


@pytest.mark.parametrize(
    ("names", "expected"),
    [(None, KINDS), (["halves"], ["left"]), (["halves+flip", "whole"], ["whole", "right+flip"]), (["overlays+turns"], ["overlay+turn90"])],
)
def test_chosen_are_the_views_of_the_names(names, expected):
    assert KINDS[choose(KINDS, names)].tolist() == list(expected)


def test_the_first_name_that_a_picture_has_a_view_of():
    ids, kinds = np.array(list("aabbb")), np.array(["whole", "left", "whole", "overlay", "overlay"])
    assert choose_first(ids, kinds, ["overlays", "whole"]).tolist() == [True, False, False, True, True]
    assert choose_first(ids, kinds, ["turns", "left"]).tolist() == [False, True, False, False, False]


def test_planned_views_need_not_be_seen():
    seen = Views(image_id=["a"], frame=[from_box(0, 0, 0.5, 0.5)], kind=["overlay"], confidence=[1])
    assert len(frames_of(None, seen)) == 1 and len(frames_of(["grid2", "overlays"], seen)) == 5
    assert (
        len(frames_of(["overlays", "grid2"], seen, first=True)) == 1
        and len(frames_of(["overlays", "grid2"], Views.empty(), first=True)) == 4
    )
