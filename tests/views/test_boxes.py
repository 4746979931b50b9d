import numpy as np
import pytest

from matcher.cli.parser import parse
from matcher.errors import UsageError
from matcher.geometry import to_box
from matcher.settings import BoxRules, ProposalRules
from matcher.views.boxes import box_views, overlaps

BOXES = np.array([[0.1, 0.2, 0.5, 0.6], [0.0, 0.0, 1.0, 0.9], [0.5, 0.5, 0.6, 0.9], [0.15, 0.2, 0.55, 0.6]])
SURE = [0.5, 0.6, 0.9, 0.4]
WIDE = (50, 200)  # height and width of the picture: the boxes have 80 x 20, 200 x 45, 20 x 20 and 80 x 20 pixels


def kept(size_hw=WIDE, **rules):
    """Numbers of the boxes that the rules keep, in order."""
    views = box_views("a", BOXES, confidence=SURE, kind="box", size_hw=size_hw, rules=BoxRules(**rules))
    return [int(np.flatnonzero(np.isclose(BOXES, box).all(axis=1))[0]) for box in to_box(views.frame)]


@pytest.mark.parametrize(
    ("rules", "rows"),
    [
        ({}, [2, 1, 0, 3]),
        ({"most": 2}, [2, 1]),
        ({"most": 0}, []),
        ({"confidence": 0.5}, [2, 1, 0]),
        ({"shorter_side": 20.5}, [1]),
        ({"aspect": 1.5}, [2]),
        ({"aspect": 4.1}, [2, 0, 3]),
        ({"least_share": 0.1}, [1, 0, 3]),
        ({"largest_share": 0.85}, [2, 0, 3]),
        ({"overlap": 0.5}, [2, 1, 0]),
        ({"overlap": 0.8}, [2, 1, 0, 3]),
        ({"overlap": 0.1}, [2, 1]),
    ],
)
def test_each_rule_alone(rules, rows):
    assert kept(**rules) == rows


def test_shapes_are_those_of_the_picture_not_of_the_unit_square():
    assert kept(aspect=1.5, size_hw=(200, 200)) == [1, 0, 3]


def test_views_say_where_what_and_how_sure():
    views = box_views("a", BOXES, confidence=SURE, kind="box", size_hw=WIDE, rules=BoxRules(most=1))
    assert views.image_id.tolist() == ["a"] and views.kind.tolist() == ["box"] and np.allclose(views.confidence, [0.9])
    nothing = box_views("a", np.empty((0, 4)), confidence=[], kind="box", size_hw=WIDE, rules=BoxRules())
    assert len(nothing) == 0 and nothing.frame.shape == (0, 3, 3)


def test_intersection_over_union():
    others = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [2, 0, 4, 2], [0.5, 0.5, 1, 1.5]], dtype=float)
    assert np.allclose(overlaps(others[0], others), [1, 1 / 7, 0, 1 / 8])


@pytest.mark.parametrize("rules", [{"aspect": 0.5}, {"most": -1}, {"overlap": -0.1}])
def test_rules_that_cannot_be_are_refused(rules):
    for kind in (BoxRules, ProposalRules):
        with pytest.raises(UsageError, match=f"{next(iter(rules))} must be at least"):
            kind(**rules)
    with pytest.raises(UsageError, match="side must be at least 16, not 8"):
        ProposalRules(side=8)


def test_rules_can_be_set_in_a_file_and_on_the_command_line(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("strategy: {descriptor: {backbone: x, boxes: {largest_share: 0.85}, proposals: {side: 96, aspect: null}}}")
    words = ["--queries", "q", "--references", "r", "--output", "o", "--config", str(file), "--strategy.descriptor.boxes.aspect", "4"]
    descriptor = parse("run", words).arguments["strategy"].descriptor
    assert descriptor.boxes == BoxRules(largest_share=0.85, aspect=4.0)
    assert descriptor.proposals == ProposalRules(side=96, aspect=None)
