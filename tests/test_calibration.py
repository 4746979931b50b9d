from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher.calibration import likeliest_first, predict, probability
from matcher.fusion import Fusion
from matcher.geometry import flip, from_box, identity, turn
from matcher.types import PairScores

MODEL = Fusion(weights={}, intercept=0.0, slope=0.7, offset=-0.2, card={})
NONE = np.full((3, 3), np.nan)


def scores(frames, queries=None, references=None):
    count = len(frames)
    return PairScores(
        query_id=queries or [f"q{n}" for n in range(count)],
        reference_id=references or [f"r{n}" for n in range(count)],
        frame=np.array(frames).reshape(-1, 3, 3),
        evidence={"sift_inliers": np.arange(count)},
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20), st.floats(0.01, 20), st.floats(-20, 20))
def test_probabilities_rise_with_the_logit_and_stay_inside(logits, slope, offset):
    model = Fusion(weights={}, intercept=0.0, slope=slope, offset=offset, card={})
    found = probability(np.sort(logits), model)
    assert (np.diff(found) >= 0).all() and (found > 0).all() and (found < 1).all()


def test_probability_is_platts_sigmoid():
    logits = np.array([-3.0, 0.0, 0.2, 5.0])
    assert np.allclose(probability(logits, MODEL), [1 / (1 + np.exp(-(0.7 * x - 0.2))) for x in logits])
    assert probability(np.array([0.2 / 0.7]), MODEL)[0] == pytest.approx(0.5)


def test_predictions_are_sorted_with_everything_that_belongs_to_them():
    some = replace(scores([identity(), from_box(0, 0, 0.5, 0.5), NONE]), patch_frame=[NONE, flip(), identity()])
    found = predict(some, np.array([0.0, 2.0, 1.0]), MODEL)
    assert found.query_id.tolist() == ["q1", "q2", "q0"] and found.reference_id.tolist() == ["r1", "r2", "r0"]
    assert found.evidence["sift_inliers"].tolist() == [1, 2, 0] == likeliest_first(some, np.array([0.0, 2.0, 1.0]), MODEL).tolist()
    assert np.allclose(found.probability, probability(np.array([2.0, 1.0, 0.0]), MODEL)) and np.array_equal(found.score, found.probability)
    assert np.array_equal(found.frame, np.stack([from_box(0, 0, 0.5, 0.5), NONE, identity()]), equal_nan=True)
    assert np.array_equal(found.patch_frame, [flip(), identity(), NONE], equal_nan=True)


def test_equal_ones_come_in_the_order_of_their_ids():
    some = scores([NONE] * 4, queries=["b", "a", "b", "a"], references=["x", "y", "w", "z"])
    found = predict(some, np.zeros(4), MODEL)
    assert list(zip(found.query_id.tolist(), found.reference_id.tolist(), strict=True)) == [("a", "y"), ("a", "z"), ("b", "w"), ("b", "x")]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-5, 5)), max_size=20), st.integers(1, 4))
def test_no_more_answers_than_asked_for(rows, answers):
    some = scores([NONE] * len(rows), queries=[f"q{query}" for query, _ in rows])
    logits = np.array([logit for _, logit in rows])
    every, few = predict(some, logits, MODEL), predict(some, logits, MODEL, answers=answers)
    seen, expected = {}, []
    for query, reference in zip(every.query_id.tolist(), every.reference_id.tolist(), strict=True):
        seen[query] = seen.get(query, 0) + 1
        expected += [(query, reference)] if seen[query] <= answers else []
    assert list(zip(few.query_id.tolist(), few.reference_id.tolist(), strict=True)) == expected


def test_covered_shares():
    crop, paste = from_box(0.25, 0, 0.75, 0.5), from_box(-0.5, -1, 1.5, 1)
    found = predict(scores([crop, paste, identity(), crop @ turn(1)]), np.array([4.0, 3, 2, 1]), MODEL)
    assert np.allclose(found.reference_covered, [0.25, 1, 1, 0.25])  # a crop shows a quarter of the reference
    assert np.allclose(found.query_covered, [1, 0.25, 1, 1])  # and is nothing else; a pasted copy fills a quarter of the query


def test_flips_and_unknown_frames():
    found = predict(scores([flip(), NONE, turn(2), from_box(0, 0, 0.5, 1) @ flip()]), np.array([4.0, 3, 2, 1]), MODEL)
    assert found.flip.tolist() == [True, False, False, True]
    assert np.isnan(found.query_covered).tolist() == np.isnan(found.reference_covered).tolist() == [False, True, False, False]
    assert np.isnan(found.frame[1]).all()


def test_no_pairs_no_predictions():
    assert len(predict(scores([]), np.empty(0), MODEL)) == 0


def test_all_frames_unknown():
    found = predict(scores([NONE, NONE]), np.array([0.0, 1.0]), MODEL)
    assert not found.flip.any() and np.isnan(found.query_covered).all()
