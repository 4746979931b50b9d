from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest

from matcher.models.sift import LONGEST, LOW_CONTRAST, MIRROR, LocalFeatures, bring_to_size, choose, extract, root_sift, stretch
from matcher.settings import SiftSettings

SETTINGS = SiftSettings(short_side=200, keypoints=300)
KINDS = [SETTINGS, replace(SETTINGS, kind="sift")]
both_kinds = pytest.mark.parametrize("settings", KINDS, ids=[settings.kind for settings in KINDS])


@pytest.fixture(scope="module", params=KINDS, ids=[settings.kind for settings in KINDS])
def features(pictures, request):
    return extract(pictures["astronaut"], request.param)


def share_found(wanted, there, *, pixels, longer_side, cosine=0.9):
    """Share of keypoints that have a like one within ``pixels`` of their place in the other picture."""
    distance = np.linalg.norm(wanted.even[:, None] - there.even[None], axis=2) * longer_side
    return float(((distance < pixels) & (wanted.unit_rows @ there.unit_rows.T > cosine)).any(axis=1).mean())


def equal(first, second):
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ("point", "size", "angle", "rows", "shape_wh"))


def test_shapes_and_ranges(features):
    count = len(features)
    assert count == SETTINGS.keypoints  # an astronaut has more than enough structure: the limit holds, and is used
    assert features.point.shape == (count, 2) and features.size.shape == features.angle.shape == (count,)
    assert features.point.dtype == features.size.dtype == features.angle.dtype == np.float32 and features.rows.dtype == np.uint8
    assert (features.point > 0).all() and (features.point < 1).all() and (features.size > 0).all() and (features.size < 1).all()
    assert (features.angle >= 0).all() and (features.angle <= 360).all()


def test_root_sift_has_norm_255(features):
    norms = np.linalg.norm(features.rows.astype(float), axis=1)
    assert np.abs(norms - 255).max() < 2 and abs(norms.mean() - 255) < 0.5  # each of 128 numbers is rounded
    assert np.allclose(np.linalg.norm(features.unit_rows, axis=1), 1, atol=1e-5)


def test_root_sift_agrees_with_a_slow_loop():
    raw = np.random.default_rng(0).integers(0, 200, (5, 128)).astype(np.float32)
    slow = [[round(255 * (value / sum(row)) ** 0.5) for value in row] for row in raw.tolist()]
    assert root_sift(raw).tolist() == slow
    assert not root_sift(np.zeros((1, 128), np.float32)).any()


@both_kinds
@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee"])
def test_mirrored_keypoints_are_those_of_the_flipped_picture(pictures, name, settings):
    image = pictures[name]
    flipped = extract(np.ascontiguousarray(image[:, ::-1]), settings)
    straight = extract(image, settings)
    sizes = {"pixels": 1.5, "longer_side": 300}
    assert share_found(straight.mirrored, flipped, **sizes) > 0.7
    assert share_found(straight, flipped, **sizes) < 0.1  # without the mirror hardly anything fits
    both = np.linalg.norm(straight.mirrored.even[:, None] - flipped.even[None], axis=2).argmin(axis=1)
    near = np.linalg.norm(straight.mirrored.even - flipped.even[both], axis=1) * 300 < 1
    turned = np.deg2rad(straight.mirrored.angle - flipped.angle[both])[near]
    assert np.median(np.cos(turned)) > 0.99 and np.allclose(np.median(np.log(straight.size / flipped.size[both])[near]), 0, atol=0.05)


def test_mirroring_twice_changes_nothing(features):
    again = features.mirrored.mirrored
    assert sorted(MIRROR) == list(range(128)) and np.array_equal(MIRROR[MIRROR], np.arange(128))
    assert np.array_equal(again.rows, features.rows) and np.array_equal(again.size, features.size)
    assert np.allclose(again.point, features.point, atol=1e-6)
    assert np.allclose(np.cos(np.deg2rad(again.angle - features.angle)), 1, atol=1e-6)


def test_even_units(pictures):
    found = extract(pictures["rocket"], SETTINGS)
    height, width = pictures["rocket"].shape[:2]
    assert np.allclose(found.shape_wh, [1, height / width], atol=1e-6)
    assert np.allclose(found.even, found.point * [1, height / width], atol=1e-6)


@both_kinds
def test_keypoints_lie_where_the_structure_is(settings):
    image = np.full((200, 300, 3), 128, np.uint8)
    cv2.ellipse(image, ((225, 50), (30, 20), 20), (255, 255, 255), -1)  # centre at (225.5, 50.5) from the corner
    far = np.linalg.norm(extract(image, settings).point * [300, 200] - [225.5, 50.5], axis=1)
    assert len(far) and (far < 40).all()
    if settings.kind == "sift":
        assert far.min() < 1.0  # the blob itself; corners lie along its edge


def test_the_first_are_a_prefix_and_a_fair_sample_of_the_scales(features):
    few = features.first(100)
    assert len(few) == 100 and len(features.first(10_000)) == len(features)
    assert np.array_equal(few.rows, features.rows[:100]) and np.array_equal(few.point, features.point[:100])
    large = np.quantile(features.size, 0.7)
    assert abs((few.size > large).mean() - 0.3) < 0.12


@both_kinds
@pytest.mark.parametrize("size", [(200, 300), (1, 1), (2, 3), (1, 60_000), (60_000, 1)])
def test_no_structure_no_keypoints(size, settings):
    found = extract(np.full((*size, 3), 77, np.uint8), settings)
    assert len(found) == 0 and found.rows.shape == (0, 128) and found.point.shape == (0, 2)
    assert len(found.mirrored) == 0 and len(found.first(5)) == 0 and found.even.shape == (0, 2) and found.unit_rows.shape == (0, 128)


@both_kinds
@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (3, 5000), (16, 9000), (7, 7)])
def test_thin_and_tiny_pictures_with_structure(size, settings):
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = extract(noise, settings)
    assert len(found) <= settings.keypoints and np.isfinite(found.point).all() and found.shape_wh.max() == 1
    assert found.mirrored.rows.shape == found.rows.shape


def test_levels_are_stretched_where_they_lie_close_together():
    ramp = np.tile(np.arange(200, dtype=np.uint8), (50, 1))
    assert np.array_equal(stretch(ramp), ramp)
    faint = (100 + ramp // 10).astype(np.uint8)
    assert np.ptp(faint) < LOW_CONTRAST and stretch(faint).min() == 0 and stretch(faint).max() == 255
    assert (np.diff(stretch(faint)[0].astype(int)) >= 0).all()
    plain = np.full((50, 60), 90, np.uint8)
    assert np.array_equal(stretch(plain), plain)


@both_kinds
def test_a_faint_picture_has_the_keypoints_of_the_strong_one(pictures, settings):
    faint = (pictures["astronaut"] // 12 + 90).astype(np.uint8)
    assert share_found(extract(faint, settings), extract(pictures["astronaut"], settings), pixels=3, longer_side=300, cosine=0.85) > 0.4


@both_kinds
def test_no_keypoints_are_wanted(pictures, settings):
    assert len(extract(pictures["astronaut"], replace(settings, keypoints=0))) == 0


@pytest.mark.parametrize(
    ("size_hw", "expected_hw"),
    [((400, 800), (200, 400)), ((50, 60), (100, 120)), ((201, 201), (201, 201)), ((100, 8000), (25, LONGEST)), ((1, 60_000), (1, LONGEST))],
)
def test_bring_to_size(size_hw, expected_hw):
    assert bring_to_size(np.zeros(size_hw, np.uint8), SETTINGS).shape == expected_hw


@both_kinds
def test_the_same_picture_has_the_same_keypoints_in_any_thread(pictures, settings):
    here = extract(pictures["astronaut"], settings)
    with ThreadPoolExecutor(2) as threads:  # what was found before in this thread, in memory that it uses again, is not seen
        there = list(threads.map(lambda name: extract(pictures[name], settings), ["coffee", "astronaut", "chelsea", "astronaut"]))
    assert equal(there[1], here) and equal(there[3], here) and equal(extract(pictures["astronaut"].copy(), settings), here)


@both_kinds
def test_grey_pictures_are_taken_as_they_are(pictures, settings):
    grey = cv2.cvtColor(pictures["coffee"], cv2.COLOR_RGB2GRAY)
    assert equal(extract(grey, settings), extract(pictures["coffee"], settings))


def fake(octave, response):
    return cv2.KeyPoint(1.0, 1.0, 2.0, 0.0, response, (octave & 255) | (1 << 8), -1)


def test_every_octave_takes_at_most_half_of_what_is_left():
    rng = np.random.default_rng(0)
    keypoints = [fake(octave, float(rng.random())) for octave in (-1, 0, 1) for _ in range(1000)]
    chosen = [keypoints[row] for row in choose(keypoints, 400)]
    octaves = [(k.octave + 128) % 256 - 128 for k in chosen]
    assert [octaves.count(octave) for octave in (1, 0, -1)] == [200, 100, 100]
    for octave, count in ((1, 200), (0, 100), (-1, 100)):  # and these are its strongest
        responses = sorted((k.response for k in keypoints if (k.octave + 128) % 256 - 128 == octave), reverse=True)
        assert sorted((k.response for k, o in zip(chosen, octaves, strict=True) if o == octave), reverse=True) == responses[:count]


def test_a_few_coarse_keypoints_are_all_kept():
    keypoints = [fake(3, 0.001), fake(3, 0.002), *(fake(-1, 0.5) for _ in range(500))]
    assert sorted(choose(keypoints, 100))[:2] == [0, 1]
    assert choose([], 100) == [] and len(choose(keypoints, 100)) == 100


def test_keypoints_survive_a_strong_blur(pictures):
    image = pictures["astronaut"]
    blurred = cv2.GaussianBlur(image, (0, 0), 4)
    few = SiftSettings(short_side=200, keypoints=100)
    kept, strongest = extract(image, few), strongest_only(image, few)
    there = extract(blurred, few)
    ours = share_found(kept, there, pixels=4, longer_side=360, cosine=0.85)
    theirs = share_found(strongest, there, pixels=4, longer_side=360, cosine=0.85)
    assert ours > 0.2 and ours > theirs


def strongest_only(image, settings):
    """What OpenCV keeps when it is asked for as many keypoints: the strongest of any octave."""
    grey = bring_to_size(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), settings)
    height, width = grey.shape
    sift = cv2.SIFT_create(nfeatures=settings.keypoints, contrastThreshold=settings.contrast)
    found, raw = sift.detectAndCompute(grey, None)
    points = (np.float32([k.pt for k in found]) + 0.5) / np.float32([width, height])
    sizes, angles = np.float32([k.size for k in found]), np.float32([k.angle for k in found])
    return LocalFeatures(points, sizes, angles, root_sift(raw), np.float32([width, height]) / max(width, height))
