"""Ground truth and edits from CSV, and what is wrong with a bad file."""

from __future__ import annotations

import numpy as np
import pytest

from matcher.errors import MatcherError
from matcher.metrics.truth import Edits, GroundTruth

EDITS_HEADER = "query_id,reference_id,families,severity,covered,frame\n"


def written(tmp_path, text, name="file.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        "query_id,reference_id\nq1,r1\nq2,\nq1,r3\n",
        "q1,r1\r\n\r\nq2,\r\nq1,r3",
        "\ufeffnote,reference_id, query_id\n,r1,q1\nx,,q2\n,r3,q1\n",
    ],
)
def test_ground_truth_with_and_without_header(tmp_path, text):
    truth = GroundTruth.read(written(tmp_path, text))
    assert truth.queries() == ["q1", "q2"]
    assert truth.pairs() == [("q1", "r1"), ("q1", "r3")]


@pytest.mark.parametrize(
    "text", ["cat,dog\ncow,\n", "cat,dog\n", "query_id,reference_id\ncat,dog\nq2,r2\n", "cat,\nq2,r2\n", "cat,dog\nq2,r\ncow,\n"]
)
def test_ids_that_are_words_are_no_header(tmp_path, text):
    assert GroundTruth.read(written(tmp_path, text)).queries()[0] == "cat"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\nq1,r1\nq2,\n", "file.csv begins with a,b, which looks like a header: name the columns query_id,reference_id"),
        ("copy id,original\ncat,dog\n", "file.csv begins with copy id,original, which looks like a header"),
        ("", "file.csv is empty: expected columns query_id, reference_id"),
        ("query_id,reference_id\n", "file.csv lists no queries"),
        ("query_id,ref\nq1,r1\n", "file.csv has no column reference_id: found query_id, ref"),
        ("query,reference\nq1,r1\n", "file.csv has no column query_id, reference_id: found query, reference"),
        ("q1,r1\nq2\n", "file.csv, line 2: expected 2 fields, found 1"),
        ("q1,r1,0.5\n", "file.csv, line 1: expected 2 fields, found 3"),
        ("q1,r1\n,r2\n", "row 2 has an empty query_id"),
        ("q1,r1\nq2,r1\nq1,r1\n", "file.csv: there is more than one row with query_id q1, reference_id r1"),
        ("q1,r1\nq1,\n", "lists q1 with a reference and with an empty one"),
        ("q1,\nq1,\n", "more than one row with query_id q1, reference_id (none)"),
        (b"\xff\xfe\x00\x01", "is not a CSV file in UTF-8"),
    ],
)
def test_bad_ground_truth_is_told_in_a_sentence(tmp_path, text, message):
    with pytest.raises(MatcherError) as error:
        GroundTruth.read(written(tmp_path, text))
    assert message in str(error.value)


def test_a_path_that_is_no_file(tmp_path):
    with pytest.raises(MatcherError, match=r"cannot read .*nowhere.csv: No such file"):
        GroundTruth.read(tmp_path / "nowhere.csv")
    with pytest.raises(MatcherError, match=r"cannot read .*: Is a directory"):
        GroundTruth.read(tmp_path)


def test_edits(tmp_path):
    rows = 'q1,"r,1",turn+hflip,3,0.5,1 0 .1 0 2 .2 0 0 1\nq2,,none,,,\n'
    edits = Edits.read(written(tmp_path, EDITS_HEADER + rows))
    assert edits.reference_id.tolist() == ["r,1", ""]
    assert edits.families.tolist() == ["turn+hflip", "none"]
    assert edits.severity[0] == 3 and np.isnan(edits.severity[1])
    assert edits.covered[0] == 0.5 and np.isnan(edits.covered[1])
    assert edits.frame[0].tolist() == [[1, 0, 0.1], [0, 2, 0.2], [0, 0, 1]] and np.isnan(edits.frame[1]).all()
    assert len(Edits.read(written(tmp_path, EDITS_HEADER))) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("query_id,reference_id,families\n", "file.csv has no column severity, covered, frame: found query_id, reference_id, families"),
        ("q1,r1,crop,1,1,1 0 0 0 1 0 0 0 1\n", "has no column query_id"),
        (EDITS_HEADER + "q1,r1,crop,hard,1,1 0 0 0 1 0 0 0 1\n", "file.csv, column severity: 'hard' is not a number"),
        (EDITS_HEADER + "q1,r1,crop,1,1,1 0 0 0 1 0\n", "file.csv, frame of q1: expected 9 numbers separated by spaces, found 6"),
        (EDITS_HEADER + "q1,r1,crop,1,1,1 0 0 0 1 0 0 0 x\n", "frame of q1: 'x' is not a number"),
        (EDITS_HEADER + "q1,r1,crop,1,1,\nq1,r1,crop,1,1,\n", "file.csv: there is more than one row with query_id q1, reference_id r1"),
    ],
)
def test_bad_edits_are_told_in_a_sentence(tmp_path, text, message):
    with pytest.raises(MatcherError) as error:
        Edits.read(written(tmp_path, text))
    assert message in str(error.value)
