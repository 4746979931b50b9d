from collections import Counter

import numpy as np
import pytest

from matcher.features import FeatureSet, join, pixel_key, thumbnail
from matcher.index import Index
from matcher.models.sift import LocalFeatures, extract
from matcher.settings import IndexSettings, ShortlistSettings, SiftSettings
from matcher.shortlist import votes as votes_
from matcher.shortlist.votes import Votes, agree_on, cast, heaviest, vote, vote_all
from matcher.types import Pictures
from matcher.views.render import render
from matcher.visual_words import companions

SIFT = SiftSettings(short_side=200, keypoints=250)
SETTINGS = ShortlistSettings(per_query=4, keypoints=250)
NONE = LocalFeatures(*(np.empty(s, np.float32) for s in ((0, 2), 0, 0)), np.empty((0, 128), np.uint8), np.float32([1, 1]))


def feature_set(images, found):
    pictures = Pictures(
        id=list(images),
        path=list(images),
        width=[image.shape[1] for image in images.values()],
        height=[image.shape[0] for image in images.values()],
        file_key=list(images),
        pixel_key=[pixel_key(image) for image in images.values()],
        thumbnail=[thumbnail(image) for image in images.values()],
        keypoints=[len(features) for features in found],
    )
    return FeatureSet(pictures, join(list(images), found))


@pytest.fixture(scope="module")
def references(pictures):
    plain = {**pictures, "plain": np.full((90, 120, 3), 60, np.uint8)}
    return feature_set(plain, [extract(image, SIFT) for image in plain.values()])


@pytest.fixture(scope="module")
def index(references):
    rows = references.keypoints.rows
    return Index.build(rows, np.arange(len(rows)), IndexSettings(kind="flat"), made_by="test")


def crop(image):
    height, width = image.shape[:2]
    return image[height // 5 : height * 4 // 5, width // 4 : width * 4 // 5]


def pasted(image, onto):
    small = render(image, np.eye(3), (130, 130))
    made = onto.copy()
    made[30:160, 60:190] = small
    return made


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "coins"])
@pytest.mark.parametrize("edit", ["whole", "crop", "mirrored crop", "pasted"])
def test_copies_rank_first(pictures, references, index, name, edit):
    image, number = pictures[name], references.number[name]
    query = {"whole": image, "crop": crop(image), "mirrored crop": np.ascontiguousarray(crop(image)[:, ::-1])}.get(edit)
    if query is None:
        noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        query = pasted(image, render(noise, np.eye(3), (240, 320)))
    rows, support = vote(extract(query, SIFT), references, index, SETTINGS)
    assert rows[0] == number
    assert support[0] > 3 * support[1] if len(support) > 1 else support[0] > 3


def test_per_query_is_respected_and_falls(pictures, references, index):
    query = extract(crop(pictures["coffee"]), SIFT)
    every, support = vote(query, references, index, ShortlistSettings(per_query=100))
    assert len(set(every.tolist())) == len(every) <= len(references) and (np.diff(support) <= 0).all() and (support > 0).all()
    for count in (1, 2, 3):
        rows, some = vote(query, references, index, ShortlistSettings(per_query=count))
        assert rows.tolist() == every[:count].tolist() and np.array_equal(some, support[:count])
    assert references.number["plain"] not in every.tolist()


def test_all_queries_at_once_are_as_one_by_one(pictures, references):
    rows = references.keypoints.rows
    lists = Index.build(rows, np.arange(len(rows)), IndexSettings(kind="ivf", lists=12, probes=2, gpu="no"), made_by="test")
    queries = [extract(crop(pictures[name]), SIFT) for name in ("coffee", "chelsea", "coins")] + [NONE, extract(pictures["rocket"], SIFT)]
    together = list(vote_all(queries, references, lists, SETTINGS))
    assert len(together) == 5 and len(together[0][0]) and not len(together[3][0])
    for query, (found, support) in zip(queries, together, strict=True):
        alone, its_support = vote(query, references, lists, SETTINGS)
        assert found.tolist() == alone.tolist() and np.array_equal(support, its_support)
    assert not list(vote_all([], references, lists, SETTINGS))


@pytest.mark.parametrize("rules", [{}, {"support": 0.2}, {"always": 0}, {"per_query": 2, "always": 1}, {"support": 3.0, "always": 5}])
def test_only_votes_that_can_win_are_tested(pictures, references, index, monkeypatch, rules):
    settings, tested = ShortlistSettings(keypoints=250, **{"per_query": 4, **rules}), []
    queries = [extract(crop(pictures[name]), SIFT) for name in ("coffee", "chelsea", "coins", "rocket")]
    monkeypatch.setattr(votes_, "agree_on", lambda *asked: (tested.append(asked[2]), agree_on(*asked))[1])
    fewer, some = [vote(query, references, index, settings) for query in queries], len(tested)
    monkeypatch.setattr(votes_, "least_wanted", lambda support, settings: 0.0)
    every = [vote(query, references, index, settings) for query in queries]
    assert some < len(tested) - some
    assert all(a.tolist() == b.tolist() and np.array_equal(x, y) for (a, x), (b, y) in zip(fewer, every, strict=True))


def test_no_keypoints_no_candidates(references, index):
    rows, support = vote(NONE, references, index, SETTINGS)
    assert rows.shape == support.shape == (0,) and rows.dtype == np.int64


def test_no_references_no_candidates(pictures):
    none = feature_set({"plain": np.full((90, 120, 3), 60, np.uint8)}, [NONE])
    empty = Index.build(np.empty((0, 128), np.uint8), np.empty(0, np.int64), IndexSettings(kind="flat"), made_by="test")
    rows, support = vote(extract(pictures["coins"], SIFT), none, empty, SETTINGS)
    assert len(rows) == len(support) == 0


def test_votes_agree_with_a_slow_loop(pictures, references, index):
    query = extract(crop(pictures["chelsea"]), SIFT).first(60)
    found = cast(query, references, index, SETTINGS)
    similarity = query.rows.astype(float) @ references.keypoints.rows.T.astype(float) / 255**2
    expected = {}
    for row, cosines in enumerate(similarity):
        nearest = sorted(range(len(cosines)), key=lambda n: (-cosines[n], n))[: SETTINGS.neighbours]
        last = max(max(0, 2 - 2 * cosines[n]) for n in nearest)
        for n in nearest:
            weight = 1 - max(0, 2 - 2 * cosines[n]) / last
            owner = int(np.searchsorted(references.start, n, side="right")) - 1
            if weight > 1e-6 and (row, owner) not in expected:
                expected[row, owner] = (n, weight)
    ours = {
        (int(q), int(o)): (int(r), float(w))
        for q, r, o, w in zip(found.query_row, found.reference_row, found.reference, found.weight, strict=True)
        if w > 1e-6
    }
    assert ours.keys() == expected.keys()
    assert all(ours[key][0] == expected[key][0] and ours[key][1] == pytest.approx(expected[key][1], abs=1e-4) for key in ours)
    assert (np.diff(found.reference) >= 0).all()


def test_a_keypoint_votes_once_per_reference():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 40, (8, 128)).astype(np.float32)
    rows = np.round(255 * rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.uint8)
    rows[1] = rows[0]  # the first reference has the same keypoint twice
    point = rng.random((8, 2), dtype=np.float32)
    halves = [
        LocalFeatures(point[s], np.full(4, 0.1, np.float32), np.zeros(4, np.float32), rows[s], np.float32([1, 1]))
        for s in (slice(0, 4), slice(4, 8))
    ]
    made = feature_set({"a": np.zeros((9, 9, 3), np.uint8), "b": np.ones((9, 9, 3), np.uint8)}, halves)
    small = Index.build(rows, np.arange(8), IndexSettings(kind="flat"), made_by="test")
    votes = cast(halves[0].first(1), made, small, ShortlistSettings(neighbours=8))
    assert votes.reference.tolist() == [0, 1] and votes.reference_row[0] == 0
    assert votes.weight[0] > votes.weight[1] > 0


def test_the_heaviest_come_first_each_with_its_own_votes():
    votes = Votes(np.arange(6), np.arange(10, 16), np.array([1, 1, 3, 4, 4, 4]), np.float32([0.5, 0.5, 0.9, 0.5, 0.5, 0.5]))
    found = list(heaviest(votes, 2))
    assert [reference for reference, _ in found] == [4, 1]
    assert found[0][1].query_row.tolist() == [3, 4, 5] and found[1][1].reference_row.tolist() == [10, 11]
    none = Votes(*(np.empty(0, np.int64) for _ in range(3)), np.empty(0, np.float32))
    assert list(heaviest(none, 5)) == []


def test_votes_that_agree_on_no_transform_weigh_little(pictures, references, index):
    query = extract(crop(pictures["rocket"]), SIFT)
    number = references.number["rocket"]
    votes = dict(heaviest(cast(query, references, index, SETTINGS), 10))[number]
    agreed = agree_on(query, references, number, votes, SETTINGS)
    shuffled = np.random.default_rng(0).permutation(votes.reference_row)
    torn = agree_on(query, references, number, Votes(votes.query_row, shuffled, votes.reference, votes.weight), SETTINGS)
    assert agreed > 0.5 * votes.weight.sum() and torn < agreed / 3


@pytest.fixture(scope="module", params=[0, 64], ids=["words", "words and bits"])
def words(references, request):
    rows = references.keypoints.rows
    return Index.build(rows, np.arange(len(rows)), IndexSettings(kind="words", lists=120, bits=request.param), made_by="test")


@pytest.mark.parametrize("name", ["astronaut", "coffee", "rocket"])
def test_copies_rank_first_by_words(pictures, references, words, name):
    for query in (crop(pictures[name]), np.ascontiguousarray(crop(pictures[name])[:, ::-1])):
        rows, support = vote(extract(query, SIFT), references, words, SETTINGS)
        assert references.number[name] in rows[: 1 if words.card.settings.bits else 3]  # few words alone tell little
        assert words.card.settings.bits == 0 or support[0] > 1.5 * support[1]


def test_votes_of_words_agree_with_a_slow_loop(pictures, references, words):
    query = extract(crop(pictures["chelsea"]), SIFT).first(80)
    found = cast(query, references, words, SETTINGS)
    pairs = [(int(q), int(r), float(w)) for q, r, w in zip(*companions(words, query.rows), strict=True)]
    owners = [int(np.searchsorted(references.start, r, side="right")) - 1 for _, r, _ in pairs]
    here = Counter((q, owner) for (q, _, _), owner in zip(pairs, owners, strict=True))
    there = Counter(r for _, r, _ in pairs)
    expected = {(q, r, owner): w / max(here[q, owner], there[r]) for (q, r, w), owner in zip(pairs, owners, strict=True)}
    ours = zip(found.query_row.tolist(), found.reference_row.tolist(), found.reference.tolist(), strict=True)
    assert dict(zip(ours, found.weight.tolist(), strict=True)) == pytest.approx(expected, abs=1e-6)
    assert (np.diff(found.reference) >= 0).all()


def test_a_word_that_repeats_itself_counts_no_more_than_its_keypoints():
    rows = np.zeros((7, 128), np.uint8)
    rows[:4, 0], rows[4:, 1] = 255, 255  # four keypoints of one word, three of another
    point = np.random.default_rng(0).random((7, 2), dtype=np.float32)
    made = LocalFeatures(point, np.full(7, 0.1, np.float32), np.zeros(7, np.float32), rows, np.float32([1, 1]))
    one = feature_set({"a": np.zeros((9, 9, 3), np.uint8)}, [made])
    vocabulary = np.stack([rows[0], rows[4]]).astype(np.float32)
    index = Index.build(rows, np.arange(7), IndexSettings(kind="words", bits=0), made_by="test", words=vocabulary)
    asked = LocalFeatures(
        *(values[np.array([0, 1, 4, 5, 6, 6])] for values in (made.point, made.size, made.angle, made.rows)), made.shape_wh
    )
    votes = cast(asked, one, index, SETTINGS)
    weight = [(1 - np.log(count) / np.log(7)) ** 2 for count in (4, 3)]
    assert len(votes.weight) == 2 * 4 + 4 * 3
    assert votes.weight[votes.query_row < 2].sum() == pytest.approx(2 * weight[0])  # min(2, 4)
    assert votes.weight[votes.query_row >= 2].sum() == pytest.approx(3 * weight[1])  # min(4, 3)


def test_no_more_votes_are_tested_than_a_query_has_keypoints(pictures, references, index):
    query = extract(pictures["rocket"], SIFT)
    number = references.number["rocket"]
    votes = dict(heaviest(cast(query, references, index, SETTINGS), 10))[number]
    few = ShortlistSettings(keypoints=20)
    best = np.argsort(-votes.weight, kind="stable")[:20]
    chosen = Votes(votes.query_row[best], votes.reference_row[best], votes.reference[best], votes.weight[best])
    assert len(votes.weight) > 20
    assert agree_on(query, references, number, votes, few) == agree_on(query, references, number, chosen, SETTINGS)
