"""A pair model in the pipeline: evidence and frames of pairs, beside keypoints or alone, kept in a cache, and what makes scores stale."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from matcher.cli.parser import parse
from matcher.errors import MatcherError, StaleStageError, UsageError
from matcher.models import checkpoint
from matcher.models.concat_vit import ConcatViT
from matcher.models.descriptor import Descriptor
from matcher.models.token_fusion import TokenFusion
from matcher.pipeline import compare, run, score
from matcher.scoring import pair_model, sift
from matcher.scoring.pair_model import PairJudge
from matcher.settings import DescriptorSettings, Doubt, PairModelSettings, Scorers, SiftScorerSettings, Strategy
from matcher.stages.job import Job
from matcher.storage.records import read_record
from matcher.storage.stage import Stage
from matcher.types import Errors, PairScores, Predictions

PAIRS = [("cropped", "astronaut"), ("flipped", "chelsea"), ("half", "page"), ("horse", "moon"), ("flipped", "page"), ("nobody", "moon")]
QUERIES, REFERENCES = ("cropped.jpg", "flipped.jpg", "half.png", "horse.jpg"), ("astronaut.png", "chelsea.png", "page.png", "moon.png")


def save_model(path, seed=0):
    made = TokenFusion.build("timm:test_vit", depth=4, size=32, width=16, joint=1, heads=2, seed=seed)
    made.sides.data *= 40  # random weights say the same of all pairs; so they differ
    made.verdict.weight.data *= 40
    checkpoint.save(path, made, {})


@pytest.fixture(scope="module")
def room(library, tmp_path_factory):
    """A folder with some queries and references, a list of pairs, a pair model and a descriptor."""
    folder = tmp_path_factory.mktemp("pair models")
    for side, names in (("queries", QUERIES), ("references", REFERENCES)):
        (folder / side).mkdir()
        for name in names:
            shutil.copy(getattr(library, side) / name, folder / side)
    write_pairs(folder / "pairs.csv", PAIRS)
    save_model(folder / "pair.safetensors")
    checkpoint.save(folder / "descriptor.safetensors", Descriptor.build("timm:test_vit", size=32, dim=16), {})
    return folder


def write_pairs(path, pairs):
    path.write_text("\n".join(["query_id,reference_id", *(",".join(pair) for pair in pairs)]) + "\n")


@pytest.fixture(scope="module")
def strategy(room):
    descriptor = DescriptorSettings(backbone=str(room / "descriptor.safetensors"), query_views=["whole", "flip", "left"])
    return Strategy(
        descriptor=descriptor, scorers=Scorers(pair_model=PairModelSettings(model=str(room / "pair.safetensors"), batch_size=3))
    )


def asked(strategy, **settings):
    """The strategy with other settings of its pair model; ``sift`` and ``descriptor`` are the scorer's and the strategy's."""
    model = {name: value for name, value in settings.items() if name not in ("sift", "descriptor")}
    scorers = replace(strategy.scorers, pair_model=replace(strategy.scorers.pair_model, **model))
    scorers = replace(scorers, sift=settings["sift"]) if "sift" in settings else scorers
    return replace(strategy, scorers=scorers, **{name: value for name, value in settings.items() if name == "descriptor"})


@pytest.fixture(scope="module")
def scored(room, strategy):
    """The folder of scores of all pairs; what it describes lies beside it."""
    return score(room / "pairs.csv", room / "queries", room / "references", room / "scored", strategy=strategy)


def described(scored):
    return scored.with_name("scored_query"), scored.with_name("scored_reference")


def read(folder):
    return Stage.load(folder, PairScores).read()


def test_every_pair_has_the_evidence_of_both_scorers(scored):
    found, errors = read(scored), read_record(scored / "errors.parquet", Errors)
    for name in (*pair_model.NAMES, "sift_support", "descriptor_similarity"):
        assert np.isfinite(found.evidence[name]).tolist() == [True] * 5 + [False], name
    assert errors.id.tolist() == ["nobody moon"] and len(set(found.evidence["pair_logit"][:5].tolist())) == 5
    for name in pair_model.NAMES[2:]:
        assert ((found.evidence[name][:5] > 0) & (found.evidence[name][:5] < 1)).all()
    assert np.isfinite(found.frame[1]).all() and not np.array_equal(found.frame[1], found.patch_frame[1])


def test_scores_of_one_precision_are_not_gone_on_with_in_another(scored, room, strategy, tmp_path, monkeypatch):
    copy = shutil.copytree(scored, tmp_path / "scored")
    used = Stage.load(copy, PairScores).manifest.config["scorers"]["pair_model"]["precision"]
    other = {"float32": "bfloat16", "bfloat16": "float32"}[used]  # this machine chose one of them: auto
    assert score(room / "pairs.csv", *described(scored), copy, strategy=asked(strategy, precision=used)) == copy
    monkeypatch.setattr(pair_model, "precision_of", lambda settings: other)  # as on another kind of machine
    with pytest.raises(StaleStageError, match=rf"precision: was '?{used}'?, now '?{other}'?"):
        score(room / "pairs.csv", *described(scored), copy, strategy=strategy)


def test_scores_do_not_change_when_other_pictures_and_pairs_are_added(scored, room, strategy, tmp_path):
    write_pairs(tmp_path / "pairs.csv", PAIRS[1:2])
    for side in ("queries", "references"):
        (tmp_path / side).mkdir()
    shutil.copy(room / "queries" / "flipped.jpg", tmp_path / "queries")
    shutil.copy(room / "references" / "chelsea.png", tmp_path / "references")
    alone = read(score(tmp_path / "pairs.csv", tmp_path / "queries", tmp_path / "references", tmp_path / "alone", strategy=strategy))
    many = [(query.rsplit(".")[0], reference.rsplit(".")[0]) for reference in REFERENCES for query in QUERIES]
    write_pairs(tmp_path / "many.csv", many)
    crowd = read(score(tmp_path / "many.csv", *described(scored), tmp_path / "many", strategy=strategy))
    row = many.index(PAIRS[1])
    assert alone.evidence["descriptor_similarity"][0] == pytest.approx(crowd.evidence["descriptor_similarity"][row], abs=1e-5)
    for other, place in ((read(scored), 1), (crowd, row)):
        for name in (*pair_model.NAMES, *sift.NAMES):
            assert alone.evidence[name][0] == other.evidence[name][place], name
        for frames in ("frame", "patch_frame"):
            assert np.array_equal(getattr(alone, frames)[0], getattr(other, frames)[place], equal_nan=True)


def test_threads_and_shards_change_nothing(scored, room, strategy, small_shards, tmp_path, monkeypatch):
    with small_shards():
        monkeypatch.setattr("matcher.stages.scoring.SHARD", 2)
        again = score(room / "pairs.csv", *described(scored), tmp_path / "again", strategy=strategy, job=Job(workers=3))
    first, second = read(scored), read(again)
    assert all(np.array_equal(first.evidence[name], second.evidence[name], equal_nan=True) for name in first.evidence)
    assert np.array_equal(first.patch_frame, second.patch_frame, equal_nan=True)


def test_below_sure_keypoints_are_not_asked(scored, room, strategy, tmp_path):
    before = read(scored)
    sure = float(np.sort(before.evidence["pair_logit"][:5])[2])
    found = read(score(room / "pairs.csv", *described(scored), tmp_path / "sure", strategy=asked(strategy, sure=sure)))
    silent = before.evidence["pair_logit"] < sure
    assert np.count_nonzero(silent) == 2
    for name in sift.NAMES:
        assert np.isnan(found.evidence[name][silent]).all()
        assert np.array_equal(found.evidence[name][~silent], before.evidence[name][~silent], equal_nan=True)
    strangers = silent & ~((before.evidence["identical"] > 0) | (before.evidence["untouched"] > 0))
    assert np.array_equal(found.frame[strangers], found.patch_frame[strangers], equal_nan=True)


def test_the_frame_is_the_identity_then_that_of_keypoints_then_that_of_the_model(scored, room, strategy, tmp_path, monkeypatch):
    told = np.array([[0.5, 0, 0.1], [0, 0.5, 0.2], [0, 0, 1]])
    monkeypatch.setattr(pair_model, "locate", lambda *_: told)
    alone = asked(strategy, sift=None, descriptor=None)
    found = read(score(room / "pairs.csv", *described(scored), tmp_path / "alone", strategy=alone))
    assert np.array_equal(found.patch_frame[:5], [told] * 5) and np.isnan(found.patch_frame[5]).all()
    untouched = PAIRS.index(("half", "page"))
    assert np.array_equal(found.frame[untouched], np.eye(3)) and np.array_equal(found.frame[[0, 1, 3, 4]], [told] * 4)
    both = read(score(room / "pairs.csv", *described(scored), tmp_path / "both", strategy=asked(strategy, descriptor=None)))
    assert np.array_equal(both.frame[1], read(scored).frame[1]) and np.array_equal(both.patch_frame[1], told)


def test_a_model_without_patches_leaves_the_frame_to_keypoints(scored, room, strategy, tmp_path):
    checkpoint.save(tmp_path / "concat.safetensors", ConcatViT.build("timm:test_vit", size=32), {})
    other = asked(strategy, model=str(tmp_path / "concat.safetensors"))
    found = read(score(room / "pairs.csv", *described(scored), tmp_path / "out", strategy=other))
    assert np.isfinite(found.evidence["pair_logit"][:5]).all() and np.isnan(found.evidence["pair_covered_query"]).all()
    assert np.isnan(found.patch_frame).all() and np.array_equal(found.frame[1], read(scored).frame[1])


def test_the_cache_serves_the_next_run(scored, room, strategy, tmp_path, monkeypatch):
    job = Job(cache=str(tmp_path / "cache"), workers=1)
    first = score(room / "pairs.csv", *described(scored), tmp_path / "first", strategy=strategy, job=job)
    files = len(list((tmp_path / "cache").rglob("*.npz")))
    assert files >= 7  # four queries and three references, and some of their other views
    monkeypatch.setattr(TokenFusion, "encode_views", None)
    again = score(room / "pairs.csv", *described(scored), tmp_path / "again", strategy=strategy, job=job)
    assert (first / "part-00000.parquet").read_bytes() == (again / "part-00000.parquet").read_bytes()
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == files


def test_a_picture_that_went_bad_is_listed_and_the_rest_goes_on(room, strategy, tmp_path):
    for side in ("queries", "references"):
        shutil.copytree(room / side, tmp_path / side)
    alone = asked(strategy, sift=None, descriptor=None)
    first = score(room / "pairs.csv", tmp_path / "queries", tmp_path / "references", tmp_path / "first", strategy=alone)
    (tmp_path / "references" / "page.png").write_bytes(b"no picture")
    again = score(room / "pairs.csv", tmp_path / "first_query", tmp_path / "first_reference", tmp_path / "again", strategy=alone)
    errors = read_record(again / "errors.parquet", Errors)
    assert sorted(errors.id.tolist()) == ["flipped page", "half page", "nobody moon"] and "changed" in errors.code.tolist()
    good = [row for row, pair in enumerate(PAIRS) if pair[1] != "page"]
    assert np.array_equal(read(again).evidence["pair_logit"][good], read(first).evidence["pair_logit"][good], equal_nan=True)
    with pytest.raises(MatcherError, match="has changed since it was described"):
        score(
            room / "pairs.csv", tmp_path / "first_query", tmp_path / "first_reference", tmp_path / "x", strategy=alone,
            job=Job(on_error="raise"),
        )  # fmt: skip


def test_other_weights_make_scores_stale_and_memory_does_not(scored, room, strategy):
    places = (room / "pairs.csv", *described(scored), scored)
    before = (room / "pair.safetensors").read_bytes()
    score(*places, strategy=asked(strategy, memory=7))
    with pytest.raises(StaleStageError, match=r"scorers\.pair_model\.sure: was"):
        score(*places, strategy=asked(strategy, sure=-3.0))
    try:
        save_model(room / "pair.safetensors", seed=1)
        with pytest.raises(StaleStageError, match=r"scorers\.pair_model\.made_by: was checkpoint"):
            score(*places, strategy=strategy)
    finally:
        (room / "pair.safetensors").write_bytes(before)


@pytest.fixture(scope="module")
def fused(room, strategy):
    """The strategy with a fusion model that hears both scorers."""
    model = {"weights": {"pair": 0.1, "log_support": 1.0}, "intercept": -2.0, "slope": 1.0, "offset": 0.0, "card": {}}
    (room / "both.json").write_text(json.dumps(model))
    return replace(strategy, fusion=str(room / "both.json"))


def test_a_run_and_compare_say_the_same_and_who_spoke(room, fused, command, tmp_path):
    run(room / "queries", room / "references", tmp_path / "out", strategy=fused)
    there = read_record(tmp_path / "out" / "predictions.parquet", Predictions)
    row = list(zip(there.query_id.tolist(), there.reference_id.tolist(), strict=True)).index(("flipped", "chelsea"))
    pictures = room / "queries" / "flipped.jpg", room / "references" / "chelsea.png"
    here = compare(*pictures, strategy=fused)
    assert here.prediction.evidence["pair_logit"][0] == there.evidence["pair_logit"][row]
    assert here.probability == there.probability[row]
    assert np.array_equal(here.prediction.patch_frame[0], there.patch_frame[row], equal_nan=True)
    told = str(here).splitlines()
    assert told[0].startswith(f"{pictures[0]} is an edited copy of {pictures[1]}: probability ")
    assert any(line.startswith("region in the reference") for line in told)
    assert any(line.startswith("the pair model takes it for ") for line in told) and any(
        "of its view of the query" in line for line in told
    )
    assert told[-1] == "looked at by keypoints, the pair model, the descriptor; the region is that of keypoints"
    model = ["--strategy.scorers.pair_model.model", room / "pair.safetensors", "--strategy.scorers.pair_model.doubt", "null"]
    words = ["compare", *pictures, *model, "--json"]
    code, printed, complaint = command(*words)
    assert code == 0, complaint
    assert json.loads(printed)["evidence"]["pair_logit"] is not None and "patch_frame" in json.loads(printed)


def test_a_config_may_name_a_pair_model(tmp_path):
    (tmp_path / "config.yaml").write_text(
        "strategy:\n  scorers:\n    pair_model:\n      model: copydetect\n      batch_size: 16\n      sure: -4\n  fusion: full\n"
    )
    words = ["--queries", "q", "--references", "r", "--output", "o", "--config", str(tmp_path / "config.yaml")]
    scorers = parse("run", words).arguments["strategy"].scorers
    assert scorers == Scorers(sift=SiftScorerSettings(), pair_model=PairModelSettings(model="copydetect", batch_size=16, sure=-4.0))
    scorers = parse("run", [*words, "--strategy.scorers.sift", "null"]).arguments["strategy"].scorers
    assert scorers.sift is None and scorers.pair_model.model == "copydetect"
    assert parse("run", [*words, "--strategy.scorers.pair_model", "null"]).arguments["strategy"].scorers.pair_model is None


def test_the_model_is_asked_where_keypoints_leave_doubt(scored, room, strategy, tmp_path):
    before = read(scored)
    support = before.evidence["sift_support"][:5]
    doubt = Doubt(least=float(np.sort(support)[1]), most=float(np.sort(support)[4]))
    found = read(score(room / "pairs.csv", *described(scored), tmp_path / "doubt", strategy=asked(strategy, doubt=doubt)))
    proved = (before.evidence["identical"] > 0) | (before.evidence["untouched"] > 0)
    unsure = ~proved & (before.evidence["sift_support"] >= doubt.least) & (before.evidence["sift_support"] < doubt.most)
    assert 0 < np.count_nonzero(unsure) < 5
    for name in (*sift.NAMES, *pair_model.NAMES):
        looked = unsure if name in pair_model.NAMES else np.ones(6, bool)
        assert np.array_equal(found.evidence[name][looked], before.evidence[name][looked], equal_nan=True), name
        assert np.isnan(found.evidence[name][~looked]).all(), name
    assert np.array_equal(found.patch_frame[unsure], before.patch_frame[unsure], equal_nan=True)
    assert np.isnan(found.patch_frame[~unsure]).all()
    located = np.isfinite(found.frame).all(axis=(1, 2))
    assert np.array_equal(found.frame[located], before.frame[located])


def test_a_model_that_nobody_asks_is_not_loaded(scored, room, strategy, tmp_path, monkeypatch):
    monkeypatch.setattr(PairJudge, "load", lambda *_, **__: pytest.fail("loaded"))
    again = score(room / "pairs.csv", *described(scored), scored, strategy=strategy)
    assert np.isfinite(read(again).evidence["pair_logit"][:5]).all()
    certain = asked(strategy, doubt=Doubt(least=1e6, most=1e7))
    found = read(score(room / "pairs.csv", *described(scored), tmp_path / "certain", strategy=certain))
    assert np.isnan(found.evidence["pair_logit"]).all()


def test_doubt_needs_keypoints_and_no_sureness(scored, room, strategy, tmp_path):
    with pytest.raises(UsageError, match=r"scorers\.pair_model\.doubt waits for keypoints"):
        score(room / "pairs.csv", *described(scored), tmp_path / "blind", strategy=asked(strategy, doubt=Doubt(), sift=None))
    with pytest.raises(UsageError, match="sure and doubt exclude each other"):
        asked(strategy, doubt=Doubt(), sure=-3.0)
    assert not (tmp_path / "blind").exists()
