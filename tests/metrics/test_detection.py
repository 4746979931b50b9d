import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matcher.metrics.detection import box_iou, match_boxes, rank_boxes
from matcher.metrics.ranking import micro_ap, recall_at_precision

GRID = st.integers(0, 4)
BOX = st.tuples(GRID, GRID, st.integers(1, 4), st.integers(1, 4)).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])
PICTURE = st.tuples(st.lists(st.tuples(BOX, st.integers(1, 5)), max_size=5), st.lists(BOX, max_size=4))


def slow_iou(a, b):
    """Cells of the grid that both, or either of two boxes of whole numbers cover."""
    cells = [{(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])} for box in (a, b)]
    return len(cells[0] & cells[1]) / len(cells[0] | cells[1])


def slow_matches(found, truth):
    free, right = list(range(len(truth))), [False] * len(found)
    for row in sorted(range(len(found)), key=lambda row: (-found[row][1], row)):
        best = max(free, key=lambda place: (slow_iou(found[row][0], truth[place]), -place), default=None)
        if best is not None and slow_iou(found[row][0], truth[best]) >= 0.5:
            right[row] = True
            free.remove(best)
    return right


def slow_recall(pictures, precision):
    """The largest recall of all thresholds whose precision is high enough."""
    rows = [(sure, right) for found, truth in pictures for (_, sure), right in zip(found, slow_matches(found, truth), strict=True)]
    total, best = sum(len(truth) for _, truth in pictures), 0.0
    for threshold in range(1, 6):
        kept = [right for sure, right in rows if sure >= threshold]
        if kept and sum(kept) / len(kept) >= precision:
            best = max(best, sum(kept) / total if total else 0.0)
    return best


@given(st.lists(BOX, min_size=1, max_size=3), st.lists(BOX, min_size=1, max_size=3))
def test_iou_counts_cells(first, second):
    expected = [[slow_iou(a, b) for b in second] for a in first]
    np.testing.assert_allclose(box_iou(first, second), expected)


@given(PICTURE)
def test_the_most_certain_box_takes_the_true_one_it_overlaps_most(picture):
    found, truth = picture
    assert match_boxes([box for box, _ in found], [sure for _, sure in found], truth).tolist() == slow_matches(found, truth)


@given(st.lists(PICTURE, max_size=4))
def test_recall_at_precision_against_every_threshold(pictures):
    ranking = rank_boxes([[b for b, _ in f] for f, _ in pictures], [[c for _, c in f] for f, _ in pictures], [t for _, t in pictures])
    recall, _ = recall_at_precision(ranking, 0.7)
    if any(truth for _, truth in pictures):
        assert recall == pytest.approx(slow_recall(pictures, 0.7))
    else:
        assert np.isnan(recall)


def test_a_box_found_twice_is_right_once():
    truth, twice = [[0, 0, 2, 2]], [[0, 0, 2, 2], [0, 0, 2, 2]]
    assert match_boxes(twice, [0.4, 0.9], truth).tolist() == [False, True]


def test_missed_pictures_stay_in_the_denominator():
    ranking = rank_boxes([[[0, 0, 1, 1]], []], [[0.9], []], [[[0, 0, 1, 1]], [[0, 0, 1, 1]]])
    assert recall_at_precision(ranking, 0.9)[0] == 0.5
    assert micro_ap(ranking) == 0.5


def test_boxes_without_area_overlap_nothing():
    assert box_iou([[0, 0, 0, 0]], [[0, 0, 0, 0], [0, 0, 1, 1]]).tolist() == [[0, 0]]
    assert match_boxes(np.empty((0, 4)), [], [[0, 0, 1, 1]]).tolist() == []


@pytest.mark.parametrize(("found", "truth", "right"), [([0, 0, 3, 3], [0, 0, 2, 5], False), ([0, 0, 2, 1], [0, 0, 2, 2], True)])
def test_a_box_is_right_from_an_overlap_of_a_half(found, truth, right):
    assert slow_iou(found, truth) == (1 / 2 if right else 6 / 13)
    assert match_boxes([found], [1], [truth]).tolist() == [right]
    assert micro_ap(rank_boxes([[found]], [[1]], [[truth]])) == float(right)
