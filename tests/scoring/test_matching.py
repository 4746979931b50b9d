import numpy as np
import pytest

from matcher import geometry
from matcher.geometry import apply, flip, from_box, turn
from matcher.models.sift import LocalFeatures, extract
from matcher.scoring import matching
from matcher.scoring.matching import WORTH, Match, fit, look_up, plausible, propose, shared_out
from matcher.scoring.nearest import BothImages, Nearest, nearest_two
from matcher.scoring.sift import frame_of
from matcher.settings import SiftScorerSettings, SiftSettings
from matcher.views.render import render

SIFT = SiftSettings(short_side=220, keypoints=350)
SETTINGS = SiftScorerSettings()
TILTED = np.array([[0.8, 0.12, 0.05], [0.04, 0.75, 0.1], [0.1, -0.12, 1.0]])
VIEWS = {
    "whole": geometry.identity(),
    "crop": from_box(0.2, 0.15, 0.8, 0.9),
    "turned crop": from_box(0.1, 0.2, 0.9, 0.85) @ turn(1),
    "flip": flip(),
    "flipped and turned": turn(3) @ flip(),
    "tilted": TILTED,
    "on a border": from_box(-0.4, -0.3, 1.3, 1.2),
}


@pytest.fixture(scope="module")
def features(pictures):
    return {name: extract(image, SIFT) for name, image in pictures.items()}


def match(query, reference, settings):
    return matching.match(query, reference, nearest_two(query, [reference])[0], settings)


def empty(count=0):
    rng = np.random.default_rng(count)
    rows = rng.integers(0, 40, (count, 128)).astype(np.uint8)
    point = rng.random((count, 2), dtype=np.float32)
    return LocalFeatures(point, np.full(count, 0.05, np.float32), np.zeros(count, np.float32), rows, np.float32([1, 1]))


def on_a_line(count=20):
    some = empty(count)
    along = np.linspace(0.1, 0.9, count, dtype=np.float32)
    return LocalFeatures(np.stack([along, along], axis=1), some.size, some.angle, some.rows, some.shape_wh)


def view(image, frame, longer=320):
    """A view's pixels, with about the aspect that it has in the picture."""
    sides = np.linalg.norm(np.diff(geometry.corners(frame)[:3] * image.shape[1::-1], axis=0), axis=1)
    width, height = np.round(longer * sides / sides.max()).astype(int)
    return render(image, frame, (int(height), int(width)))


@pytest.mark.parametrize("name", ["astronaut", "coffee"])
@pytest.mark.parametrize("edit", VIEWS)
def test_known_frames_are_found(pictures, features, name, edit):
    query = extract(view(pictures[name], VIEWS[edit]), SIFT)
    found = match(query, features[name], SETTINGS)
    frame = frame_of(found, query, features[name])
    assert found.support > 3 * WORTH and len(found.pairs) > 20
    assert np.abs(geometry.corners(frame) - geometry.corners(VIEWS[edit])).max() < 0.01
    assert geometry.is_mirrored(frame) == geometry.is_mirrored(VIEWS[edit])


def test_pairs_are_one_to_one_and_lie_where_the_frame_says(pictures, features):
    query = extract(view(pictures["chelsea"], VIEWS["crop"]), SIFT)
    found = match(query, features["chelsea"], SETTINGS)
    assert all(len(set(column.tolist())) == len(column) for column in found.pairs.T)
    miss = apply(found.matrix, query.even[found.pairs[:, 0]]) - features["chelsea"].even[found.pairs[:, 1]]
    assert np.linalg.norm(miss, axis=1).max() < SETTINGS.tolerance / 3 + 1e-6
    assert len(found.pairs) <= found.visible <= len(query)


def test_pairs_of_a_mirrored_copy_are_rows_of_the_query_as_it_is(pictures, features):
    query = extract(view(pictures["chelsea"], flip()), SIFT)
    found = match(query, features["chelsea"], SETTINGS)
    miss = apply(found.matrix, query.even[found.pairs[:, 0]]) - features["chelsea"].even[found.pairs[:, 1]]
    assert len(found.pairs) > 50 and np.linalg.norm(miss, axis=1).max() < SETTINGS.tolerance / 3 + 1e-6


def test_strangers_have_little_support(features):
    names = list(features)
    found = [match(features[a], features[b], SETTINGS) for a in names for b in names if a != b]
    worth = [m for m in found if m is not None and m.support >= WORTH]
    assert len(worth) <= len(found) // 4
    assert all(len(m.pairs) < 8 for m in found if m is not None)


def test_the_mirror_image_of_a_query_finds_the_mirrored_frame(pictures, features):
    query = extract(view(pictures["rocket"], VIEWS["crop"]), SIFT)
    straight, mirrored = (match(q, features["rocket"], SETTINGS) for q in (query, query.mirrored))
    assert straight.support == pytest.approx(mirrored.support, abs=1e-3) and straight.proposed == mirrored.proposed
    assert np.abs(len(straight.pairs) - len(mirrored.pairs)) <= 2
    first, second = frame_of(straight, query, features["rocket"]), frame_of(mirrored, query, features["rocket"])
    assert np.allclose(geometry.corners(first), geometry.corners(second @ flip()), atol=2e-3)


def test_a_match_is_the_same_every_time(pictures, features):
    query = extract(view(pictures["coffee"], TILTED), SIFT)
    first, second = (match(query, features["coffee"], SETTINGS) for _ in range(2))
    assert np.array_equal(first.matrix, second.matrix) and np.array_equal(first.pairs, second.pairs) and first.support == second.support


@pytest.mark.parametrize(("here", "there"), [(0, 0), (0, 30), (30, 0), (1, 30), (30, 1), (1, 1)])
def test_too_few_keypoints(here, there):
    assert match(empty(here), empty(there), SETTINGS) is None


@pytest.mark.parametrize("count", [2, 3, 4, 7, 8, 20])
def test_few_keypoints_and_keypoints_on_a_line(count):
    for query in (empty(count), on_a_line(count)):
        found = match(query, query, SETTINGS)
        assert found is not None and np.isfinite(found.matrix).all()
        assert np.allclose(apply(found.matrix, query.even), query.even, atol=0.02)  # the same picture: whatever is fitted keeps the points
        assert found.support == pytest.approx(count, abs=1e-4)


@pytest.mark.parametrize("name", ["findHomography", "estimateAffine2D"])
@pytest.mark.parametrize("count", [6, 30])
def test_the_first_similarity_stands_where_opencv_finds_nothing(monkeypatch, name, count):
    monkeypatch.setattr(matching.cv2, name, lambda *_, **__: (None, None))
    found = match(empty(count), empty(count), SETTINGS)
    assert np.allclose(found.matrix, np.eye(3), atol=1e-4) and len(found.pairs) == count


@pytest.mark.parametrize("bad", [np.diag([-1.0, 1, 1]), np.diag([0.01, 0.01, 1]), np.full((3, 3), np.nan), np.diag([50.0, 50, 1])])
def test_the_first_similarity_stands_where_opencv_finds_nonsense(monkeypatch, bad):
    monkeypatch.setattr(matching.cv2, "findHomography", lambda *_, **__: (bad, None))
    found = match(empty(30), empty(30), SETTINGS)
    assert np.allclose(found.matrix, np.eye(3), atol=1e-4) and len(found.pairs) == 30


def test_plausible():
    before = np.diag([0.5, 0.5, 1.0])
    assert plausible(before, np.diag([0.6, 0.4, 1.0])) and plausible(before, before @ turn(1))
    assert plausible(before @ flip(), np.diag([0.6, 0.4, 1.0]) @ flip())
    assert not plausible(before, before @ flip())  # mirrored
    assert not plausible(before, np.diag([0.5, 0.0, 1.0])) and not plausible(before, np.diag([0.1, 0.1, 1.0]))  # collapsed
    assert not plausible(before, np.diag([2.0, 2.0, 1.0])) and not plausible(before, np.full((3, 3), np.inf))


def test_fit_takes_the_model_that_the_points_allow():
    rng = np.random.default_rng(0)
    here = rng.random((40, 2), dtype=np.float32)
    affine = np.array([[0.9, 0.2, 0.1], [-0.1, 1.1, 0.0], [0, 0, 1]])
    for model, count in ((affine, 5), (affine, 30), (TILTED, 30)):
        there = apply(model, here[:count]).astype(np.float32)
        assert np.allclose(fit(here[:count], there, tolerance=0.01), model, atol=2e-3)
    there = apply(TILTED, here).astype(np.float32)
    there[:12] = rng.random((12, 2))  # a third is wrong
    assert np.allclose(fit(here, there, tolerance=0.01), TILTED, atol=5e-3)
    assert fit(here[:3], here[:3], tolerance=0.01) is None


@pytest.mark.parametrize("count", [4, 7, 8, 30])
def test_fit_survives_points_without_extent(count):
    spot, line = np.full((count, 2), 0.5, np.float32), on_a_line(count).point
    for points in (spot, line):
        found = fit(points, points, tolerance=0.01)
        assert found is None or found.shape == (3, 3)


def test_matches_into_one_keypoint_share_a_vote():
    pairs = np.array([[0, 5], [1, 5], [2, 5], [3, 1], [4, 2], [5, 2]])
    assert np.allclose(shared_out(pairs), [1 / 3, 1 / 3, 1 / 3, 1, 1 / 2, 1 / 2])
    assert shared_out(np.empty((0, 2), np.int64)).shape == (0,)


def test_look_up_takes_only_what_is_alike_near_and_of_the_same_size():
    query = empty(40)
    pairs, visible = look_up(query, query, np.eye(3), tolerance=0.01)
    assert sorted(pairs.tolist()) == [[n, n] for n in range(40)] and visible == 40
    unlike = LocalFeatures(query.point, query.size, query.angle, np.roll(np.eye(40, 128), 1, axis=1).astype(np.uint8) * 255, query.shape_wh)
    assert len(look_up(query, unlike, np.eye(3), tolerance=0.01)[0]) == 0
    aside = np.array([[1.0, 0, 0.02], [0, 1, 0], [0, 0, 1]])
    near = look_up(query, query, aside, tolerance=0.01)[0]
    assert len(near) == 0
    larger = LocalFeatures(query.point, query.size * 2, query.angle, query.rows, query.shape_wh)
    pairs, visible = look_up(query, larger, np.eye(3), tolerance=0.01)
    assert len(pairs) == 0 and visible == 0


def test_keypoints_of_one_place_count_once():
    some = empty(10)
    one_place = LocalFeatures(np.full((10, 2), 0.5, np.float32), some.size, some.angle, some.rows, some.shape_wh)
    pairs, visible = look_up(one_place, one_place, np.eye(3), tolerance=0.01)
    assert len(pairs) == 1 and visible == 10


def test_repeated_structure_proposes_less(features):
    one = features["coins"]
    repeated = LocalFeatures(one.point, one.size, one.angle, np.repeat(one.rows[:1], len(one), axis=0), one.shape_wh)
    found = match(repeated, one, SETTINGS)
    assert found is None or (isinstance(found, Match) and found.support < 2)


@pytest.mark.parametrize(("ratio", "proposed"), [(0.85, 3), (0.91, 5), (0.99, 6), (0.51, 1), (0.45, 0)])
def test_a_match_counts_if_its_distance_is_below_the_ratio_of_the_second_nearest(ratio, proposed):
    some, distances, second = empty(6), np.float32([0.86, 0.5, 0.84, 0.95, 0.7, 0.9]), np.float32(1.2)
    near = Nearest(np.arange(6), 1 - (second * distances) ** 2 / 2, np.full(6, 1 - second**2 / 2, np.float32))
    settings = SiftScorerSettings(ratio=ratio)
    for found in (propose(some, some, near, settings), matching.match(some, some, BothImages(near, near), settings)):
        assert (0 if found is None else found.proposed) == proposed == (0 if found is None else round(found.support))
