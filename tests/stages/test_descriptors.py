"""Descriptors in the pipeline: candidates beside votes, evidence, a background, and a strategy of descriptors alone."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from matcher.background import Background, make_background
from matcher.describe import made_by
from matcher.errors import MatcherError, StaleStageError
from matcher.geometry import flip
from matcher.models import checkpoint
from matcher.models.descriptor import Descriptor
from matcher.pipeline import calibrate, compare, describe, fuse, run, score, shortlist
from matcher.settings import (
    BoxRules,
    DescriptorSettings,
    NearestViews,
    ProposalRules,
    Scorers,
    ShortlistSettings,
    SiftSettings,
    Strategy,
)
from matcher.shortlist.similarity import compare_views
from matcher.stages.shortlisting import merge
from matcher.storage.records import read_record
from matcher.storage.stage import Stage
from matcher.types import Candidates, Descriptors, PairScores, Pictures, Predictions

QUERIES = ("cropped.jpg", "flipped.jpg", "half.png", "same bytes.png", "horse.jpg")
REFERENCES = ("astronaut.png", "chelsea.png", "page.png", "brick.png", "moon.png", "coins.png")
SMALL = ShortlistSettings(per_query=3, always=2, descriptor=[NearestViews(per_query=3)])


def save_descriptor(path, seed=0):
    checkpoint.save(path, Descriptor.build("timm:test_vit", size=32, dim=16, seed=seed), {})


@pytest.fixture(scope="module")
def made(library, tmp_path_factory):
    """A folder with a few queries and references, a checkpoint and a background, the strategy that uses them, and its run."""
    folder = tmp_path_factory.mktemp("descriptors")
    for side, names in (("queries", QUERIES), ("references", REFERENCES)):
        (folder / side).mkdir()
        for name in names:
            shutil.copy(getattr(library, side) / name, folder / side)
    shutil.copytree(library.references, folder / "photos", ignore=lambda _, names: REFERENCES)
    save_descriptor(folder / "mine.safetensors")
    settings = DescriptorSettings(backbone=str(folder / "mine.safetensors"), query_views=["whole", "flip", "left"])
    make_background(folder / "photos", folder / "background.safetensors", strategy=Strategy(descriptor=settings))
    settings = replace(settings, background=str(folder / "background.safetensors"), background_weight=0.7)
    strategy = Strategy(descriptor=settings, shortlist=SMALL)
    run(folder / "queries", folder / "references", folder / "out", strategy=strategy)
    return folder, strategy


def sides_of(folder):
    return [Stage.load(folder / "out" / side / "descriptors", Descriptors).read() for side in ("queries", "references")]


def best(queries, references, penalty, query_id, reference_id):
    """Every pair of views: the largest similarity, and which views have it."""
    return max(
        (float(queries.rows[q] @ references.rows[r] - penalty[q]), -r, -q)
        for q in np.flatnonzero(queries.image_id == query_id)
        for r in np.flatnonzero(references.image_id == reference_id)
    )


def test_every_pair_has_the_similarity_of_its_closest_views_less_the_penalty(made):
    folder, strategy = made
    queries, references = sides_of(folder)
    background = Background.load(folder / "background.safetensors", made_by=made_by(strategy.descriptor))
    penalty = [0.7 * np.sort(background.rows @ row)[-3:].mean() for row in queries.rows]
    scores = Stage.load(folder / "out" / "pair_scores", PairScores).read()
    candidates = Stage.load(folder / "out" / "candidates", Candidates).read()
    assert len(scores) == len(candidates) and "votes" in candidates.source.tolist()
    for row, pair in enumerate(zip(scores.query_id.tolist(), scores.reference_id.tolist(), strict=True)):
        value, r, q = best(queries, references, penalty, *pair)
        assert scores.evidence["descriptor_similarity"][row] == pytest.approx(value, abs=1e-5)
        if "neighbours" in candidates.source[row]:
            assert np.array_equal(candidates.query_frame[row], queries.frame[-q]) and np.array_equal(
                candidates.reference_frame[row], references.frame[-r]
            )
        if candidates.source[row] == "neighbours":
            assert candidates.similarity[row] == pytest.approx(value, abs=1e-5)


def test_the_nearest_are_candidates_beside_the_votes_each_once(made):
    folder, _ = made
    candidates = Stage.load(folder / "out" / "candidates", Candidates).read()
    pairs = list(zip(candidates.query_id.tolist(), candidates.reference_id.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    by_descriptor = candidates.take(["neighbours" in source for source in candidates.source.tolist()])
    assert set(np.unique(by_descriptor.query_id, return_counts=True)[1].tolist()) == {3}
    assert any(source.endswith("votes+neighbours") for source in candidates.source.tolist())
    assert set(candidates.source.tolist()) & {"neighbours"}


def test_merging_keeps_the_votes_support_and_the_views_of_the_descriptors():
    def candidates(references, source, similarity, frame):
        count = len(references)
        return Candidates(
            query_id=["q"] * count,
            reference_id=references,
            similarity=similarity,
            source=[source] * count,
            query_frame=np.tile(frame, (count, 1, 1)),
            reference_frame=np.tile(np.eye(3), (count, 1, 1)),
        )

    voted, near = candidates(["a", "b"], "identical+votes", [9, 7], np.eye(3)), candidates(["c", "b"], "neighbours", [0.5, 0.3], flip())
    both = merge(voted, near)
    assert both.reference_id.tolist() == ["a", "b", "c"] and np.allclose(both.similarity, [9, 7, 0.5])
    assert both.source.tolist() == ["identical+votes", "identical+votes+neighbours", "neighbours"]
    assert np.array_equal(both.query_frame, [np.eye(3), flip(), flip()])
    assert merge(voted, Candidates.empty()).source.tolist() == voted.source.tolist()
    assert merge(Candidates.empty(), near).reference_id.tolist() == ["c", "b"]


def test_a_fusion_of_keypoints_gives_what_it_gave_without(made, tmp_path):
    folder, strategy = made
    run(folder / "queries", folder / "references", tmp_path / "out", strategy=replace(strategy, descriptor=None))
    alone, both = (read_record(place / "out" / "predictions.parquet", Predictions) for place in (tmp_path, folder))
    assert np.isnan(alone.evidence["descriptor_similarity"]).all() and np.isfinite(both.evidence["descriptor_similarity"]).all()
    found = dict(zip(zip(both.query_id.tolist(), both.reference_id.tolist(), strict=True), both.score.tolist(), strict=True))
    assert all(found[query, reference] == score for query, reference, score in rows_of(alone))


def rows_of(predictions):
    return zip(predictions.query_id.tolist(), predictions.reference_id.tolist(), predictions.score.tolist(), strict=True)


@pytest.fixture
def similarity_only(tmp_path):
    """A fusion model that hears the descriptor alone."""
    model = {"weights": {"similarity": 10.0}, "intercept": -5.0, "slope": 1.0, "offset": 0.0, "card": {}}
    (tmp_path / "similarity.json").write_text(json.dumps(model))
    return str(tmp_path / "similarity.json")


def test_descriptors_alone(made, similarity_only, tmp_path):
    folder, strategy = made
    none = SiftSettings(keypoints=0)
    alone = replace(strategy, shortlist=replace(SMALL, per_query=0), scorers=Scorers(sift=None), fusion=similarity_only)
    alone = replace(alone, query_keypoints=none, reference_keypoints=none)
    summary = run(folder / "queries", folder / "references", tmp_path / "out", strategy=alone)
    found = read_record(tmp_path / "out" / "predictions.parquet", Predictions)
    candidates = Stage.load(tmp_path / "out" / "candidates", Candidates).read()
    assert not any("votes" in source for source in candidates.source.tolist()) and summary.pairs == len(found) > 0
    assert np.isnan(found.evidence["sift_inliers"]).all()
    certain = (found.evidence["identical"] > 0) | (found.evidence["untouched"] > 0)
    assert {("same bytes", "brick"), ("half", "page")} <= {(q, r) for q, r, s in rows_of(found) if s > 0.9998}
    rest = found.take(~certain)
    expected = 1 / (1 + np.exp(5 - 10 * rest.evidence["descriptor_similarity"].astype(np.float64)))
    assert np.allclose(rest.score, expected, atol=1e-6) and np.isnan(rest.frame).all()
    assert (np.diff(rest.evidence["descriptor_similarity"]) <= 0).all()


def test_scoring_a_list_of_ones_own(made, similarity_only, tmp_path):
    folder, strategy = made
    (tmp_path / "pairs.csv").write_text("query_id,reference_id\nhorse,moon\nnobody,moon\nflipped,chelsea\n")
    scored = score(tmp_path / "pairs.csv", folder / "queries", folder / "references", tmp_path / "scored", strategy=strategy)
    found = Stage.load(scored, PairScores).read().evidence["descriptor_similarity"]
    queries, references = sides_of(folder)
    pictures = Stage.load(folder / "out" / "references" / "pictures", Pictures).read()
    penalty = compare_views(queries, references, strategy.descriptor, reference=pictures).penalty
    assert np.isnan(found[1]) and (penalty != 0).all()
    expected = [best(queries, references, penalty, *pair)[0] for pair in (("horse", "moon"), ("flipped", "chelsea"))]
    assert np.allclose(found[[0, 2]], expected, atol=1e-6)
    fused = fuse(scored, tmp_path / "fused.parquet", strategy=replace(strategy, fusion=similarity_only))
    assert (
        len(read_record(calibrate(fused, tmp_path / "out.parquet", strategy=replace(strategy, fusion=similarity_only)), Predictions)) == 2
    )


def places(folder):
    return folder / "out" / "queries", folder / "out" / "references", folder / "out" / "index"


def changed(strategy, **settings):
    return replace(strategy, descriptor=replace(strategy.descriptor, **settings))


def test_other_weights_views_or_background_are_refused(made, tmp_path):
    folder, strategy = made
    before = (folder / "mine.safetensors").read_bytes()
    with pytest.raises(StaleStageError, match="background: was"):
        shortlist(*places(folder), folder / "out" / "candidates", strategy=changed(strategy, background_nearest=2))
    with pytest.raises(StaleStageError, match=r"background: was .*now absent"):
        score(
            folder / "out" / "candidates", *places(folder)[:2], folder / "out" / "pair_scores", strategy=changed(strategy, background=None)
        )
    with pytest.raises(StaleStageError, match="views: was"):
        shortlist(*places(folder), tmp_path / "candidates", strategy=changed(strategy, query_views=["whole", "turn90"]))
    try:
        save_descriptor(folder / "mine.safetensors", seed=1)
        for output in (folder / "out" / "candidates", tmp_path / "candidates"):
            with pytest.raises(StaleStageError, match=r"descriptor\.made_by: was checkpoint"):
                shortlist(*places(folder), output, strategy=strategy)
        with pytest.raises(StaleStageError, match=r"descriptor\.made_by: was checkpoint"):
            describe(folder / "queries", folder / "out" / "queries", side="query", strategy=strategy)
        describe(folder / "queries", tmp_path / "queries", side="query", strategy=strategy)
        describe(folder / "references", tmp_path / "references", strategy=strategy)
        with pytest.raises(StaleStageError, match="was made by another descriptor"):
            shortlist(tmp_path / "queries", tmp_path / "references", places(folder)[2], tmp_path / "candidates", strategy=strategy)
    finally:
        (folder / "mine.safetensors").write_bytes(before)


def test_more_views_may_be_described_than_are_asked_for(made, tmp_path):
    folder, strategy = made
    one = changed(strategy, query_views=["flip"])
    found = Stage.load(shortlist(*places(folder), tmp_path / "candidates", strategy=one), Candidates).read()
    near = found.take(found.source == "neighbours")
    assert len(near) and np.array_equal(near.query_frame, np.broadcast_to(flip(), (len(near), 3, 3)))
    with pytest.raises(StaleStageError, match="query_descriptors: was"):
        shortlist(*places(folder), tmp_path / "candidates", strategy=strategy)


def test_folders_without_descriptors_are_refused(made, library, tmp_path):
    folder, strategy = made
    keypoints = replace(strategy, descriptor=None)
    describe(folder / "queries", tmp_path / "queries", side="query", strategy=keypoints)
    with pytest.raises(MatcherError, match="queries has no descriptors: describe it again"):
        shortlist(tmp_path / "queries", *places(folder)[1:], tmp_path / "candidates", strategy=strategy)


@pytest.mark.parametrize(("side", "told"), [("references", "the (query|reference)"), ("queries", "the query")])
def test_a_background_of_the_pictures_under_evaluation_is_refused(made, side, told, tmp_path):
    folder, strategy = made
    guilty = tmp_path / "guilty.safetensors"
    make_background(folder / side, guilty, strategy=strategy)
    with pytest.raises(MatcherError, match=f"{told} .* is one of the background's pictures"):
        shortlist(*places(folder), tmp_path / "candidates", strategy=changed(strategy, background=str(guilty)))


class Corner:
    """A detector that finds one pasted picture in the corner of everything."""

    def detect(self, pixels, threshold):
        return np.array([[0.0, 0.0, 0.5, 0.5]]), np.array([0]), np.array([0.8])


def test_overlays_are_described_on_the_query_side(made, monkeypatch, tmp_path):
    folder, strategy = made
    asked = []
    monkeypatch.setattr("matcher.stages.descriptors.load_detector", lambda settings, names: asked.append(names) or Corner())
    monkeypatch.setattr("matcher.stages.descriptors.card_digest", lambda path: "1234")
    overlays = changed(strategy, query_views=["whole", "overlays"], detector="mine.safetensors")
    describe(folder / "queries", tmp_path / "out", side="query", strategy=overlays)
    found = Stage.load(tmp_path / "out" / "descriptors", Descriptors)
    assert found.read().kind.tolist() == ["whole", "overlay"] * len(QUERIES) and asked == [["whole", "overlays"]]
    assert found.manifest.config["detector"] == {"name": "mine.safetensors", "digest": "1234"}
    with pytest.raises(StaleStageError, match=r"boxes\.most: was 4, now 2"):
        again = changed(overlays, boxes=BoxRules(most=2))
        describe(folder / "queries", tmp_path / "out", side="query", strategy=again)
    monkeypatch.setattr("matcher.stages.descriptors.card_digest", lambda path: "5678")
    with pytest.raises(StaleStageError, match=r"detector\.digest: was 1234, now 5678"):
        describe(folder / "queries", tmp_path / "out", side="query", strategy=overlays)


def test_proposals_are_described_and_their_rules_decide_the_stage(made, tmp_path):
    folder, strategy = made
    proposals = changed(strategy, query_views=["whole", "proposals"], proposals=ProposalRules(most=2, side=64))
    describe(folder / "queries", tmp_path / "out", side="query", strategy=proposals)
    found = Stage.load(tmp_path / "out" / "descriptors", Descriptors)
    assert found.read().kind.tolist()[:2] == ["whole", "proposal"] and "detector" not in found.manifest.config
    with pytest.raises(StaleStageError, match=r"proposals\.side: was 64, now 96"):
        other = changed(proposals, proposals=ProposalRules(most=2, side=96))
        describe(folder / "queries", tmp_path / "out", side="query", strategy=other)
    boxes = changed(proposals, boxes=BoxRules(most=9))  # decides nothing here
    assert describe(folder / "queries", tmp_path / "out", side="query", strategy=boxes)


def test_compare_says_what_a_run_says(made):
    folder, strategy = made
    there = read_record(folder / "out" / "predictions.parquet", Predictions)
    row = list(zip(there.query_id.tolist(), there.reference_id.tolist(), strict=True)).index(("flipped", "chelsea"))
    here = compare(folder / "queries" / "flipped.jpg", folder / "references" / "chelsea.png", strategy=strategy).prediction
    assert here.evidence["descriptor_similarity"][0] == pytest.approx(there.evidence["descriptor_similarity"][row], abs=1e-5)
    assert here.probability[0] == there.probability[row]


def test_the_command_makes_the_same_background(made, command, tmp_path):
    folder, _ = made
    words = (
        "--photos",
        folder / "photos",
        "--output",
        tmp_path / "b.safetensors",
        "--strategy.descriptor.backbone",
        folder / "mine.safetensors",
    )
    code, printed, complaint = command("background", *words, "--quiet")
    assert code == 0 and printed.strip() == str(tmp_path / "b.safetensors"), complaint
    assert (tmp_path / "b.safetensors").read_bytes() == (folder / "background.safetensors").read_bytes()


def test_an_ensemble_with_votes_and_one_answer_a_query(made, similarity_only, tmp_path):
    folder, strategy = made
    save_descriptor(tmp_path / "other.safetensors", seed=1)
    members = [strategy.descriptor.backbone, f"grey:{tmp_path / 'other.safetensors'}"]
    settings = replace(strategy.descriptor, backbone=members, background=None)
    make_background(folder / "photos", tmp_path / "background.safetensors", strategy=Strategy(descriptor=settings))
    settings = replace(settings, background=str(tmp_path / "background.safetensors"))
    lists = [NearestViews(per_query=3, votes=2)]
    both = replace(
        strategy, descriptor=settings, shortlist=replace(SMALL, per_query=0, descriptor=lists), fusion=similarity_only, answers=1
    )
    run(folder / "queries", folder / "references", tmp_path / "out", strategy=both)
    found = read_record(tmp_path / "out" / "predictions.parquet", Predictions)
    candidates = Stage.load(tmp_path / "out" / "candidates", Candidates).read()
    assert len(found) == len(np.unique(found.query_id)) == len(np.unique(candidates.query_id))
    assert np.unique(candidates.query_id, return_counts=True)[1].max() <= 3
    pair = compare(folder / "queries" / "horse.jpg", folder / "references" / "moon.png", strategy=both)
    assert np.isfinite(pair.prediction.evidence["descriptor_similarity"]).all()
    with pytest.raises(StaleStageError, match="by another descriptor"):
        run(
            folder / "queries",
            folder / "references",
            tmp_path / "no",
            strategy=replace(both, descriptor=replace(settings, backbone=members[:1])),
        )
