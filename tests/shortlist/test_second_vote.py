"""A tiny copy that the first votes do not find, in a picture of other things: votes, then a run and a comparison."""

import logging
import shutil
from dataclasses import asdict, replace

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from matcher.errors import ImageError, MatcherError, UsageError
from matcher.features import FeatureSet, describe_pictures
from matcher.images.table import read_images
from matcher.index import Index
from matcher.pipeline import compare, describe, evaluate, index, run, score, shortlist
from matcher.settings import (
    ImageSettings,
    IndexSettings,
    Scorers,
    SecondLookSettings,
    SecondVoteSettings,
    ShortlistSettings,
    SiftScorerSettings,
    SiftSettings,
    Strategy,
)
from matcher.shortlist.second_vote import SECOND_VOTES, is_left_over, vote_again
from matcher.shortlist.votes import vote
from matcher.stages.job import Job
from matcher.storage.records import read_record
from matcher.storage.stage import Stage
from matcher.types import Candidates, Errors
from matcher.workshop import ablate

IMAGES = ImageSettings()
COARSE = SiftSettings(short_side=160, keypoints=120)
AGAIN = SecondVoteSettings(query=SiftSettings(short_side=600, keypoints=2500))
SHORTLIST = ShortlistSettings(keypoints=120, again=AGAIN)
STRATEGY = Strategy(
    query_keypoints=COARSE,
    index=IndexSettings(kind="flat", gpu="no"),
    shortlist=SHORTLIST,
    scorers=Scorers(sift=SiftScorerSettings(again=SecondLookSettings())),
)
COPY = "tiny", "coffee"


@pytest.fixture(scope="module")
def folders(photos, tmp_path_factory):
    """Folders of queries (a scene with a tiny copy, one with a large one, a stranger, a blank) and of references."""
    folder = tmp_path_factory.mktemp("second")
    for side in ("queries", "references"):
        (folder / side).mkdir()
    for name in ("astronaut", "coffee", "rocket", "camera", "coins", "retina"):
        Image.fromarray(photos[name]).save(folder / "references" / f"{name}.png")
    scene = cv2.resize(photos["chelsea"], (900, 600), interpolation=cv2.INTER_CUBIC)
    tiny, large = scene.copy(), scene.copy()
    tiny[420:540, 90:270] = cv2.resize(photos["coffee"], (180, 120), interpolation=cv2.INTER_AREA)
    large[60:560, 60:760] = cv2.resize(photos["rocket"], (700, 500), interpolation=cv2.INTER_AREA)
    for name, picture in {"tiny": tiny, "large": large, "stranger": scene[:, ::-1], "blank": np.full_like(scene, 90)}.items():
        Image.fromarray(picture).save(folder / "queries" / f"{name}.png")
    return folder / "queries", folder / "references"


def described(folder, settings):
    images, _ = read_images(folder, "pictures", on_error="raise")
    pictures, keypoints, errors = describe_pictures(images, settings, image_settings=IMAGES, stage="test")
    assert not len(errors)
    return FeatureSet(pictures, keypoints)


@pytest.fixture(scope="module")
def sides(folders):
    queries, references = described(folders[0], COARSE), described(folders[1], STRATEGY.reference_keypoints)
    rows = references.keypoints.rows
    return queries, references, Index.build(rows, np.arange(len(rows)), STRATEGY.index, made_by="test")


@pytest.fixture(scope="module")
def finished(folders, tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    run(*folders, output, strategy=STRATEGY, job=Job(workers=1))
    return output


def again(sides, rows, settings=SHORTLIST):
    return dict(vote_again(rows, *sides, settings, image_settings=IMAGES, cache=None))


def test_it_finds_what_the_first_votes_do_not(sides):
    queries, references, listed = sides
    tiny, large = (queries.number[name] for name in ("tiny", "large"))
    first = {n: vote(queries.features(n), references, listed, SHORTLIST)[1] for n in (tiny, large)}
    assert is_left_over(first[tiny], AGAIN) and not is_left_over(first[large], AGAIN)
    elected, support = again(sides, [tiny])[tiny]
    assert references.pictures.id[elected[0]] == "coffee" and support[0] > 5 * first[tiny].max(initial=0.5)
    assert len(elected) <= AGAIN.most
    blank = queries.number["blank"]
    assert [len(found) for found in again(sides, [blank])[blank]] == [0, 0]


@pytest.mark.parametrize(("support", "left"), [([], True), ([2.4, 0.1], True), ([2.5], False), ([7.0, 1.0], False)])
def test_only_weak_votes_leave_a_query_over(support, left):
    assert is_left_over(np.array(support, np.float32), SecondVoteSettings(below=2.5)) is left


def test_so_many_references_as_asked_for_come_best_first(sides):
    rows = list(range(len(sides[0])))
    for most in (1, 2, 4):
        for elected, support in again(sides, rows, replace(SHORTLIST, again=replace(AGAIN, most=most))).values():
            assert len(elected) == len(support) == len(set(elected.tolist())) <= most and (np.diff(support) <= 0).all()


def test_others_than_the_best_need_the_support_that_leaves_none_over(sides):
    rows, every = list(range(len(sides[0]))), replace(AGAIN, most=4, below=0)
    for n, (elected, support) in again(sides, rows, replace(SHORTLIST, again=every)).items():
        for below in (1.0, 2.5, 6.0):
            fewer = again(sides, [n], replace(SHORTLIST, again=replace(every, below=below)))[n][0]
            expected = [reference for place, reference in enumerate(elected) if place == 0 or support[place] >= below]
            assert fewer.tolist() == expected


def test_a_picture_that_is_gone_is_an_error_in_its_place_and_the_others_vote(sides, tmp_path):
    queries, references, listed = sides
    gone, tiny = queries.number["large"], queries.number["tiny"]
    paths = queries.pictures.path.astype(object)
    paths[gone] = str(tmp_path / "gone.png")
    moved = FeatureSet(replace(queries.pictures, path=paths), queries.keypoints)
    found = again((moved, references, listed), [gone, tiny])
    assert isinstance(found[gone], ImageError) and "gone.png" in str(found[gone])
    assert references.pictures.id[found[tiny][0][0]] == "coffee"


def test_so_many_queries_as_one_likes_vote_together(sides, monkeypatch):
    rows = list(range(len(sides[0])))
    found = []
    for together in (1, 3, 100):
        monkeypatch.setattr("matcher.shortlist.second_vote.TOGETHER", together)
        found.append({n: [side.tolist() for side in told] for n, told in again(sides, rows).items()})
    assert found[0] == found[1] == found[2] and list(found[0]) == rows


def test_a_run_lists_queries_that_are_gone_by_then(folders, tmp_path, caplog):
    shutil.copytree(folders[0], tmp_path / "queries")
    job = Job(workers=1)
    for side, place in (("query", tmp_path / "queries"), ("reference", folders[1])):
        describe(place, tmp_path / side, side=side, strategy=STRATEGY, job=job)
    index(tmp_path / "reference", tmp_path / "index", strategy=STRATEGY, job=job)
    (tmp_path / "queries" / "stranger.png").unlink()
    places = tmp_path / "query", tmp_path / "reference", tmp_path / "index"
    with pytest.raises(MatcherError, match=r"stranger\.png"):
        shortlist(*places, tmp_path / "strict", strategy=STRATEGY, job=replace(job, on_error="raise"))
    with caplog.at_level(logging.WARNING, logger="matcher"):
        made = shortlist(*places, tmp_path / "candidates", strategy=STRATEGY, job=job)
    errors = read_record(made / "errors.parquet", Errors)
    assert errors.id.tolist() == ["stranger"] and errors.stage.tolist() == [SECOND_VOTES] and "1 of 4 queries" in caplog.text
    candidates = Stage.load(made, Candidates).read()
    assert any(SECOND_VOTES in said for said in candidates.source[candidates.query_id == "tiny"])


def test_a_reference_that_is_blank_too_keeps_nothing_pasted_on_blank_from_a_second_vote(photos, tmp_path):
    for side in ("queries", "references"):
        (tmp_path / side).mkdir()
    page = np.full((600, 800, 3), 255, np.uint8)
    small = cv2.resize(photos["coffee"], (80, 60), interpolation=cv2.INTER_AREA)
    page[500:560, 100:180] = 255 - (255 - small) // 3  # faint
    Image.fromarray(page).save(tmp_path / "queries" / "page.png")
    Image.fromarray(np.full((400, 400, 3), 255, np.uint8)).save(tmp_path / "references" / "blank.png")
    Image.fromarray(photos["coffee"]).save(tmp_path / "references" / "coffee.png")
    few = replace(STRATEGY, query_keypoints=replace(COARSE, keypoints=4), shortlist=replace(SHORTLIST, keypoints=4))
    output = tmp_path / "out"
    run(tmp_path / "queries", tmp_path / "references", output, strategy=few, job=Job(workers=1))
    found = Stage.load(output / "candidates", Candidates).read()
    sources = dict(zip(found.reference_id.tolist(), found.source.tolist(), strict=True))
    assert "identical" in sources["blank"] and SECOND_VOTES in sources["coffee"].split("+")


def test_a_run_judges_such_pairs_by_the_keypoints_that_found_them(finished, folders, tmp_path):
    candidates = Stage.load(finished / "candidates", Candidates).read()
    source = {
        (q, r): s
        for q, r, s in zip(candidates.query_id.tolist(), candidates.reference_id.tolist(), candidates.source.tolist(), strict=True)
    }
    assert SECOND_VOTES in source[COPY].split("+")
    assert {query for (query, _), said in source.items() if SECOND_VOTES in said} <= {"tiny", "stranger"}  # not the large copy
    table = pq.read_table(finished / "predictions.parquet").to_pylist()
    found = {(row["query_id"], row["reference_id"]): row for row in table}
    assert found[COPY]["probability"] > 0.9 and 0.02 < found[COPY]["query_covered"] < 0.06
    assert max(row["probability"] for pair, row in found.items() if pair not in (COPY, ("large", "rocket"))) < 0.1

    assert compare(folders[0] / "tiny.png", folders[1] / "coffee.png", strategy=STRATEGY).probability == pytest.approx(
        found[COPY]["probability"]
    )
    listed = tmp_path / "pairs.csv"
    for said, seen in ((SECOND_VOTES, True), ("mine", False)):  # what a list of one's own says
        listed.write_text(f"query_id,reference_id,source\ntiny,coffee,{said}\n", encoding="utf-8")
        scored = score(listed, finished / "queries", finished / "references", tmp_path / said, strategy=STRATEGY)
        assert (pq.read_table(next(scored.glob("part-*.parquet")))["evidence.sift_inliers"][0].as_py() > 20) is seen


@pytest.mark.parametrize("own", [pa.array([1_700_000_000_123_456_789], pa.timestamp("ns")), pa.array([7]), pa.array([None], pa.string())])
def test_a_list_may_have_any_column_of_that_name(own, finished, tmp_path):
    pq.write_table(pa.table({"query_id": ["tiny"], "reference_id": ["coffee"], "source": own}), tmp_path / "pairs.parquet")
    scored = score(tmp_path / "pairs.parquet", finished / "queries", finished / "references", tmp_path / "out", strategy=STRATEGY)
    kept = pq.read_table(next(scored.glob("part-*.parquet")))
    assert kept["source"].combine_chunks().equals(own) and kept["evidence.sift_inliers"][0].as_py() < 10


def test_a_row_of_an_ablation_comes_to_what_a_run_does(finished, folders, tmp_path):
    truth = tmp_path / "truth.csv"
    truth.write_text("query_id,reference_id\ntiny,coffee\nlarge,rocket\nstranger,\nblank,\n", encoding="utf-8")
    (tmp_path / "row.yaml").write_text(yaml.safe_dump({"strategy": asdict(STRATEGY)}), encoding="utf-8")
    never = {"shortlist": {"again": {"below": 0}}}  # the same judges, and pairs that no second vote found
    rows = {"with": ["row.yaml"], "without": ["row.yaml", {"shortlist": {"again": None}}], "never": ["row.yaml", never]}
    rows = {name: [str(tmp_path / said[0]), *said[1:]] for name, said in rows.items()}
    found = ablate(*folders, truth, tmp_path / "out", rows=rows, job=Job(workers=1)).as_dict()["rows"]
    assert found["with"]["evaluation"]["micro_ap"] == evaluate(finished / "predictions.parquet", truth).as_dict()["micro_ap"]
    assert found["with"]["evaluation"]["micro_ap"]["value"] == 1 > found["without"]["evaluation"]["micro_ap"]["value"]
    assert found["never"]["evaluation"]["micro_ap"] == found["without"]["evaluation"]["micro_ap"]


def test_what_cannot_work_is_refused():
    with pytest.raises(UsageError, match="waits for the votes"):
        ShortlistSettings(per_query=0, again=AGAIN)
    with pytest.raises(UsageError, match="needs keypoints"):
        SecondVoteSettings(query=SiftSettings(keypoints=0))
    with pytest.raises(UsageError, match="cannot be compared"):
        Strategy(shortlist=ShortlistSettings(again=SecondVoteSettings(query=SiftSettings(kind="sift"))))
    sift = {"query_keypoints": SiftSettings(kind="sift"), "reference_keypoints": SiftSettings(kind="sift")}
    voting = ShortlistSettings(again=SecondVoteSettings(query=SiftSettings(kind="sift")))
    with pytest.raises(UsageError, match=r"sift \(shortlist\.again\.query\) and corners \(scorers\.sift\.again\.reference\)"):
        Strategy(**sift, shortlist=voting, scorers=STRATEGY.scorers)
