"""The main job from pictures to predictions, and its verbs one after the other."""

import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

import matcher
from matcher import geometry, pipeline, workshop
from matcher.metrics.evaluation import evaluate
from matcher.settings import Strategy
from matcher.stages.job import Job
from matcher.storage.records import read_record
from matcher.storage.stage import Stage
from matcher.types import Candidates, Errors, Predictions

FILES = (
    "predictions.csv",
    "predictions.parquet",
    "errors.parquet",
    "config.yaml",
    "versions.json",
    "timings.json",
    "report.html",
    "evaluation.json",
)


def test_run_writes_what_it_promises(finished, read_rows):
    output, summary = finished
    assert all((output / name).is_file() for name in FILES)
    assert all((output / name / "manifest.json").is_file() for name in ("candidates", "pair_scores", "queries/keypoints"))
    lines = (output / "predictions.csv").read_text().splitlines()
    assert lines[0] == "query_id,reference_id,score" and len(lines) == 1 + summary.pairs
    scores = [float(row["score"]) for row in read_rows(output / "predictions.csv")]
    assert scores == sorted(scores, reverse=True) and 0 < min(scores) <= max(scores) < 1
    assert yaml.safe_load((output / "config.yaml").read_text())["strategy"]["shortlist"]["per_query"] == Strategy().shortlist.per_query
    assert {"matcher", "numpy", "opencv-python", "pyarrow"} <= set(json.loads((output / "versions.json").read_text()))
    timings = json.loads((output / "timings.json").read_text())
    assert {"describe queries", "describe references", "index", "shortlist", "score", "fuse", "calibrate", "report"} <= set(timings)
    assert len(read_record(output / "errors.parquet", Errors)) == 0


def test_the_columns_on_disk(finished):
    output, summary = finished
    schema = pq.read_schema(output / "predictions.parquet")
    wanted = {"query_id", "reference_id", "frame", "score", "probability", "query_covered", "reference_covered", "flip"}
    assert wanted | {"evidence.sift_inliers", "evidence.identical", "evidence.untouched"} <= set(schema.names)
    assert str(schema.field("query_id").type) == "string" and str(schema.field("probability").type) == "double"
    assert schema.field("frame").type.list_size == 9 and str(schema.field("flip").type) == "bool"
    table = pq.read_table(output / "predictions.parquet", columns=["score", "probability"])
    assert table.column("score").equals(table.column("probability")) and len(table) == summary.pairs


def test_every_copy_is_found_and_no_stranger(finished, library):
    output, summary = finished
    found = read_record(output / "predictions.parquet", Predictions)
    believed = found.take(found.probability >= 0.5)
    assert dict(zip(believed.query_id.tolist(), believed.reference_id.tolist(), strict=True)) == library.truth
    assert len(believed) == len(library.truth)
    assert (summary.queries, summary.references, summary.errors, summary.copies) == (13, 12, 0, 9)


def test_where_the_copies_lie(prediction_of, photos):
    cropped, flipped, turned, pasted = (
        prediction_of(*pair) for pair in (("cropped", "astronaut"), ("flipped", "chelsea"), ("turned", "coffee"), ("pasted", "rocket"))
    )
    assert flipped.flip[0] and not cropped.flip[0] and not turned.flip[0]
    assert cropped.query_covered[0] > 0.97 and abs(cropped.reference_covered[0] - 0.4) < 0.03
    box = geometry.from_box(0.2, 0, 0.8, 2 / 3)
    assert geometry.iou(cropped.frame[0], box) > 0.95
    height, width = photos["rocket"].shape[:2]
    share = 0.36 * height * width / np.prod(photos["hubble_deep_field"].shape[:2])
    assert pasted.reference_covered[0] > 0.9 and abs(pasted.query_covered[0] - share) < 0.05
    corner = geometry.apply(turned.frame[0], np.array([[0.0, 0.0], [1.0, 0.0]]))  # a quarter turn to the left
    assert np.allclose(corner, [[1, 0], [1, 1]], atol=0.03)


@pytest.mark.parametrize("config", [("--config", "run/keypoints.yaml"), ()], ids=["keypoints", "default"])
def test_the_verbs_one_after_the_other_give_the_same_bytes(config, finished, library, command, tmp_path):
    out, workers = tmp_path / "by verbs", ("--workers", 1, "--quiet")
    at_once, sources = finished[0], ("identical", "votes")
    if not config:
        at_once, sources = tmp_path / "at once", (*sources, "neighbours", "second votes")
        assert command("run", "--queries", library.queries, "--references", library.references, "--output", at_once)[0] == 0
    queries, references = out / "queries", out / "references"
    sides = ("--queries", queries, "--references", references)
    steps = [
        ("describe", "--images", library.queries, "--output", queries, "--side", "query", *workers),
        ("describe", "--images", library.references, "--output", references, "--side", "reference", *workers),
        ("index", "--described", references, "--output", out / "index", *workers),
        ("shortlist", *sides, "--index", out / "index", "--output", out / "candidates", *workers),
        ("score", "--pairs", out / "candidates", *sides, "--output", out / "pair_scores", *workers),
        ("fuse", "--pair_scores", out / "pair_scores", "--output", out / "fused.parquet"),
        ("calibrate", "--fused", out / "fused.parquet", "--output", out / "predictions.parquet"),
    ]
    for step in steps:
        code, printed, complaint = command(*step, *config)
        assert code == 0, complaint
        assert printed.strip() == str(step[step.index("--output") + 1])
    for name in ("predictions.csv", "predictions.parquet"):
        assert (out / name).read_bytes() == (at_once / name).read_bytes()
    found = Stage.load(out / "candidates", Candidates).read()
    assert {source for joined in found.source.tolist() for source in joined.split("+")} == set(sources)


def test_a_program_reads_the_summary_and_two_threads_give_the_same_bytes(finished, library, tmp_path):
    words = ["run", "--config", "experiments/run/keypoints.yaml", "--workers", "2", "--json", "--quiet"]
    places = ["--queries", str(library.queries), "--references", str(library.references), "--output", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-m", "matcher", *words, *places], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stderr == ""
    told = json.loads(done.stdout)
    assert (told["queries"], told["references"], told["copies"], told["evaluation"]) == (13, 12, 9, None)
    for name in ("predictions.csv", "predictions.parquet"):
        assert (tmp_path / "out" / name).read_bytes() == (finished[0] / name).read_bytes()


def test_two_threads_write_the_same_parts(finished, library, small_shards, tmp_path):
    with small_shards():
        pipeline.run(library.queries, library.references, tmp_path / "out", job=Job(workers=2))
    parts = [part.relative_to(finished[0]) for part in finished[0].rglob("part-*")]
    assert len([part for part in parts if part.parts[0] == "pair_scores"]) > 4
    for part in [*parts, "predictions.csv"]:
        assert (tmp_path / "out" / part).read_bytes() == (finished[0] / part).read_bytes(), part


def test_evaluation_of_the_run(finished, library, command, tmp_path):
    output, summary = finished
    measured = summary.evaluation
    assert measured.micro_ap.value == 1 and measured.recall_at_p90.value == 1 and measured.recall_at_rank1.value == 1
    truth = library.write_truth(tmp_path / "truth.csv")
    for name in ("predictions.parquet", "predictions.csv"):
        code, printed, _ = command("evaluate", "--predictions", output / name, "--ground_truth", truth, "--json", "--resamples", 50)
        assert code == 0 and json.loads(printed)["micro_ap"]["value"] == 1
    again = evaluate(output / "predictions.parquet", truth)
    assert again.as_dict() == json.loads((output / "evaluation.json").read_text()) == measured.as_dict()
    assert "uAP" in str(summary) or "micro" in str(summary)


@pytest.mark.parametrize("name", [name for name in matcher.__all__ if name not in {"__version__", "read_strategy"}])
def test_the_verbs_are_functions_of_the_package(name):
    assert getattr(matcher, name) is getattr(pipeline if hasattr(pipeline, name) else workshop, name)
