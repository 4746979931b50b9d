"""A list of candidate pairs that the user brings."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from matcher.storage.records import read_record
from matcher.storage.stage import Stage
from matcher.types import PairScores, Predictions

ROWS = [
    ("007", "moon", "cropped", "first"),
    ("1.50", "coffee", "turned", "second, with a comma"),
    ("", "nobody", "turned", ""),
    ("1e3", "astronaut", "cropped", "third"),
    ("nan", "chelsea", "stranger", "fourth"),
]


@pytest.fixture
def pairs(tmp_path):
    """A CSV list with columns of its own, in an order of its own; two of its ids are unknown."""
    path = tmp_path / "pairs.csv"
    lines = [f'{weight},{reference},{query},"{note}"' for weight, reference, query, note in ROWS]
    path.write_text("\n".join(["weight,reference_id,query_id,note", *lines]) + "\n")
    return path


@pytest.fixture
def score(finished, command, tmp_path):
    """List of pairs -> (exit code, stdout, stderr) of scoring it on the finished run's pictures into ``scored``."""
    sides = ("--queries", finished[0] / "queries", "--references", finished[0] / "references")
    return lambda pairs: command("score", "--pairs", pairs, *sides, "--output", tmp_path / "scored", "--quiet")


def test_the_list_keeps_its_order_and_columns(prediction_of, score, pairs, tmp_path):
    code, printed, complaint = score(pairs)
    assert code == 0 and printed.strip() == str(tmp_path / "scored"), complaint
    stage = Stage.load(tmp_path / "scored", PairScores)
    scores, own = stage.read(), stage.extra()
    assert list(zip(scores.reference_id.tolist(), scores.query_id.tolist(), strict=True)) == [row[1:3] for row in ROWS]
    assert own.to_pydict() == {"weight": [row[0] for row in ROWS], "note": [row[3] for row in ROWS]}
    turned = prediction_of("turned", "coffee")
    assert all(np.array_equal(values[1], turned.evidence[name][0], equal_nan=True) for name, values in scores.evidence.items())
    assert (scores.frame[1] == turned.frame[0]).all()


def test_unknown_ids_are_errors_and_have_no_evidence(score, command, pairs, tmp_path):
    score(pairs)
    stage = Stage.load(tmp_path / "scored", PairScores)
    scores, errors = stage.read(), stage.errors()
    assert errors.id.tolist() == ["turned nobody", "stranger chelsea"] and set(errors.code.tolist()) == {"missing"}
    assert "'nobody'" in errors.message[0] and "reference" in errors.message[0] and "query" in errors.message[1]
    for values in (*scores.evidence.values(), scores.frame):
        assert np.isnan(values[[2, 4]]).all()
    assert np.isfinite(scores.evidence["identical"][[0, 1, 3]]).all()
    command("fuse", "--pair_scores", tmp_path / "scored", "--output", tmp_path / "fused.parquet")
    code, _, _ = command("calibrate", "--fused", tmp_path / "fused.parquet", "--output", tmp_path / "answers.parquet")
    assert code == 0
    found = read_record(tmp_path / "answers.parquet", Predictions)
    assert sorted(found.query_id.tolist()) == ["cropped", "cropped", "turned"]
    assert (tmp_path / "answers.csv").read_text().startswith("query_id,reference_id,score\n")


def test_pictures_may_be_given_undescribed(library, prediction_of, tmp_path, command):
    table = pa.table({"reference_id": ["page", "moon"], "query_id": ["half", "half"], "rank": [1, 2]})
    pq.write_table(table, tmp_path / "pairs.parquet")
    places = ("--queries", library.queries / "half.png", "--references", library.references)
    code, _, complaint = command("score", "--pairs", tmp_path / "pairs.parquet", *places, "--output", tmp_path / "scored", "--quiet")
    assert code == 0, complaint
    stage = Stage.load(tmp_path / "scored", PairScores)
    assert stage.extra().column("rank").to_pylist() == [1, 2] and stage.extra().column("rank").type == pa.int64()
    wanted = prediction_of("half", "page")
    assert all(np.array_equal(values[:1], wanted.evidence[name], equal_nan=True) for name, values in stage.read().evidence.items())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("query_id,reference_id\nhalf,page\nhalf,moon\nhalf,page\n", "half, page again in row 3"),
        ("query,reference_id\nhalf,page\n", "lacks the column 'query_id'; it has: query, reference_id"),
        ("query_id,reference_id,frame\nhalf,page,1\n", "'frame'"),
        ("", "is empty"),
        ("query_id,reference_id\nhalf\n", "pairs.csv"),
    ],
)
def test_a_list_that_cannot_be_used(score, tmp_path, text, told):
    (tmp_path / "pairs.csv").write_text(text)
    code, printed, complaint = score(tmp_path / "pairs.csv")
    assert code == 1 and printed == "" and len(complaint.splitlines()) == 1
    assert told in complaint


def test_a_list_without_rows(score, command, tmp_path):
    (tmp_path / "pairs.csv").write_text("query_id,reference_id\n")
    code, _, complaint = score(tmp_path / "pairs.csv")
    assert code == 0, complaint
    code, _, complaint = command("fuse", "--pair_scores", tmp_path / "scored", "--output", tmp_path / "fused.parquet")
    assert code == 0, complaint
    assert len(read_record(tmp_path / "fused.parquet", PairScores)) == 0
