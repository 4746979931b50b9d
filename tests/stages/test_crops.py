"""Crops, counted votes and match counts in the pipeline, with a detector that always finds the same."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from matcher.errors import MatcherError, StaleStageError, UsageError
from matcher.fusion import Fusion, write_fusion
from matcher.geometry import from_box
from matcher.models.sift import extract
from matcher.pipeline import compare, describe, run, score, shortlist
from matcher.scoring.counts import count_matches
from matcher.settings import (
    CountSettings,
    CropSettings,
    IndexSettings,
    MatchCountSettings,
    Scorers,
    ShortlistSettings,
    SiftSettings,
    Strategy,
)
from matcher.stages.job import Job
from matcher.storage.records import read_record
from matcher.storage.stage import Stage
from matcher.types import Candidates, Keypoints, PairScores, Predictions, Views

REFERENCES = ("astronaut", "chelsea", "coffee", "rocket")
BOX = 24, 16, 184, 136  # left, top, right, bottom, in pixels of a query of 320 x 240
CROP = from_box(24 / 320, 16 / 240, 184 / 320, 136 / 240)
SIFT = SiftSettings(short_side=200, keypoints=300)
COUNTING = Strategy(
    query_keypoints=SIFT,
    reference_keypoints=SIFT,
    query_crop=CropSettings(detector="mine.safetensors"),
    index=IndexSettings(kind="flat", gpu="no"),
    shortlist=ShortlistSettings(per_query=0, counts=CountSettings(farthest=0.3)),  # among few references the nearest keypoint is far
    scorers=Scorers(sift=None, match_count=MatchCountSettings()),
)


class Finder:
    """A detector that finds one pasted picture, in BOX."""

    def detect(self, pixels, *, threshold=0.25):
        return np.array([[24 / 320, 16 / 240, 184 / 320, 136 / 240]]), np.array([0]), np.array([0.8])


@pytest.fixture(scope="module", autouse=True)
def detector():
    """Stands in for the weights and for what names them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matcher.stages.readiness.find_spec", lambda name: True)
        patch.setattr("matcher.stages.descriptors.card_digest", lambda path: "1234")
        for room in ("pasted", "comparing"):
            patch.setattr(f"matcher.stages.{room}.find_detector", lambda name: Finder())
        patch.setattr("matcher.stages.readiness.read_card", lambda path: {})
        yield


@pytest.fixture(scope="module")
def made(photos, tmp_path_factory):
    """A folder of references, and of one query: a picture of coins with a small part of the cat pasted in BOX."""
    folder = tmp_path_factory.mktemp("crops")
    (folder / "references").mkdir()
    (folder / "queries").mkdir()
    for name in REFERENCES:
        Image.fromarray(photos[name]).save(folder / "references" / f"{name}.png")
    canvas = np.ascontiguousarray(np.resize(photos["coins"], (240, 320, 3)))
    canvas[BOX[1] : BOX[3], BOX[0] : BOX[2]] = photos["chelsea"][40:160, 100:260]
    Image.fromarray(canvas).save(folder / "queries" / "pasted.png")
    Image.fromarray(photos["horse"]).save(folder / "queries" / "horse.png")
    fusion = Fusion(weights={"log_count": 2.0}, intercept=-7.0, slope=1.0, offset=0.0, card={})
    write_fusion(folder / "counts.json", fusion)
    return folder, replace(COUNTING, fusion=str(folder / "counts.json"))


@pytest.fixture(scope="module")
def finished(made):
    """The output folder of a run, not to be changed, what it was made of, and its strategy."""
    folder, strategy = made
    run(folder / "queries", folder / "references", folder / "out", strategy=strategy, job=Job(workers=1))
    return folder / "out", folder, strategy


def read(folder, kind):
    return Stage.load(folder, kind).read()


def test_a_strategy_of_counts_finds_and_judges(finished, photos):
    output, folder, strategy = finished
    crops = read(output / "queries" / "crops", Views)
    assert crops.image_id.tolist() == ["horse", "pasted"] and np.allclose(crops.frame[1], CROP)
    found = read(output / "candidates", Candidates)
    row = list(zip(found.query_id.tolist(), found.reference_id.tolist(), strict=True)).index(("pasted", "chelsea"))
    assert found.source[row] in ("counts+crop_counts", "crop_counts")
    scores = read(output / "pair_scores", PairScores)
    canvas = np.asarray(Image.open(folder / "queries" / "pasted.png"))
    looks = [extract(image, SIFT) for image in (canvas, np.ascontiguousarray(canvas[BOX[1] : BOX[3], BOX[0] : BOX[2]]))]
    reference = extract(photos["chelsea"], SIFT)
    whole, crop = (count_matches(look, reference, strategy.scorers.match_count) for look in looks)
    assert abs(scores.evidence["match_count"][row] - whole - crop) <= 2 and min(whole, crop) > 10  # places are rounded in the whole
    assert np.isnan(scores.evidence["sift_inliers"]).all() and np.isnan(scores.frame).all()
    predicted = read_record(output / "predictions.parquet", Predictions)
    best = predicted.probability.argmax()
    assert (predicted.query_id[best], predicted.reference_id[best]) == ("pasted", "chelsea") and predicted.probability[best] > 0.5


def test_compare_says_what_a_run_says(finished):
    output, folder, strategy = finished
    there = read_record(output / "predictions.parquet", Predictions)
    row = list(zip(there.query_id.tolist(), there.reference_id.tolist(), strict=True)).index(("pasted", "chelsea"))
    here = compare(folder / "queries" / "pasted.png", folder / "references" / "chelsea.png", strategy=strategy)
    assert here.prediction.evidence["match_count"][0] == there.evidence["match_count"][row]
    assert here.probability == there.probability[row] and "looked at by match counts; none found a region" in str(here)


def test_keypoints_find_the_region_beside_match_counts(made):
    folder, strategy = made
    both = replace(strategy, scorers=Scorers(match_count=MatchCountSettings()), query_crop=None)
    found = compare(folder / "queries" / "pasted.png", folder / "references" / "chelsea.png", strategy=both).prediction
    assert np.isfinite(found.frame).all() and found.evidence["match_count"][0] > 10 and found.evidence["sift_inliers"][0] > 10


def test_crops_of_others_are_refused(finished, monkeypatch, tmp_path):
    output, _, strategy = finished
    shutil.copytree(output, tmp_path / "out")
    output = tmp_path / "out"
    places = output / "queries", output / "references", output / "index", tmp_path / "candidates"
    without = replace(strategy, query_crop=None)
    with pytest.raises(StaleStageError, match="query_crops"):
        shortlist(*places[:3], output / "candidates", strategy=without)
    monkeypatch.setattr("matcher.stages.descriptors.card_digest", lambda path: "5678")
    with pytest.raises(StaleStageError, match=r"detector\.digest: was 1234, now 5678"):
        shortlist(*places, strategy=strategy)
    with pytest.raises(StaleStageError, match=r"detector\.digest: was 1234, now 5678"):
        score(output / "candidates", *places[:2], tmp_path / "scores", strategy=strategy)
    for name in ("crops", "crop_keypoints"):
        shutil.rmtree(output / "queries" / name)
    with pytest.raises(MatcherError, match="has no crops: describe it again"):
        shortlist(*places, strategy=strategy)


def test_a_part_that_was_lost_is_made_again(made, tmp_path):
    folder, strategy = made
    describe(folder / "queries", tmp_path / "out", side="query", strategy=strategy)
    before = {file: file.read_bytes() for name in ("crops", "crop_keypoints") for file in (tmp_path / "out" / name).glob("part*")}
    (tmp_path / "out" / "crops" / "part-00000.json").unlink()
    describe(folder / "queries", tmp_path / "out", side="query", strategy=strategy)
    assert len(before) == 4 and all(file.read_bytes() == content for file, content in before.items())
    describe(folder / "references", tmp_path / "references", side="reference", strategy=strategy)
    assert not (tmp_path / "references" / "crops").exists()  # crops are of queries
    assert len(read(tmp_path / "out" / "crop_keypoints", Keypoints))


def test_counts_go_beside_votes(finished, tmp_path):
    output, _, strategy = finished
    both = replace(strategy, shortlist=replace(strategy.shortlist, per_query=3))
    shortlist(output / "queries", output / "references", output / "index", tmp_path / "candidates", strategy=both)
    found = read(tmp_path / "candidates", Candidates)
    assert {"votes+counts+crop_counts", "votes+crop_counts"} & set(found.source.tolist()) and "votes" in found.source.tolist()


@pytest.mark.parametrize(("scorer", "term"), [("sift", "agreeing"), ("match_count", "log_count")])
def test_a_fusion_that_weighs_a_scorer_that_is_off_is_refused(made, tmp_path, scorer, term):
    folder, strategy = made
    write_fusion(tmp_path / "deaf.json", Fusion(weights={term: 1.0}, intercept=0.0, slope=1.0, offset=0.0, card={}))
    scorers = replace(Scorers(match_count=MatchCountSettings()), **{scorer: None})
    with pytest.raises(UsageError, match=rf"and strategy\.scorers\.{scorer} is null"):
        run(
            folder / "queries",
            folder / "references",
            tmp_path / "out",
            strategy=replace(strategy, scorers=scorers, fusion=str(tmp_path / "deaf.json")),
        )
