import numpy as np
import pytest

from matcher.metrics.truth import GroundTruth
from matcher.report import judging
from matcher.types import Predictions


def predict(*rows: tuple[str, str, float]) -> Predictions:
    count = len(rows)
    probability = [row[2] for row in rows]
    return Predictions(
        query_id=np.array([row[0] for row in rows], dtype=str),
        reference_id=np.array([row[1] for row in rows], dtype=str),
        frame=np.tile(np.eye(3), (count, 1, 1)),
        score=probability,
        probability=probability,
        query_covered=np.ones(count),
        reference_covered=np.ones(count),
        flip=np.zeros(count, dtype=bool),
    )


TRUTH = GroundTruth(query_id=np.array(["a", "b", "c", "d"]), reference_id=np.array(["1", "2", "3", ""]))
PREDICTIONS = predict(("a", "1", 0.9), ("a", "2", 0.8), ("b", "2", 0.3), ("d", "1", 0.6), ("x", "1", 0.7))


def test_the_best_of_each_query_and_the_probable_come_first_and_the_page_is_sorted() -> None:
    predictions = predict(("a", "1", 0.9), ("a", "2", 0.8), ("b", "2", 0.3), ("d", "1", 0.6), ("x", "1", 0.7), ("d", "2", 0.4))
    assert judging.choose_rows(predictions, limit=9).tolist() == [0, 1, 4, 3, 5, 2]
    assert judging.choose_rows(predictions, limit=5).tolist() == [0, 1, 4, 3, 2]  # b's best, but not d's second
    assert judging.choose_rows(predictions, limit=2).tolist() == [0, 1]  # both references of a
    assert judging.choose_rows(predictions, limit=0).tolist() == []


def test_equal_probabilities_are_ordered_by_id() -> None:
    tied = predict(("b", "1", 0.5), ("a", "2", 0.5), ("a", "1", 0.5))
    assert judging.choose_rows(tied, limit=3).tolist() == [2, 1, 0]


def test_verdicts() -> None:
    assert judging.judge(PREDICTIONS, TRUTH) == ["right", "wrong", "right", "wrong", ""]
    assert judging.judge(PREDICTIONS, None) == [""] * 5


def test_missed_pairs_are_those_below_the_threshold_then_those_never_predicted() -> None:
    assert judging.find_missed(PREDICTIONS, TRUTH, threshold=0.5) == [(("b", "2"), 2), (("c", "3"), None)]
    assert judging.find_missed(PREDICTIONS, TRUTH, threshold=0.3) == [(("c", "3"), None)]


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.61234567890123])
def test_counts_agree_with_counting(threshold: float) -> None:
    counts = judging.count(PREDICTIONS, TRUTH, threshold=threshold)
    assert threshold in counts.thresholds and counts.thresholds[0] == 0 and counts.thresholds[-1] == 1
    states = judging.judge(PREDICTIONS, TRUTH)
    for step, at_least in enumerate(counts.thresholds):
        above = [state for state, p in zip(states, PREDICTIONS.probability, strict=True) if p >= at_least]
        assert counts.predictions[step] == len(above)
        assert (counts.right[step], counts.wrong[step]) == (above.count("right"), above.count("wrong"))
    assert counts.true_pairs == 3
