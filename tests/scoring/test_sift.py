from itertools import pairwise

import numpy as np
import pytest

from matcher import geometry
from matcher.geometry import apply, flip, from_box, identity
from matcher.models.sift import LocalFeatures, extract
from matcher.scoring import sift
from matcher.scoring.matching import Match
from matcher.scoring.nearest import nearest_two
from matcher.scoring.sift import CELLS, NAMES, frame_of, spread
from matcher.settings import SiftScorerSettings, SiftSettings
from matcher.views.render import render

SIFT = SiftSettings(short_side=220, keypoints=350)
SETTINGS = SiftScorerSettings()
CROP = from_box(0.2, 0.1, 0.9, 0.75)


def judge(query, reference, images, settings):
    return sift.judge(query, reference, nearest_two(query, [reference])[0], images, settings)


def never():
    raise AssertionError("no pixels were needed")


@pytest.fixture(scope="module")
def features(pictures):
    return {name: extract(image, SIFT) for name, image in pictures.items()}


def keypoints(count, shape_wh=(1, 1)):
    rng = np.random.default_rng(count)
    point = rng.random((count, 2), dtype=np.float32)
    rows = rng.integers(0, 40, (count, 128)).astype(np.uint8)
    return LocalFeatures(point, np.full(count, 0.05, np.float32), np.zeros(count, np.float32), rows, np.float32(shape_wh))


@pytest.mark.parametrize("mirror", [False, True])
def test_evidence_of_a_copy(pictures, features, mirror):
    where = CROP @ flip() if mirror else CROP
    image = render(pictures["coffee"], where, (200, 320))
    evidence, frame = judge(extract(image, SIFT), features["coffee"], (lambda: image, lambda: pictures["coffee"]), SETTINGS)
    assert tuple(evidence) == NAMES and all(np.isfinite(value) for value in evidence.values())
    assert np.abs(geometry.corners(frame) - geometry.corners(where)).max() < 0.01
    assert evidence["sift_inliers"] > 40 and evidence["sift_matches"] > 40 and evidence["sift_support"] > 30
    assert 0.2 < evidence["sift_inlier_ratio"] <= 1 and 0.6 < evidence["sift_spread"] <= 1
    assert evidence["sift_agreement"] > 0.95 and evidence["sift_agreeing"] > 0.95


def test_evidence_of_strangers(pictures, features):
    names = list(features)
    for first, second in pairwise(names):
        images = (lambda first=first: pictures[first], lambda second=second: pictures[second])
        evidence, frame = judge(features[first], features[second], images, SETTINGS)
        assert tuple(evidence) == NAMES and evidence["sift_inliers"] < 8
        assert frame is None or evidence["sift_agreeing"] < 0.5 or np.isnan(evidence["sift_agreeing"])


@pytest.mark.parametrize(("here", "there"), [(0, 0), (0, 30), (30, 1), (1, 1)])
def test_no_keypoints_no_evidence_and_no_pixels(here, there):
    evidence, frame = judge(keypoints(here), keypoints(there), (never, never), SETTINGS)
    assert frame is None and tuple(evidence) == NAMES
    assert [evidence[name] for name in NAMES[:4]] == [0] * 4 and all(np.isnan(evidence[name]) for name in NAMES[4:])


def test_no_pixels_without_enough_inliers():
    evidence, frame = judge(keypoints(3), keypoints(3), (never, never), SETTINGS)
    assert frame is None and evidence["sift_support"] == pytest.approx(3) and np.isnan(evidence["sift_agreement"])


def test_evidence_of_one_pair_is_not_that_of_the_next():
    first, _ = judge(keypoints(0), keypoints(5), (never, never), SETTINGS)
    first["sift_inliers"] = 99.0
    assert judge(keypoints(0), keypoints(5), (never, never), SETTINGS)[0]["sift_inliers"] == 0


def matched(matrix):
    return Match(np.asarray(matrix, dtype=float), np.empty((0, 2), np.int64), 9.0, 9, 9)


def test_frames_of_matches():
    wide, tall = keypoints(5, (1, 0.5)), keypoints(5, (0.4, 1))
    frame = frame_of(matched(np.diag([0.3, 0.6, 1.0])), wide, tall)
    assert np.allclose(apply(frame, [[1, 1]]), [[0.3 / 0.4, 0.6 * 0.5]], atol=1e-6)


@pytest.mark.parametrize(
    "matrix",
    [
        np.full((3, 3), np.nan),
        np.diag([1.0, 0, 1]),
        np.array([[1.0, 0, 5], [0, 1, 0], [0, 0, 1]]),  # beside the reference
        np.array([[0.5, -0.7, 0.6], [1.3, -1.1, 1.1], [-1.3, -0.4, 1.0]]),  # the horizon passes through both pictures
    ],
)
def test_degenerate_matches_have_no_frame(matrix):
    assert frame_of(matched(matrix), keypoints(5), keypoints(5)) is None


def test_spread_agrees_with_a_slow_count():
    points = np.random.default_rng(0).random((9, 2)).astype(np.float32) * [0.4, 0.6] + [0.2, 0.1]
    box = from_box(0.2, 0.1, 0.6, 0.7)
    slow = {(int((x - 0.2) / 0.4 * CELLS), int((y - 0.1) / 0.6 * CELLS)) for x, y in points.tolist()}
    assert spread(box, points) == pytest.approx(len(slow) / CELLS**2)
    assert spread(identity(), np.float32([[0.5, 0.5]])) == 1 / 16
    centres = (np.stack(np.meshgrid(*[np.arange(4)] * 2), axis=-1).reshape(-1, 2) + 0.5) / 4
    assert spread(identity(), centres.astype(np.float32)) == 1 and spread(identity(), np.float32([[0, 0], [1, 1]])) == 2 / 16
