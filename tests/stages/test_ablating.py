"""A grid of strategies: what a row comes to is what a run of it comes to, and nothing is made twice."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml

from matcher.errors import MatcherError, UsageError
from matcher.fusion import Fusion, write_fusion
from matcher.metrics.evaluation import evaluate
from matcher.models import checkpoint
from matcher.models.descriptor import Descriptor
from matcher.pipeline import run
from matcher.stages import descriptors
from matcher.stages.ablation_bench import Bench, Described, asked_of, share, share_keypoints, with_all_views
from matcher.stages.job import Job
from matcher.stages.strategies import merge, read_strategy
from matcher.storage.records import read_record
from matcher.types import Predictions
from matcher.workshop import ablate

QUERIES = ("cropped.jpg", "flipped.jpg", "half.png", "same bytes.png", "horse.jpg")
REFERENCES = ("astronaut.png", "chelsea.png", "page.png", "brick.png", "moon.png", "coins.png")
NO_KEYPOINTS = {"query_keypoints": {"keypoints": 0}, "reference_keypoints": {"keypoints": 0}}


@pytest.fixture(scope="module")
def room(library, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablation")
    for side, names in (("queries", QUERIES), ("references", REFERENCES)):
        (folder / side).mkdir()
        for name in names:
            shutil.copy(getattr(library, side) / name, folder / side)
    copies = {"cropped": "astronaut", "flipped": "chelsea", "half": "page", "same bytes": "brick", "horse": ""}
    (folder / "truth.csv").write_text("query_id,reference_id\n" + "".join(f"{q},{r}\n" for q, r in copies.items()))
    checkpoint.save(folder / "mine.safetensors", Descriptor.build("timm:test_vit", size=32, dim=16), {})
    write_fusion(folder / "similarity.json", Fusion({"similarity": 10.0}, -5.0, 1.0, 0.0, {}))
    return folder


@pytest.fixture(scope="module")
def rows(room):
    descriptor = {"backbone": str(room / "mine.safetensors"), "query_views": ["whole", "flip"]}
    by_descriptor = {
        **NO_KEYPOINTS,
        "descriptor": descriptor,
        "shortlist": {"per_query": 0, "descriptor": [{"per_query": 2}]},
        "scorers": {"sift": None},
        "fusion": str(room / "similarity.json"),
    }
    (room / "views.yaml").write_text(yaml.safe_dump({"strategy": by_descriptor}))
    other_views = {"descriptor": {"query_views": ["left", "whole"], "reference_views": ["centre", "whole"]}}
    return {
        "keypoints": ["run/keypoints.yaml"],
        "views": [str(room / "views.yaml")],
        "other views": [str(room / "views.yaml"), other_views],
        "fewer": [str(room / "views.yaml"), {"shortlist": {"descriptor": [{"per_query": 1}]}}],
        "hurried": ["run/keypoints.yaml", {"budget": {"seconds_per_query": 1e-9}}],
    }


@pytest.fixture(scope="module")
def made(room, rows):
    return ablate(room / "queries", room / "references", room / "truth.csv", room / "out", rows=rows, resamples=20)


def predictions(path):
    return read_record(path / "predictions.parquet", Predictions)


@pytest.mark.parametrize("name", ["keypoints", "views", "other views", "fewer"])
def test_a_row_is_what_a_run_of_it_is(made, room, rows, name, tmp_path):
    run(room / "queries", room / "references", tmp_path / "run", strategy=read_strategy(rows[name]))
    ours, theirs = predictions(room / "out" / "rows" / name), predictions(tmp_path / "run")
    assert ours.query_id.tolist() == theirs.query_id.tolist() and ours.reference_id.tolist() == theirs.reference_id.tolist()
    slack = 1e-6 if name == "keypoints" else 0.05  # pictures are decoded as finely as the smallest view of any row needs
    assert np.allclose(ours.score, theirs.score, atol=slack) and np.allclose(ours.frame, theirs.frame, atol=1e-6, equal_nan=True)
    assert made.outcomes[name].evaluation.micro_ap.value == evaluate(ours, room / "truth.csv", resamples=20).micro_ap.value


def test_what_it_says(made, room):
    written = json.loads((room / "out" / "results.json").read_text())["rows"]
    assert sorted(written) == sorted(made.outcomes) and list(made.outcomes) == ["keypoints", "views", "other views", "fewer", "hurried"]
    assert written["keypoints"]["difference"] == {} and written["views"]["difference"]["micro_ap"]["value"] < 0
    cost = {name: outcome.cost for name, outcome in made.outcomes.items()}
    assert (
        cost["keypoints"].views == 0 and cost["views"].views == cost["other views"].views == 2 and cost["fewer"].pairs < cost["views"].pairs
    )
    assert cost["other views"].reference_bytes == 2 * 16 * 4 and cost["keypoints"].reference_bytes > 1000 and cost["views"].seconds > 0
    assert made.outcomes["keypoints"].candidate_recall == 1
    table = (room / "out" / "table.md").read_text()
    assert cost["hurried"].pairs == 1 < cost["keypoints"].pairs
    assert table.count("\n| ") == 6 and all(f"| {name} |" in table for name in made.outcomes) and str(made).startswith(table)


def test_views_are_described_once_and_a_second_call_makes_nothing(made, room, rows, monkeypatch):
    assert len(list((room / "out" / "described").iterdir())) == 1
    before = (room / "out" / "timings.json").read_text()
    monkeypatch.setattr(descriptors, "load_model", None)
    again = ablate(room / "queries", room / "references", room / "truth.csv", room / "out", rows=rows, resamples=20)
    assert again.as_dict() == made.as_dict() and (room / "out" / "timings.json").read_text() == before
    two = {name: rows[name] for name in ("keypoints", "views")}
    fewer = ablate(room / "queries", room / "references", room / "truth.csv", room / "out", rows=two, resamples=20)
    assert fewer.outcomes["views"].evaluation.micro_ap == made.outcomes["views"].evaluation.micro_ap


def test_rows_that_cannot_be_are_told(room, tmp_path):
    def refused(rows):
        with pytest.raises((UsageError, MatcherError)) as error:
            ablate(room / "queries", room / "references", room / "truth.csv", tmp_path / "out", rows=rows)
        assert not (tmp_path / "out").exists()
        return str(error.value)

    assert "names no strategy" in refused({})
    assert "name of a folder" in refused({"a/b": ["run/keypoints.yaml"]})
    assert "must be a list" in refused({"a": "run/keypoints.yaml"})
    assert "run/nothing.yaml" in refused({"a": ["run/nothing.yaml"]})
    assert "scorerss" in refused({"a": ["run/keypoints.yaml", {"scorerss": 1}]})
    assert "nowhere" in refused({"a": ["run/keypoints.yaml", {"fusion": "nowhere"}]})


def test_the_later_part_wins():
    assert merge({"a": {"b": 1, "c": [1]}, "d": {"e": 1}}, {"a": {"c": [2]}, "d": None}) == {"a": {"b": 1, "c": [2]}, "d": None}
    strategy = read_strategy(["run/full.yaml", {"scorers": {"sift": None}}, {"shortlist": {"per_query": 7}}])
    assert strategy.scorers.sift is None and strategy.scorers.pair_model is not None and strategy.shortlist.per_query == 7


def test_who_looks_at_no_keypoints_shares_those_of_the_others():
    by_votes = read_strategy(["run/keypoints.yaml"])
    alone = read_strategy(["run/descriptor.yaml"])
    shared = share_keypoints({"alone": alone, "by votes": by_votes})
    assert shared["alone"] == replace(alone, query_keypoints=by_votes.query_keypoints, reference_keypoints=by_votes.reference_keypoints)
    assert share_keypoints({"alone": alone}) == {"alone": alone}


OTHERWISE = {
    "alone": {},
    "moved": {"post": {"subtract": {}}, "background_weight": 0},
    "several": {"backbone": ["copydetect", "mobilenet"]},
    "sizes": {"sizes": [96, 128]},
}


def test_rows_with_and_without_a_crop_of_the_query_have_other_judges(tmp_path):
    bench, strategy = Bench(tmp_path, queries="q", references="r", job=Job()), read_strategy(["run/imgfp.yaml"])
    group = Described(tmp_path, strategy)
    assert bench.judges(group, strategy) == bench.judges(group, replace(strategy, shortlist=replace(strategy.shortlist, always=7)))
    assert bench.judges(group, strategy) != bench.judges(group, replace(strategy, query_crop=None))


def test_who_asks_otherwise_is_described_apart():
    shared = share({"a": {"k": 1}, "b": {"k": 1, "boxes": 2}, "c": {"k": 1, "boxes": 3}, "d": {"k": 2}, "e": {"k": 1, "boxes": 2, "p": 1}})
    assert shared == [["a", "b", "e"], ["c"], ["d"]]
    full, d2lv = read_strategy(["run/full.yaml"]), read_strategy(["run/d2lv.yaml", {"descriptor": {"backbone": "copydetect"}}])
    assert share({"full": asked_of(full), "d2lv": asked_of(share_keypoints({"full": full, "d2lv": d2lv})["d2lv"])}) == [["full", "d2lv"]]
    both = with_all_views([full, d2lv]).descriptor
    assert both.proposals == d2lv.descriptor.proposals and both.boxes == d2lv.descriptor.boxes
    assert both.query_views == d2lv.descriptor.query_views
    rows = {name: read_strategy(["run/descriptor.yaml", {"descriptor": changed}]) for name, changed in OTHERWISE.items()}
    assert share({name: asked_of(strategy) for name, strategy in rows.items()}) == [["alone", "moved"], ["several"], ["sizes"]]
