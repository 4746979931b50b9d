import cmath
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher.geometry import apply
from matcher.models.sift import LocalFeatures
from matcher.models.similarity import ANGLE_SLACK, SIZE_SLACK, agree

TOLERANCE = 0.05


def keypoints(point, size, angle, shape_wh=(1.0, 1.0)):
    rows = np.zeros((len(point), 128), np.uint8)
    return LocalFeatures(*(np.asarray(v, dtype=np.float32) for v in (point, size, angle)), rows, np.float32(shape_wh))


def random_keypoints(count, rng, shape_wh=(1.0, 1.0)):
    return keypoints(rng.random((count, 2)), np.exp(rng.normal(-3, 0.6, count)), rng.uniform(0, 360, count), shape_wh)


def moved(query, scale, degrees, offset, shape_wh=(1.0, 1.0)):
    """The keypoints after a similarity of even units."""
    turn = scale * np.exp(1j * math.radians(degrees))
    there = turn * (query.even[:, 0] + 1j * query.even[:, 1]) + complex(*offset)
    point = np.stack([there.real, there.imag], axis=1) / shape_wh
    return keypoints(point, query.size * scale, (query.angle + degrees) % 360, shape_wh)


def slow(query, reference, pairs, weight, tolerance):
    """Support of every proposal, one match after the other; and how close any comparison came to its limit."""
    support, closest = [], math.inf
    for q, r in pairs:
        scale = reference.size[r] / query.size[q]
        turn = math.radians(reference.angle[r] - query.angle[q])
        factor = scale * cmath.exp(1j * turn)
        offset = complex(*reference.even[r]) - factor * complex(*query.even[q])
        total = 0.0
        for (q2, r2), w in zip(pairs, weight, strict=True):
            miss = abs(factor * complex(*query.even[q2]) + offset - complex(*reference.even[r2]))
            size = abs(math.log(reference.size[r2] / query.size[q2]) - math.log(scale))
            angle = math.cos(math.radians(reference.angle[r2] - query.angle[q2]) - turn)
            closest = min(closest, abs(miss - tolerance), abs(size - SIZE_SLACK), abs(angle - math.cos(ANGLE_SLACK)))
            if miss < tolerance and size < SIZE_SLACK and angle > math.cos(ANGLE_SLACK):
                total += w
        support.append(total)
    return support, closest


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000), st.integers(1, 25), st.floats(0.05, 0.4))
def test_agrees_with_a_slow_loop(seed, count, tolerance):
    rng = np.random.default_rng(seed)
    query, reference = random_keypoints(12, rng, (1.0, 0.6)), random_keypoints(15, rng, (0.8, 1.0))
    pairs = np.stack([rng.integers(0, 12, count), rng.integers(0, 15, count)], axis=1)
    weight = rng.random(count).astype(np.float32)
    found = agree(query, reference, pairs, weight, tolerance=tolerance)
    support, closest = slow(query, reference, pairs.tolist(), weight.tolist(), tolerance)
    if closest < 1e-4:  # a comparison that rounding decides
        return
    assert found.support == pytest.approx(max(support), abs=1e-4)
    assert found.support == pytest.approx(weight[found.fits].sum(), abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 100_000), st.floats(0.3, 3), st.floats(0, 360), st.floats(-1, 1), st.floats(-1, 1))
def test_finds_a_similarity_among_ninety_percent_of_wrong_matches(seed, scale, degrees, x, y):
    rng = np.random.default_rng(seed)
    right, wrong = 25, 225
    query = random_keypoints(right + wrong, rng, (1.0, 0.7))
    true = moved(query, scale, degrees, (x, y), (0.9, 1.0))
    stray = random_keypoints(right + wrong, rng, (0.9, 1.0))
    is_right = np.arange(right + wrong) < right
    reference = keypoints(
        np.where(is_right[:, None], true.point, stray.point),
        np.where(is_right, true.size, stray.size),
        np.where(is_right, true.angle, stray.angle),
        (0.9, 1.0),
    )
    pairs = np.tile(np.arange(right + wrong)[:, None], 2)
    found = agree(query, reference, pairs, np.ones(len(pairs), np.float32), tolerance=TOLERANCE)
    assert found.fits[:right].all() and found.support >= right and found.fits[right:].mean() < 0.1
    assert np.allclose(apply(found.matrix, query.even[:right]), true.even[:right], atol=1e-3)


def test_nothing_without_matches():
    some = random_keypoints(3, np.random.default_rng(0))
    none = np.empty((0, 2), np.int64)
    assert agree(some, some, none, np.empty(0, np.float32), tolerance=TOLERANCE) is None


def test_a_single_match_proposes_a_whole_similarity():
    query = keypoints([[0.5, 0.5]], [0.1], [10])
    reference = keypoints([[0.2, 0.4]], [0.2], [100])
    found = agree(query, reference, np.array([[0, 0]]), np.float32([0.7]), tolerance=TOLERANCE)
    assert found.support == pytest.approx(0.7) and found.fits.tolist() == [True]
    assert np.allclose(apply(found.matrix, [[0.5, 0.5], [0.6, 0.5]]), [[0.2, 0.4], [0.2, 0.6]], atol=1e-6)  # twice as large, turned by 90


@pytest.mark.parametrize("change", ["size", "angle"])
def test_size_and_angle_have_a_say(change):
    rng = np.random.default_rng(0)
    query = random_keypoints(10, rng)
    reference = keypoints(query.point, query.size * (3 if change == "size" else 1), query.angle + (90 if change == "angle" else 0))
    mixed = keypoints(*(np.concatenate([getattr(query, n)[:6], getattr(reference, n)[6:]]) for n in ("point", "size", "angle")))
    pairs = np.tile(np.arange(10)[:, None], 2)
    found = agree(query, mixed, pairs, np.ones(10, np.float32), tolerance=TOLERANCE)
    assert found.fits.tolist() == [True] * 6 + [False] * 4  # the points of all fit the identity


def test_angles_are_compared_around_the_circle():
    query = keypoints([[0.2, 0.2], [0.8, 0.8]], [0.1, 0.1], [1, 359])
    reference = keypoints([[0.2, 0.2], [0.8, 0.8]], [0.1, 0.1], [359, 1])
    pairs = np.array([[0, 0], [1, 1]])
    assert agree(query, reference, pairs, np.ones(2, np.float32), tolerance=0.1).fits.all()
