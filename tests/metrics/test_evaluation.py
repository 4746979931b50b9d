"""evaluate, end to end on small files."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from matcher import geometry
from matcher.errors import MatcherError
from matcher.metrics.evaluation import evaluate, evaluate_difference
from matcher.metrics.predicted import ScoredPairs
from matcher.metrics.truth import Edits, GroundTruth
from matcher.types import Predictions

TRUTH = "query_id,reference_id\nq1,r1\nq2,r2\nq3,r3\nq4,\nq9,\n"
EDITS = """query_id,reference_id,families,severity,covered,frame
q1,r1,crop+hflip,3,1,2 0 -0.5 0 2 -0.5 0 0 1
q2,r2,crop,1,0.04,0.2 0 0.1 0 0.2 0.1 0 0 1
q3,r3,text,1,0.25,0.5 0 0 0 0.5 0 0 0 1
q4,,crop,2,0.3,
"""
LIST_B = "q1,r1,.9\nq2,r2,.8\nq3,r3,.8\nq3,r4,.8\n"
SMALL = {"resamples": 50}


@pytest.fixture
def files(tmp_path):
    for name, text in {"truth": TRUTH, "edits": EDITS, "b": LIST_B, "none": "query_id,reference_id,score\n"}.items():
        (tmp_path / f"{name}.csv").write_text(text)
    return lambda name: tmp_path / f"{name}.csv"


def predict(query_id, reference_id, probability, frame):
    absent = np.full(len(query_id), np.nan)
    same = {"score": probability, "probability": probability, "query_covered": absent, "reference_covered": absent}
    return Predictions(query_id=query_id, reference_id=reference_id, frame=frame, flip=absent > 0, **same)


def test_a_csv_against_a_csv(files):
    result = evaluate(files("b"), str(files("truth")), **SMALL)
    assert (result.queries, result.queries_without_match, result.positives, result.predictions, result.dropped) == (5, 2, 3, 4, 0)
    assert result.micro_ap.value == pytest.approx(0.805556, abs=1e-6)
    assert result.micro_ap.low <= result.micro_ap.value <= result.micro_ap.high
    assert (result.recall_at_p90.value, result.threshold_at_p90) == (pytest.approx(1 / 3), 0.9)
    assert (result.recall_at_rank1.value, result.recall_at_rank10.value) == (pytest.approx(2 / 3), 1)
    assert result.brier.value == pytest.approx((0.01 + 0.04 + 0.04 + 0.64) / 4)
    assert result.location is None and result.by_family == () and result.several is None and "several" not in str(result)


def test_location_and_groups(files):
    half = geometry.invert(geometry.from_box(0, 0, 1, 0.5))
    frames = [geometry.from_box(0.25, 0.25, 0.75, 0.75), np.full((3, 3), np.nan), half, np.eye(3)]
    predictions = predict(["q1", "q2", "q3", "q4"], ["r1", "r2", "r3", "r3"], [0.9, 0.8, 0.3, 0.5], frames)
    result = evaluate(predictions, files("truth"), edits=files("edits"), **SMALL)
    assert (result.location.found, result.location.without_frame) == (3, 1)
    assert result.location.median_query_iou.value == pytest.approx((1 + 0.5) / 2)
    assert result.location.median_reference_iou.value == pytest.approx(1)
    assert result.location.median_iou.value == pytest.approx((1 + 0.75) / 2)
    assert result.location.share_iou_half.value == 1
    assert result.threshold_at_p90 == pytest.approx(0.8)
    families = {row.group: row for row in result.by_family}
    assert list(families) == ["crop", "hflip", "text"]
    assert (families["crop"].positives, families["crop"].recall_at_threshold, families["crop"].micro_ap) == (2, 1, 1)
    assert families["crop"].median_iou == pytest.approx(1)
    text = families["text"]
    assert (text.positives, text.recall_at_threshold, text.recall_at_rank1, text.micro_ap) == (1, 0, 1, 0.5)
    assert text.median_iou == pytest.approx(0.75)
    assert [(row.group, row.positives) for row in result.by_covered] == [("0 - 0.05", 1), ("0.25 - 0.5", 1), ("0.5 - 1", 1)]
    assert [(row.group, row.positives) for row in result.by_severity] == [("1", 2), ("3", 1)]
    assert np.isnan(result.by_covered[0].median_iou)


def test_perfect_predictions_are_perfect(files):
    edits = Edits.read(files("edits")).take(slice(0, 3))
    predictions = predict(edits.query_id, edits.reference_id, np.ones(3), geometry.invert(edits.frame))
    result = evaluate(predictions, files("truth"), edits=edits, **SMALL)
    place = result.location
    for interval in (result.micro_ap, result.recall_at_p90, result.recall_at_rank1, place.median_iou, place.share_iou_half):
        assert (interval.value, interval.low, interval.high) == (pytest.approx(1), pytest.approx(1), pytest.approx(1))
    assert result.calibration_error.value == 0 and place.median_point_error.value == pytest.approx(0)


def test_nothing_predicted(files):
    result = evaluate(files("none"), files("truth"), edits=files("edits"), **SMALL)
    assert (result.micro_ap.value, result.recall_at_p90.value, result.recall_at_rank10.value, result.predictions) == (0, 0, 0, 0)
    assert np.isnan([result.threshold_at_p90, result.calibration_error.value, result.brier.value, result.location.median_iou.value]).all()
    assert result.location.found == 0 and result.by_family[0].recall_at_threshold == 0
    assert "precision 0.9 is never reached" in str(result)


def test_queries_that_are_not_listed_are_dropped_and_counted(files, caplog):
    (files("b").parent / "more.csv").write_text(LIST_B + "q7,r1,.99\nq8,r1,.98\n")
    result = evaluate(files("more"), files("truth"), **SMALL)
    assert (result.dropped, result.predictions) == (2, 4)
    assert result.micro_ap.value == pytest.approx(0.805556, abs=1e-6)
    assert "2 predictions left out" in str(result) and not caplog.records


def test_a_ground_truth_of_other_queries_is_refused(files):
    other = ScoredPairs.from_scores(["Q1.jpg"], ["r1"], [1])
    told = r"none of the 5 queries of the ground truth \(the first is 'q1'\).*'Q1.jpg'.*query_id,reference_id"
    with pytest.raises(MatcherError, match=told):
        evaluate(other, files("truth"), **SMALL)
    with pytest.raises(MatcherError, match=told):
        evaluate_difference(files("b"), other, files("truth"), **SMALL)


def test_several_references_of_one_query():
    truth = GroundTruth(query_id=["q1", "q1", "q2"], reference_id=["r1", "r2", ""])
    result = evaluate(ScoredPairs.from_scores(["q1", "q1"], ["r1", "r2"], [0.9, 0.8]), truth, **SMALL)
    assert (result.micro_ap.value, result.recall_at_rank1.value, result.recall_at_rank10.value, result.positives) == (1, 1, 1, 2)
    assert (result.several.queries, result.several.pairs, result.several.recall_of_sources.value) == (1, 2, 1)
    strangers = ScoredPairs.from_scores(["q1", "q1", "q1"], ["r1", "r7", "r2"], [0.9, 0.85, 0.8])
    behind = evaluate(strangers, truth, **SMALL)
    assert (behind.recall_at_rank1.value, behind.recall_at_rank10.value, behind.micro_ap.value) == (0.5, 1, pytest.approx((1 + 2 / 3) / 2))


def test_the_sources_of_queries_with_several_are_counted():
    truth = GroundTruth(query_id=["a", "a", "b", "b", "b", "c", "d"], reference_id=["1", "2", "1", "3", "4", "5", ""])
    rows = [("a", "1", 0.9), ("a", "2", 0.8), ("b", "3", 0.7), ("c", "5", 0.65), ("d", "9", 0.6), ("b", "4", 0.5)]
    result = evaluate(ScoredPairs.from_scores(*zip(*rows, strict=True)), truth, resamples=200)
    assert result.threshold_at_p90 == 0.65 and result.recall_at_p90.value == pytest.approx(4 / 6)
    assert (result.several.queries, result.several.pairs) == (2, 5)
    assert result.several.recall_of_sources.value == pytest.approx(3 / 5)
    assert (result.several.recall_of_sources.low, result.several.recall_of_sources.high) == pytest.approx((1 / 3, 1))  # all b, all a
    assert result.several.all_sources.value == pytest.approx(1 / 2)
    assert "2 queries are copies of several references, 5 pairs" in str(result) and "recall_of_sources 0.6000" in " ".join(
        str(result).split()
    )
    assert json.loads(json.dumps(result.as_dict()))["several"]["pairs"] == 5 and max(map(len, str(result).splitlines())) <= 100


def test_groups_and_location_are_of_pairs_not_of_queries():
    truth = GroundTruth(query_id=["q", "q", "n"], reference_id=["large", "small", ""])
    boxes = [geometry.from_box(0, 0, 0.5, 1), geometry.from_box(0.5, 0, 0.7, 0.4)]
    edits = Edits(
        query_id=["q", "q"], reference_id=["large", "small"], families=["several"] * 2, severity=[1, 1], covered=[0.5, 0.08], frame=boxes
    )
    frames = [geometry.invert(boxes[0]), geometry.invert(geometry.from_box(0.5, 0, 0.7, 0.2)), np.eye(3)]
    predictions = predict(["q", "q", "n"], ["large", "small", "x"], [0.9, 0.3, 0.5], frames)
    result = evaluate(predictions, truth, edits=edits, **SMALL)
    assert (result.location.found, result.location.median_query_iou.value) == (2, pytest.approx((1 + 0.5) / 2))
    small, large = result.by_covered
    assert (small.group, small.positives, small.recall_at_threshold, small.micro_ap) == ("0.05 - 0.1", 1, 0, 0.5)
    assert (large.group, large.positives, large.recall_at_threshold, large.micro_ap) == ("0.5 - 1", 1, 1, 1)
    assert (result.by_family[0].group, result.by_family[0].positives) == ("several", 2)


def test_same_seed_same_numbers(files):
    one, again, other = (evaluate(files("b"), files("truth"), seed=seed, resamples=30) for seed in (0, 0, 1))
    assert one == again and one.micro_ap != other.micro_ap


def test_as_json_and_as_text(files):
    result = evaluate(files("b"), files("truth"), edits=files("edits"), **SMALL)
    told = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert told["micro_ap"]["value"] == pytest.approx(0.805556, abs=1e-6)
    assert told["location"]["median_iou"] == {"value": None, "low": None, "high": None}
    assert told["location"]["without_frame"] == 3 and told["by_family"][0]["group"] == "crop"
    text = str(result)
    assert max(map(len, text.splitlines())) <= 100
    for words in ("micro_ap 0.8056", "threshold_at_p90 0.9", "hflip 1 1.0000", "0.25 - 0.5", "15 bins"):
        assert words in " ".join(text.split())
    scores = ScoredPairs.from_scores(["q1"], ["r1"], [-3.5])
    assert "the scores are not probabilities" in str(evaluate(scores, files("truth"), **SMALL))


def test_edits_of_another_set_are_refused(files):
    with pytest.raises(MatcherError, match="no pair of the ground truth, such as q1, r5"):
        evaluate(files("b"), GroundTruth(query_id=["q1"], reference_id=["r5"]), edits=files("edits"), **SMALL)


def test_paired_difference(files):
    better = ScoredPairs.from_scores(["q1", "q2", "q3"], ["r1", "r2", "r3"], [0.9, 0.8, 0.7])
    gain = evaluate_difference(files("b"), better, files("truth"), **SMALL)
    assert gain["micro_ap"].value == pytest.approx(1 - 0.805556, abs=1e-6) and gain["micro_ap"].low >= 0
    assert gain["recall_at_rank1"].value == pytest.approx(1 / 3)
    assert evaluate_difference(better, better, files("truth"), **SMALL)["micro_ap"].high == 0


def test_a_thousand_resamples_of_the_benchmarks_size_are_quick():
    rng = np.random.default_rng(0)
    query = np.repeat(np.arange(720), 10)
    truth = GroundTruth(query_id=[f"q{n}" for n in range(720)], reference_id=["r0" if n < 360 else "" for n in range(720)])
    predictions = ScoredPairs.from_scores([f"q{n}" for n in query], [f"r{n % 10}" for n in range(7200)], rng.random(7200).round(2))
    start = time.process_time()
    result = evaluate(predictions, truth, resamples=1000)
    assert time.process_time() - start < 8
    assert result.micro_ap.low < result.micro_ap.value < result.micro_ap.high


def test_a_frame_counts_as_found_from_an_overlap_of_a_half():
    ids, shifts = ["a", "b", "c", "d"], [0.4, 0.6, 0.48, 0.52]
    truth = GroundTruth(query_id=ids, reference_id=["r"] * 4)
    whole = Edits(query_id=ids, reference_id=["r"] * 4, families=["crop"] * 4, severity=[1] * 4, covered=[1.0] * 4, frame=[np.eye(3)] * 4)
    frames = [geometry.from_box(shift, 0, 1 + shift, 1) for shift in shifts]
    place = evaluate(predict(ids, ["r"] * 4, np.ones(4), frames), truth, edits=whole, **SMALL).location
    assert place.median_iou.value == pytest.approx(0.5) and place.share_iou_half.value == 0.5
