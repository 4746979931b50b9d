"""A list of candidate pairs that the user brings."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from matcher.pipeline import run
from matcher.settings import Scorers, SiftScorerSettings, Strategy
from matcher.stages.scoring import fingerprint, scorer_config
from matcher.storage.records import read_extra, read_record
from matcher.storage.stage import Stage
from matcher.types import Errors, PairScores, Predictions

KEYPOINTS = ("--config", "run/keypoints.yaml")
CHOICES = (("yes", 0.8), ("no", 0.8), ("no", 0.7))
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
    return lambda pairs: command("score", *KEYPOINTS, "--pairs", pairs, *sides, "--output", tmp_path / "scored", "--quiet")


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


def test_the_device_decides_no_score():
    made = [scorer_config(Strategy(scorers=Scorers(sift=SiftScorerSettings(gpu=gpu, ratio=ratio)))) for gpu, ratio in CHOICES]
    assert made[0] == made[1] != made[2]


def test_swapped_columns_are_said(score, tmp_path):
    (tmp_path / "swapped.csv").write_text("query_id,reference_id\nchelsea,turned\nnobody,chelsea\n")
    score(tmp_path / "swapped.csv")
    told = read_record(tmp_path / "scored" / "errors.parquet", Errors).message.tolist()
    assert "are the two columns swapped?" in told[0] and "swapped" not in told[1]


def test_unknown_ids_are_errors_and_have_no_evidence(score, command, pairs, tmp_path):
    _, _, complaint = score(pairs)
    assert f"2 of 5 pairs could not be scored, see {tmp_path / 'scored' / 'errors.parquet'}" in complaint
    stage = Stage.load(tmp_path / "scored", PairScores)
    scores, errors = stage.read(), stage.errors()
    assert errors.id.tolist() == ["turned nobody", "stranger chelsea"] and set(errors.code.tolist()) == {"missing"}
    assert read_record(tmp_path / "scored" / "errors.parquet", Errors).id.tolist() == errors.id.tolist()
    assert "'nobody'" in errors.message[0] and "reference" in errors.message[0] and "query" in errors.message[1]
    for values in (*scores.evidence.values(), scores.frame):
        assert np.isnan(values[[2, 4]]).all()
    assert np.isfinite(scores.evidence["identical"][[0, 1, 3]]).all()
    command("fuse", *KEYPOINTS, "--pair_scores", tmp_path / "scored", "--output", tmp_path / "fused.parquet")
    code, _, _ = command("calibrate", *KEYPOINTS, "--fused", tmp_path / "fused.parquet", "--output", tmp_path / "answers.parquet")
    assert code == 0
    found = read_record(tmp_path / "answers.parquet", Predictions)
    assert sorted(found.query_id.tolist()) == ["cropped", "cropped", "turned"]
    note = {(query, reference): (weight, note) for weight, reference, query, note in ROWS}
    own = read_extra(tmp_path / "answers.parquet").to_pydict()
    given = [note[pair] for pair in zip(found.query_id.tolist(), found.reference_id.tolist(), strict=True)]
    assert list(zip(own["weight"], own["note"], strict=True)) == given and set(own) == {"weight", "note"}
    assert (tmp_path / "answers.csv").read_text().startswith("query_id,reference_id,score\n")


def test_pictures_may_be_given_undescribed(library, prediction_of, tmp_path, command):
    table = pa.table({"reference_id": ["page", "moon"], "query_id": ["half", "half"], "rank": [1, 2]})
    pq.write_table(table, tmp_path / "pairs.parquet")
    places = ("--queries", library.queries / "half.png", "--references", library.references)
    code, _, complaint = command(
        "score", *KEYPOINTS, "--pairs", tmp_path / "pairs.parquet", *places, "--output", tmp_path / "scored", "--quiet"
    )
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
        ("", "is empty"),
        ("query_id,reference_id\nhalf\n", "pairs.csv"),
    ],
)
def test_a_list_that_cannot_be_used(score, tmp_path, text, told):
    (tmp_path / "pairs.csv").write_text(text)
    code, printed, complaint = score(tmp_path / "pairs.csv")
    assert code == 1 and printed == "" and len(complaint.splitlines()) == 1
    assert told in complaint


@pytest.mark.parametrize("name", ["frame", "logit", "score", "flip", "evidence.mine", "query.label"])
def test_columns_with_names_of_ours_are_refused_before_anything_is_described(library, command, tmp_path, name):
    (tmp_path / "pairs.csv").write_text(f"query_id,reference_id,note,{name}\nhalf,page,x,1\n")
    places = ("--queries", library.queries, "--references", library.references, "--output", tmp_path / "scored")
    code, _, complaint = command("score", *KEYPOINTS, "--pairs", tmp_path / "pairs.csv", *places, "--quiet")
    assert code == 1 and f"rename the column {name!r}" in complaint and len(complaint.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.csv"]


def test_a_list_whose_own_columns_changed_is_another_list(score, command, pairs, tmp_path):
    score(pairs)
    pairs.write_text(pairs.read_text().replace("third", "changed"))
    code, _, complaint = score(pairs)
    assert code == 1 and "inputs.pairs" in complaint and "--fresh" in complaint


def test_the_fingerprint_covers_every_column_and_not_the_chunks():
    one = {"query_id": ["a", "b"], "n": [1, None], "when": pa.array([1, 2], pa.timestamp("ns")), "box": [[1], None]}
    table = pa.table(one)
    assert fingerprint(table) == fingerprint(pa.concat_tables([table.slice(0, 1), table.slice(1)]))
    others = [{"n": [1, 2]}, {"when": pa.array([1, 3], pa.timestamp("ns"))}, {"box": [[2], None]}, {"n": pa.array([1, None], pa.int32())}]
    assert len({fingerprint(pa.table({**one, **other})) for other in [{}, *others]}) == 5


@pytest.fixture(scope="module")
def labelled(library, tmp_path_factory):
    """Tables of some queries and references with columns of their own, a run on them, and the label by query."""
    folder = tmp_path_factory.mktemp("labelled")
    labels = {"cropped": "a person", "half": 'a "page", half', "horse": ""}
    with (folder / "q.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["id", "path", "label", "weight"], *([n, place(library.queries, n), label, "007"] for n, label in labels.items())]
        )
    names = ["astronaut", "page", "moon"]
    paths = [place(library.references, name) for name in names]
    pq.write_table(pa.table({"id": names, "path": paths, "label": [1, None, 3]}), folder / "r.parquet")
    run(folder / "q.csv", folder / "r.parquet", folder / "out")
    return folder, labels


def place(folder: Path, name: str) -> str:
    return str(next(folder.glob(f"{name}.*")))


def test_the_pictures_own_columns_reach_the_predictions(labelled):
    folder, labels = labelled
    images = read_extra(folder / "out" / "queries" / "images.parquet").to_pydict()
    assert images == {"label": list(labels.values()), "weight": ["007"] * 3}
    found = read_record(folder / "out" / "predictions.parquet", Predictions)
    own = read_extra(folder / "out" / "predictions.parquet").to_pydict()
    assert {"cropped", "half"} <= set(found.query_id.tolist())
    assert own["query.label"] == [labels[query] for query in found.query_id.tolist()] and set(own["query.weight"]) == {"007"}
    numbers = {"astronaut": 1.0, "page": float("nan"), "moon": 3.0}
    assert np.array_equal(own["reference.label"], [numbers[name] for name in found.reference_id.tolist()], equal_nan=True)
    assert (folder / "out" / "predictions.csv").read_text().startswith("query_id,reference_id,score\n")
    assert "a person" not in (folder / "out" / "predictions.csv").read_text() and (folder / "out" / "report.html").is_file()


def test_a_resumed_run_with_own_columns_gives_the_same_bytes(labelled, small_shards, tmp_path):
    folder, _ = labelled
    out, files = folder / "out", ("predictions.parquet", "predictions.csv", "queries/images.parquet")
    before = {name: (out / name).read_bytes() for name in files}
    (out / "pair_scores" / "part-00000.json").unlink()
    run(folder / "q.csv", folder / "r.parquet", out)
    with small_shards():
        run(folder / "q.csv", folder / "r.parquet", tmp_path / "again")
    for name in files:
        assert (out / name).read_bytes() == before[name], name
    assert (tmp_path / "again" / "predictions.parquet").read_bytes() == before["predictions.parquet"]


def test_scores_begin_anew_over_their_own_list_of_errors(score, command, finished, pairs, tmp_path):
    score(pairs)
    sides = ("--queries", finished[0] / "queries", "--references", finished[0] / "references")
    code, _, complaint = command("score", *KEYPOINTS, "--pairs", pairs, *sides, "--output", tmp_path / "scored", "--fresh")
    assert code == 0, complaint


def test_a_picture_that_is_another_one_by_now_is_no_evidence(library, command, tmp_path):
    """Keypoints of one picture and pixels of another would be mixed else, and the probability be that of neither."""
    sides = [tmp_path / "queries", tmp_path / "references"]
    for side, names in zip(sides, (("cropped.jpg", "turned.jpg"), ("astronaut.png", "coffee.png")), strict=True):
        side.mkdir()
        for name in names:
            (side / name).write_bytes((getattr(library, side.name) / name).read_bytes())
        command(
            "describe",
            *KEYPOINTS,
            "--images",
            side,
            "--side",
            "query" if side == sides[0] else "reference",
            "--output",
            tmp_path / side.name[0],
        )
    (sides[1] / "coffee.png").write_bytes((sides[1] / "astronaut.png").read_bytes())
    (tmp_path / "pairs.csv").write_text("query_id,reference_id\ncropped,astronaut\nturned,coffee\n")
    words = ("--queries", tmp_path / "q", "--references", tmp_path / "r", "--output", tmp_path / "scored")
    code, _, complaint = command("score", *KEYPOINTS, "--pairs", tmp_path / "pairs.csv", *words)
    assert code == 0, complaint
    stage = Stage.load(tmp_path / "scored", PairScores)
    errors = stage.errors()
    assert errors.code.tolist() == ["changed"] and "coffee.png has changed since it was described" in errors.message[0]
    assert np.isfinite(stage.read().evidence["sift_support"]).tolist() == [True, False]


def test_a_list_without_rows(score, command, tmp_path):
    (tmp_path / "pairs.csv").write_text("query_id,reference_id\n")
    code, _, complaint = score(tmp_path / "pairs.csv")
    assert code == 0, complaint
    code, _, complaint = command("fuse", *KEYPOINTS, "--pair_scores", tmp_path / "scored", "--output", tmp_path / "fused.parquet")
    assert code == 0, complaint
    assert len(read_record(tmp_path / "fused.parquet", PairScores)) == 0
