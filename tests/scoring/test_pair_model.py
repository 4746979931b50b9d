from pathlib import Path

import numpy as np
import pytest
import torch

from matcher.errors import ImageError, MatcherError, UsageError
from matcher.geometry import apply, compose, flip, from_box, identity
from matcher.models import checkpoint
from matcher.models.token_fusion import TokenFusion
from matcher.scoring.encoded_views import AT_ONCE, View
from matcher.scoring.pair_model import NAMES, PairJudge, ViewPair, load_pair_model, made_by, view_pairs
from matcher.scoring.sub_image import SubImage
from matcher.settings import ImageSettings, PairModelSettings, SubImageSettings, ViewPairs
from matcher.shortlist.similarity import PairSimilarity
from matcher.types import Descriptors, Pictures

GRID = np.stack(np.meshgrid(np.linspace(0.1, 0.9, 5), np.linspace(0.1, 0.9, 5)), axis=-1).reshape(-1, 2)


def judge_of(model, batch_size=4):
    settings = PairModelSettings(model="x", batch_size=batch_size)
    return PairJudge(model, made_by="x", settings=settings, image_settings=ImageSettings())


def pair(painted, query, reference, query_frame=None, reference_frame=None):
    sides = ((query, query_frame), (reference, reference_frame))
    return ViewPair(*(View(*painted[name], identity() if frame is None else frame) for name, frame in sides))


def test_a_mirrored_copy_is_told_from_a_stranger_and_its_frame_is_found(painted, colours):
    copy, stranger = judge_of(colours).judge([[pair(painted, "flipped", "a")], [pair(painted, "flipped", "b")]])
    assert tuple(copy.evidence) == NAMES and copy.evidence["pair_logit"] > stranger.evidence["pair_logit"]
    assert copy.evidence["pair_covered_query"] > 0.95 and copy.evidence["pair_covered_reference"] > 0.95
    assert stranger.evidence["pair_covered_query"] < 0.6
    assert np.abs(apply(copy.frame, GRID) - apply(flip(), GRID)).max() < 0.03


def test_the_frame_is_that_of_the_whole_pictures_whatever_views_met(painted, colours):
    part, shifted = from_box(0.125, 0.25, 0.625, 0.75), from_box(0.25, 0.125, 0.75, 0.625)  # by whole patches: colours stay as they are
    mirrored = compose(flip(), part)
    views = [("a", part, part), ("a", part, shifted), ("a", shifted, compose(part, flip())), ("flipped", mirrored, shifted)]
    found = judge_of(colours).judge([[pair(painted, query, "a", *frames)] for query, *frames in views])
    for finding, frame in zip(found, (identity(), identity(), identity(), flip()), strict=True):
        assert np.abs(apply(finding.frame, GRID) - apply(frame, GRID)).max() < 0.03


def test_the_best_view_pair_speaks(painted, colours):
    far, near = pair(painted, "b", "a"), pair(painted, "flipped", "a", flip())
    judge = judge_of(colours)
    both, back, alone, worse = judge.judge([[far, near], [near, far], [near], [far]])
    means = [found.evidence.pop("pair_mean") for found in (both, back, alone, worse)]
    assert means[0] == pytest.approx((means[2] + means[3]) / 2) == means[1] and means[3] == -12 > worse.evidence["pair_logit"]
    assert both.evidence == back.evidence == alone.evidence and alone.evidence["pair_logit"] > worse.evidence["pair_logit"]
    assert np.array_equal(both.frame, alone.frame)


def test_batches_have_one_shape_and_company_changes_nothing(painted, colours):
    names = [(q, r) for q in ("a", "b", "flipped") for r in ("a", "b", "c")]
    together = judge_of(colours).judge([[pair(painted, *each)] for each in names])
    assert set(colours.judged) == {4} and set(colours.encoded) == {AT_ONCE}
    for each, found in zip(names, together, strict=True):
        alone = judge_of(colours).judge([[pair(painted, *each)]])[0]
        assert alone.evidence == found.evidence


def test_a_model_that_does_not_tell_where_has_nan_and_no_frame(painted, mute):
    found = judge_of(mute).judge([[pair(painted, "a", "a")]])[0]
    assert found.frame is None and np.isfinite(found.evidence["pair_logit"])
    assert np.isnan([found.evidence["pair_covered_query"], found.evidence["pair_covered_reference"]]).all()


def test_a_bad_picture_is_the_error_of_its_pairs(painted, colours, tmp_path):
    bad = {**painted, "gone": (str(tmp_path / "gone.png"), "0")}
    good, gone, second = judge_of(colours).judge([[pair(bad, "a", "b")], [pair(bad, "a", "gone")], [pair(bad, "gone", "c")]])
    assert good.evidence and all(isinstance(error, ImageError) and error.code == "missing" for error in (gone, second))
    assert judge_of(colours).judge([]) == []


def test_torch_has_its_threads_back(painted, colours):
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        encode = colours.encode
        colours.encode = lambda pictures: seen.append(torch.get_num_threads()) or encode(pictures)
        judge_of(colours).judge([[pair(painted, "a", "b")]])
        assert seen == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def picture(id_):
    columns = {"width": [9], "height": [9], "pixel_key": ["p"], "thumbnail": np.zeros((1, 768)), "keypoints": [0]}
    return Pictures(id=[id_], path=[f"{id_}.png"], file_key=[f"key of {id_}"], **columns)


@pytest.fixture
def sub_image():
    """q is whole and flipped, p whole; r looks like q, s like q flipped; something is pasted in p."""
    rows = np.eye(4, dtype=np.float32)
    kinds, frames = ["whole", "flip", "whole", "overlay"], [identity(), flip(), identity(), from_box(0, 0, 0.5, 0.5)]
    queries = Descriptors(image_id=list("qqpp"), frame=frames, kind=kinds, confidence=np.ones(4), rows=rows)
    references = Descriptors(image_id=list("rs"), frame=frames[::2], kind=["whole"] * 2, confidence=np.ones(2), rows=rows[:2])
    both = PairSimilarity(queries, references, np.zeros(4, np.float32))
    return SubImage(both, SubImageSettings(), Pictures.empty(), Pictures.empty())


def test_the_closest_views_are_judged_beside_the_whole_pictures(sub_image):
    whole = view_pairs(picture("q"), picture("r"), sub_image=sub_image)
    flipped = view_pairs(picture("q"), picture("s"), sub_image=sub_image)
    assert [len(views) for views in (whole, flipped, view_pairs(picture("q"), picture("r")))] == [1, 2, 1]
    assert np.array_equal(flipped[1].query.frame, flip()) and np.array_equal(flipped[1].reference.frame, identity())
    assert flipped[0].query[:2] == ("q.png", "key of q") and flipped[1].reference[:2] == ("s.png", "key of s")
    assert len(view_pairs(picture("unknown"), picture("r"), sub_image=sub_image)) == 1


def test_rules_say_which_views_are_judged(sub_image):
    halves = ViewPairs(query=["whole", "left"], reference=["whole"])
    seen = sub_image.similarity
    rules = [halves, ViewPairs(query=["left"], reference=["whole", "top"], handicap=0.5)]
    met = view_pairs(picture("q"), picture("r"), rules=rules)
    assert [(m.query.frame[0, 0], m.reference.frame[1, 1], m.handicap) for m in met] == [(1, 1, 0), (0.5, 1, 0), (0.5, 0.5, 0.5)]
    for both in (rules, rules[::-1]):  # left and whole are named twice, the smallest handicap counts
        again = {(m.query.frame[0, 0], m.reference.frame[1, 1]): m.handicap for m in view_pairs(picture("q"), picture("r"), rules=both)}
        assert again == {(1, 1): 0, (0.5, 1): 0, (0.5, 0.5): 0.5}
    pasted = ViewPairs(query=["overlays", "whole"], reference=["whole"], first=True)
    found = [view_pairs(picture(query), picture("r"), similarity=seen, rules=[pasted]) for query in "qp"]
    assert [[m.query.frame[0, 0] for m in views] for views in found] == [[1], [0.5]]
    assert view_pairs(picture("q"), picture("r"), similarity=seen, rules=[ViewPairs(query=["overlays"])]) == []


def test_views_combine(painted, colours):
    near, far = pair(painted, "a", "a"), pair(painted, "b", "a")
    apart = [finding.evidence["pair_logit"] for finding in judge_of(colours).judge([[near], [far]])]
    settings = PairModelSettings(model="x", combine="log_mean_exp")
    mean = PairJudge(colours, made_by="x", settings=settings, image_settings=ImageSettings())
    both, none = mean.judge([[near, far], []])
    assert both.evidence["pair_logit"] == pytest.approx(np.log(np.exp(apart).mean()), abs=1e-5)
    assert np.isnan(none.evidence["pair_logit"]) and none.frame is None
    held = judge_of(colours).judge([[near._replace(handicap=100.0), far]])[0]
    assert held.evidence["pair_logit"] == pytest.approx(apart[1], abs=1e-5)


def tiny(seed=0):
    return TokenFusion.build("timm:test_vit", depth=4, size=32, width=16, joint=1, heads=2, seed=seed)


def test_models_are_loaded_by_file_and_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr("matcher.models.cards.shipped_room", lambda kind: tmp_path / kind)
    monkeypatch.setattr("matcher.shipped.shipped_room", lambda kind: tmp_path / kind)
    room = tmp_path / "checkpoints" / "token_fusion"
    room.mkdir(parents=True)
    checkpoint.save(room / "mine.safetensors", tiny(), {})
    for name in ("mine", "token_fusion/mine", str(room / "mine.safetensors")):
        settings = PairModelSettings(model=name)
        assert isinstance(load_pair_model(settings), TokenFusion) and made_by(settings).startswith("checkpoint ")
    first = made_by(PairModelSettings(model="mine"))
    checkpoint.save(room / "mine.safetensors", tiny(seed=1), {})
    assert made_by(PairModelSettings(model="mine")) != first
    with pytest.raises(UsageError, match=r"'yours' is neither .*there: token_fusion/mine"):
        load_pair_model(PairModelSettings(model="yours"))


def test_a_checkpoint_of_something_else_is_refused():
    path = Path(__file__).parents[2] / "checkpoints" / "descriptor" / "copydetect.safetensors"
    with pytest.raises(MatcherError, match="holds a Descriptor, and a pair model is needed"):
        load_pair_model(PairModelSettings(model=str(path)))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"memory": -1}, "memory"),
        ({"sure": float("inf")}, "sure must be a finite logit"),
    ],
)
def test_numbers_that_cannot_be_are_told(changes, told):
    with pytest.raises(UsageError, match=told):
        PairModelSettings(model="nosuch", **changes)
