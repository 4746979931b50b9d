"""Predictions from CSV and Parquet, and into the challenge's CSV."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matcher.errors import MatcherError
from matcher.metrics import predicted
from matcher.metrics.predicted import ScoredPairs, write_predictions_csv
from matcher.storage.records import write_record
from matcher.types import Predictions

HEADER = "query_id,reference_id,score\n"


def written(tmp_path, text):
    path = tmp_path / "predictions.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [HEADER + "q1,r1,0.5\nq2,r1,1e-3\n", "q1,r1,0.5\nq2,r1,1e-3\n", "score,why,query_id,reference_id\n0.5,,q1,r1\n.001,,q2,r1\n"],
)
def test_csv_with_and_without_header(tmp_path, text):
    pairs = ScoredPairs.read(written(tmp_path, text))
    assert (pairs.query_id.tolist(), pairs.reference_id.tolist(), pairs.score.tolist()) == (["q1", "q2"], ["r1", "r1"], [0.5, 0.001])
    assert pairs.probability.tolist() == [0.5, 0.001] and np.isnan(pairs.frame).all()


def test_scores_outside_0_and_1_are_no_probabilities(tmp_path):
    pairs = ScoredPairs.read(written(tmp_path, "q1,r1,0.5\nq2,r1,-inf\n"))
    assert pairs.score.tolist() == [0.5, -np.inf] and np.isnan(pairs.probability).all()


def test_no_predictions_are_a_list_too(tmp_path):
    assert len(ScoredPairs.read(written(tmp_path, HEADER))) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: expected columns query_id, reference_id, score"),
        ("query_id,reference_id\nq1,r1\n", "has no column score: found query_id, reference_id"),
        ("query_id,reference_id,similarity\nq1,r1,.5\n", "has no column score"),
        ("q1,r1\n", "line 1: expected 3 fields, found 2"),
        (HEADER + "q1,r1,.5\nq1,r2\n", "line 3: expected 3 fields, found 2"),
        ("q1,r1,high\n", "column score: 'high' is not a number"),
        ("q1,r1,.5\nq1,r2,nan\n", "predictions.csv: the score of q1, r2 is not a number"),
        ("q1,r1,\n", "the score of q1, r1 is not a number"),
        ("q1,,.5\n", "row 1 has an empty reference_id"),
        ("q1,r1,.5\nq2,r1,.5\nq1,r1,.7\n", "predictions.csv: there is more than one row with query_id q1, reference_id r1"),
    ],
)
def test_bad_predictions_are_told_in_a_sentence(tmp_path, text, message):
    with pytest.raises(MatcherError) as error:
        ScoredPairs.read(written(tmp_path, text))
    assert message in str(error.value)


def test_parquet_keeps_frames_and_probabilities(tmp_path):
    frames = np.stack([np.eye(3) * 2, np.full((3, 3), np.nan)])
    columns = {"query_covered": [1, np.nan], "reference_covered": [1, np.nan], "flip": [False, True], "frame": frames}
    made = Predictions(query_id=["q1", "q2"], reference_id=["r1", "r1"], score=[0.9, 0.2], probability=[0.9, 0.2], **columns)
    write_record(tmp_path / "no_matter.csv", made)
    pairs = ScoredPairs.read(tmp_path / "no_matter.csv")
    assert pairs.query_id.tolist() == ["q1", "q2"] and pairs.probability.tolist() == [0.9, 0.2]
    np.testing.assert_array_equal(pairs.frame, frames)


def test_more_rows_than_the_challenge_takes_are_a_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(predicted, "CHALLENGE_ROWS", 1)
    with caplog.at_level(logging.WARNING, logger="matcher"):
        assert len(ScoredPairs.read(written(tmp_path, "q1,r1,1\nq2,r2,1\n"))) == 2
    assert "holds 2 predictions, the challenge takes 1" in caplog.text


IDS = st.text(
    st.sampled_from("a,;\"'\r\n\t é\u2028") | st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=6
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.tuples(IDS, IDS), st.floats(allow_nan=False), max_size=30))
def test_what_is_written_is_read_back(tmp_path, rows):
    path = tmp_path / "out.csv"
    write_predictions_csv(path, [query for query, _ in rows], [reference for _, reference in rows], list(rows.values()))
    pairs = ScoredPairs.read(path)
    assert list(zip(pairs.query_id.tolist(), pairs.reference_id.tolist(), strict=True)) == list(rows)
    assert pairs.score.tolist() == list(rows.values())


def test_the_format_of_the_challenge(tmp_path):
    path = tmp_path / "out.csv"
    write_predictions_csv(path, np.array(["Q1", "a,b"]), ["R1", "R2"], np.array([1 / 3, 1]))
    assert path.read_text() == 'query_id,reference_id,score\nQ1,R1,0.3333333333333333\n"a,b",R2,1.0\n'


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = written(tmp_path, "old")
    with pytest.raises(MatcherError, match="the score of q2 is not a number"):
        write_predictions_csv(path, ["q1", "q2"], ["r", "r"], [1, np.nan])
    with pytest.raises(ValueError):
        write_predictions_csv(path, ["q1", "q2"], ["r", "r"], [1, 2, 3])
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(MatcherError, match="cannot write"):
        write_predictions_csv(tmp_path / "nowhere" / "out.csv", [], [], [])
