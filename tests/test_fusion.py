import json
import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold

from matcher.calibration import probability
from matcher.errors import MatcherError, UsageError
from matcher.fusion import FOLDS, PROVED, TERMS, Fusion, fit, read_fusion, write_fusion
from matcher.scoring.sift import NAMES
from matcher.shipped import shipped
from matcher.types import PairScores

MODEL = Fusion(
    weights=dict(zip(TERMS, (0.7, 4.2, 6.4, 5.0, 0.4, 0.2, 0.9), strict=True)), intercept=-7.4, slope=0.8, offset=0.3, card={"by": "test"}
)


def scores(count=6, seed=0, **changed):
    rng = np.random.default_rng(seed)
    evidence = {name: rng.random(count) * (40 if name in NAMES[:3] else 1) for name in NAMES}
    evidence |= {"identical": np.zeros(count), "untouched": np.zeros(count), "descriptor_similarity": rng.uniform(-1, 1, count)}
    evidence |= {"pair_logit": rng.normal(0, 9, count), "pair_mean": rng.normal(-2, 9, count), "match_count": rng.integers(0, 90, count)}
    return PairScores(
        query_id=[f"q{n}" for n in range(count)],
        reference_id=[f"r{n % 3}" for n in range(count)],
        frame=np.full((count, 3, 3), np.nan),
        evidence=evidence | changed,
    )


def labelled(copies=60, strangers=140, seed=0):
    """Evidence like that of real pairs: copies have much of everything, strangers little, and some of both are in between."""
    rng = np.random.default_rng(seed)
    is_copy = np.arange(copies + strangers) < copies
    strength = np.where(is_copy, rng.beta(4, 2, len(is_copy)), rng.beta(1.5, 8, len(is_copy)))
    spread = {name: np.clip(strength + rng.normal(0, 0.1, len(is_copy)), 0, 1) for name in NAMES}
    evidence = {name: values * (100 if name in NAMES[:3] else 1) for name, values in spread.items()}
    similarity = strength + rng.normal(0, 0.1, len(is_copy)) - 0.5
    evidence |= {"identical": np.zeros(len(is_copy)), "untouched": np.zeros(len(is_copy)), "descriptor_similarity": similarity}
    evidence["pair_logit"] = 8 * strength - 4 + rng.normal(0, 1, len(is_copy))
    evidence["pair_mean"] = evidence["pair_logit"] - rng.exponential(2, len(is_copy))
    evidence["match_count"] = np.round(80 * np.clip(strength + rng.normal(0, 0.1, len(is_copy)), 0, 1))
    ids = [f"q{n // 2}" for n in range(len(is_copy))]
    references = [f"r{n}" for n in range(len(is_copy))]
    frames = np.full((len(is_copy), 3, 3), np.nan)
    return PairScores(query_id=ids, reference_id=references, frame=frames, evidence=evidence), is_copy


def test_the_logit_agrees_with_a_slow_sum():
    some = scores(seed=3)
    some.evidence["sift_agreeing"][1] = np.nan
    some.evidence["descriptor_similarity"][2] = np.nan
    some.evidence["pair_logit"][:4] = [np.nan, 40, -40, 5]
    some.evidence["pair_mean"][:4] = [np.nan, 10, -12, 2]
    some.evidence["match_count"][3] = np.nan
    for row, logit in enumerate(MODEL.logit(some).tolist()):
        e = {name: 0.0 if math.isnan(values[row]) else float(values[row]) for name, values in some.evidence.items()}
        terms = {
            "log_support": math.log(1 + e["sift_support"]),
            "inlier_ratio": e["sift_inlier_ratio"],
            "agreeing": e["sift_agreeing"],
            "similarity": e["descriptor_similarity"],
            "pair": min(max(e["pair_logit"], -12), 12),
            "pair_mean": e["pair_mean"],
            "log_count": math.log(1 + e["match_count"]),
        }
        assert logit == pytest.approx(MODEL.intercept + sum(MODEL.weights[name] * value for name, value in terms.items()), abs=1e-5)


def test_a_model_may_leave_terms_out():
    few = replace(MODEL, weights={"agreeing": 2.0})
    some = scores()
    assert np.allclose(few.logit(some), MODEL.intercept + 2 * some.evidence["sift_agreeing"])
    assert np.allclose(replace(MODEL, weights={}).logit(some), MODEL.intercept)
    assert MODEL.logit(scores(0)).shape == (0,)


@pytest.mark.parametrize("name", ["identical", "untouched"])
@pytest.mark.parametrize("other", [0.0, 1.0, np.nan])
def test_what_is_proved_is_certain_whatever_else_was_found(name, other):
    nothing = {n: np.zeros(3) for n in NAMES} | {n: np.full(3, np.nan) for n in NAMES[4:]}
    proof = {"identical": np.full(3, other), "untouched": np.full(3, other)} | {name: [1.0, 1.0, 1.0]}
    for model in (MODEL, replace(MODEL, slope=0.2, offset=-3.0), read_fusion(shipped("checkpoints", "fusion/keypoints.json"))):
        found = probability(model.logit(scores(3, **nothing, **proof)), model)
        assert (found >= 0.9998).all() and (found < 1).all()


def test_the_floor_lifts_and_never_lowers():
    rich = scores(4, identical=[1.0, 0, 1, 0], sift_inliers=[500.0] * 4, sift_agreeing=[1.0] * 4)
    certain = replace(MODEL, intercept=50.0)
    assert np.array_equal(certain.logit(rich), certain.logit(scores(4, sift_inliers=[500.0] * 4, sift_agreeing=[1.0] * 4)))
    poor = replace(MODEL, intercept=-90.0)
    lifted = poor.slope * poor.logit(rich) + poor.offset
    assert np.allclose(lifted[[0, 2]], PROVED) and (lifted[[1, 3]] < -20).all()


@pytest.mark.parametrize(
    "missing", ["sift_support", "descriptor_similarity", "pair_logit", "pair_mean", "match_count", "identical", "untouched"]
)
def test_missing_evidence_is_said(missing):
    some = scores()
    less = PairScores(
        query_id=some.query_id,
        reference_id=some.reference_id,
        frame=some.frame,
        evidence={name: values for name, values in some.evidence.items() if name != missing},
    )
    with pytest.raises(MatcherError, match=f"evidence '{missing}'"):
        MODEL.logit(less)
    if missing.startswith(("sift", "descriptor", "pair", "match")):
        copies, is_copy = labelled()
        del copies.evidence[missing]
        with pytest.raises(MatcherError, match=f"evidence '{missing}'"):
            fit(copies, is_copy, seed=0, card={})


def test_write_and_read(tmp_path):
    write_fusion(tmp_path / "a.json", MODEL)
    write_fusion(tmp_path / "b.json", MODEL)
    assert read_fusion(tmp_path / "a.json") == MODEL
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_the_shipped_model_reads():
    model = read_fusion(shipped("checkpoints", "fusion/keypoints.json"))
    assert set(model.weights) <= set(TERMS) and model.slope > 0


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        "[1, 2]",
        "null",
        "{}",
        '{"weights": {}, "intercept": 0}',
        '{"weights": 5, "intercept": 0, "slope": 1, "offset": 0, "card": {}}',
        '{"weights": {"agreeing": "much"}, "intercept": 0, "slope": 1, "offset": 0, "card": {}}',
        '{"weights": {"agreeing": 1}, "intercept": null, "slope": 1, "offset": 0, "card": {}}',
        '{"weights": {"agreeing": NaN}, "intercept": 0, "slope": 1, "offset": 0, "card": {}}',
        '{"weights": {"agreeing": 1}, "intercept": 0, "slope": -1, "offset": 0, "card": {}}',
        '{"weights": {"agreeing": 1}, "intercept": 0, "slope": 1, "offset": 0, "card": {}, "more": 1}',
    ],
)
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(MatcherError, match=r"model\.json is no"):
        read_fusion(tmp_path / "model.json")


def test_unknown_terms_and_missing_files_are_refused(tmp_path):
    write_fusion(tmp_path / "model.json", replace(MODEL, weights={"agreeing": 1.0, "magic": 2.0}))
    with pytest.raises(MatcherError, match="a weight for 'magic', which this matcher does not know; it knows log_support"):
        read_fusion(tmp_path / "model.json")
    with pytest.raises(MatcherError, match="cannot read"):
        read_fusion(tmp_path / "none.json")


def test_fit_recovers_what_separates():
    some, is_copy = labelled()
    model, _ = fit(some, is_copy, seed=0, card={"made_by": "test"})
    fresh, fresh_copy = labelled(seed=1)
    found = probability(model.logit(fresh), model)
    assert ((found > 0.5) == fresh_copy).mean() > 0.9
    likelihood = np.mean(np.log(np.where(fresh_copy, found, 1 - found)))
    assert likelihood > -0.25  # calibrated: a coin gives -0.69, and the share of copies alone -0.61
    assert model.card == {"made_by": "test", "copies": 60, "strangers": 140}
    assert set(model.weights) == set(TERMS) and model.slope > 0
    json.dumps(model.card)


@pytest.mark.parametrize(
    ("blind", "terms"),
    [
        ("sift", ["similarity", "pair", "pair_mean", "log_count"]),
        ("descriptor", [*list(TERMS)[:3], "pair", "pair_mean", "log_count"]),
        ("pair", [*list(TERMS)[:4], "log_count"]),
        ("match", list(TERMS)[:-1]),
        (("sift", "descriptor", "pair"), ["log_count"]),
    ],
)
def test_a_scorer_that_did_not_look_gets_no_weight(blind, terms):
    some, is_copy = labelled()
    for name, values in some.evidence.items():
        if name.startswith(blind):
            values[:] = np.nan
    model, _ = fit(some, is_copy, seed=0, card={})
    assert list(model.weights) == terms
    found = probability(model.logit(some), model)
    assert ((found > 0.5) == is_copy).mean() > 0.85


def test_only_the_named_scorers_get_weight():
    some, is_copy = labelled()
    assert list(fit(some, is_copy, seed=0, card={}, scorers=["pair_model", "sub_image"])[0].weights) == ["pair", "pair_mean", "similarity"]
    some.evidence["match_count"][:] = np.nan
    with pytest.raises(MatcherError, match="none of match_count looked at these pairs"):
        fit(some, is_copy, seed=0, card={}, scorers=["match_count"])


@pytest.mark.parametrize("scorers", ["sift", [], ["sifd"]])
def test_scorers_that_there_are_not_are_refused(scorers):
    some, is_copy = labelled()
    with pytest.raises(UsageError, match="scorers must be some of sift, sub_image, pair_model, match_count, not"):
        fit(some, is_copy, seed=0, card={}, scorers=scorers)


def test_a_model_of_keypoints_does_not_see_the_descriptor():
    some, keypoints = scores(), read_fusion(shipped("checkpoints", "fusion/keypoints.json"))
    without = scores(descriptor_similarity=np.full(6, np.nan))
    assert np.array_equal(keypoints.logit(some), keypoints.logit(without))


def test_fit_refuses_pairs_that_nobody_looked_at():
    some, is_copy = labelled()
    for name in (*NAMES, "descriptor_similarity", "pair_logit", "pair_mean", "match_count"):
        some.evidence[name][:] = np.nan
    with pytest.raises(
        MatcherError,
        match="none of sift, sub_image, pair_model, match_count looked at these pairs: score them",
    ):
        fit(some, is_copy, seed=0, card={})


def test_fit_depends_on_the_seed_only():
    some, is_copy = labelled()
    (first, by_first), (again, by_again) = (fit(some, is_copy, seed=1, card={}) for _ in range(2))
    assert first == again and np.array_equal(by_first, by_again)
    first, second = (fit(some, is_copy, seed=seed, card={})[0] for seed in (1, 2))
    assert first.weights == second.weights and first.slope != second.slope  # the seed deals the folds, no more


def test_held_out_probabilities_are_those_of_models_that_did_not_see_the_query():
    some, is_copy = labelled(200, 200)
    model, held_out = fit(some, is_copy, seed=3, card={})
    for seen, unseen in GroupKFold(FOLDS, shuffle=True, random_state=3).split(held_out, groups=some.query_id):
        assert not {*some.query_id[seen]} & {*some.query_id[unseen]}
        without, _ = fit(some.take(seen), is_copy[seen], seed=0, card={})
        blind = replace(without, slope=model.slope, offset=model.offset)
        assert np.allclose(probability(blind.logit(some.take(unseen)), blind), held_out[unseen], atol=1e-6)


def test_copies_of_a_single_query_are_refused():
    scores, is_copy = labelled()
    queries = np.where(is_copy, "only", scores.query_id)
    with pytest.raises(MatcherError, match="label more queries"):
        fit(replace(scores, query_id=queries), is_copy, seed=0, card={})


@pytest.mark.parametrize(("copies", "strangers"), [(19, 100), (100, 19), (0, 50), (0, 0)])
def test_fit_refuses_too_few(copies, strangers):
    with pytest.raises(MatcherError, match=f"{copies} copies and {strangers} strangers are too few"):
        fit(*labelled(copies, strangers), seed=0, card={})


def test_fit_refuses_too_few_queries():
    some, is_copy = labelled()
    one_query = PairScores(query_id=["q"] * len(some), reference_id=some.reference_id, frame=some.frame, evidence=some.evidence)
    with pytest.raises(MatcherError, match="1 queries are too few"):
        fit(one_query, is_copy, seed=0, card={})


def test_fit_refuses_evidence_that_speaks_against_copies_on_held_out_queries():
    some, is_copy = labelled()
    blind = {name: np.random.default_rng(5).permutation(values) for name, values in some.evidence.items()}
    noise = PairScores(query_id=some.query_id, reference_id=some.reference_id, frame=some.frame, evidence=blind)
    try:
        assert fit(noise, is_copy, seed=0, card={})[0].slope > 0
    except MatcherError as error:
        assert "does not tell copies from strangers" in str(error)
