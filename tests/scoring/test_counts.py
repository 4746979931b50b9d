import numpy as np
import pytest

from matcher.models.sift import MIRROR, LocalFeatures, extract
from matcher.scoring.counts import cells, count_matches, find_matches, judge
from matcher.settings import MatchCountSettings, SiftSettings

SETTINGS = MatchCountSettings()


def features(rows, points=None, shape_wh=(1.0, 0.75)):
    rows = np.asarray(rows, dtype=np.uint8)
    points = np.random.default_rng(len(rows)).random((len(rows), 2)) if points is None else points
    blank = np.ones(len(rows), np.float32)
    return LocalFeatures(np.asarray(points, dtype=np.float32), blank, blank, rows, np.float32(shape_wh))


def rows(count, seed):
    """Unlike RootSIFT rows: non-negative, of norm 255 or so."""
    raw = np.random.default_rng(seed).random((count, 128)) ** 4
    return np.round(255 * np.sqrt(raw / raw.sum(axis=1, keepdims=True))).astype(np.uint8)


def shaken(some, seed, strength=12):
    noise = np.random.default_rng(seed).integers(-strength, strength + 1, some.shape)
    return np.clip(some.astype(int) + noise, 0, 255).astype(np.uint8)


def slow(query, reference, settings):
    """One loop over everything."""
    counts = []
    for side in (query.rows, query.rows[:, MIRROR]):
        found = []
        for r, row in enumerate(reference.rows.astype(int)):
            squared = sorted((int(((row - other) ** 2).sum()), q) for q, other in enumerate(side.astype(int)))
            if len(squared) > 1 and settings.distinct * squared[0][0] < squared[1][0]:
                found.append((squared[0][0], r, squared[0][1]))
        seen, kept = set(), set()
        for _, r, q in sorted(found):
            if (place := tuple(np.round(reference.even[r] * settings.cells))) not in seen:
                seen.add(place)
                kept.add(tuple(np.round(query.even[q] * settings.cells)))
        counts.append(len(kept))
    return max(counts)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("coarse", [400, 6])
@pytest.mark.parametrize("mirrored", [False, True])
def test_counts_agree_with_a_slow_loop(seed, coarse, mirrored):
    rng = np.random.default_rng(seed)
    reference = features(rows(40, seed), rng.random((40, 2)))
    common = shaken(reference.rows[rng.permutation(40)[:25]], seed)
    query = features(np.concatenate([common[:, MIRROR] if mirrored else common, rows(30, seed + 100)]), rng.random((55, 2)))
    settings = MatchCountSettings(cells=coarse, distinct=1.8 if seed % 2 else 1.3)
    assert count_matches(query, reference, settings) == slow(query, reference, settings) > 5


def test_the_ratio_is_one_of_squared_distances():
    reference = np.zeros((1, 128), np.uint8)
    near = np.zeros((2, 128), np.uint8)
    near[0, 0], near[1, 0] = 10, 13  # 100 and 169 squared
    assert len(find_matches(near, reference, 1.6)[0]) == 1 and len(find_matches(near, reference, 1.69)[0]) == 0
    assert len(find_matches(near, reference, 1.8)[0]) == 0
    near[1, 0] = 14
    assert [column.tolist() for column in find_matches(near, reference, 1.8)] == [[0], [0]]
    assert len(find_matches(np.zeros((2, 128), np.uint8), reference, 1.8)[0]) == 0  # two equal neighbours tell nothing


def test_a_place_counts_once():
    some = rows(6, 1)
    apart = np.linspace(0.1, 0.9, 12).reshape(6, 2)
    together = np.tile([[0.5, 0.5]], (6, 1)) + np.linspace(0, 0.0005, 6)[:, None]
    assert count_matches(features(some, apart), features(some, apart), SETTINGS) == 6
    assert count_matches(features(some, together), features(some, apart), SETTINGS) == 1
    assert count_matches(features(some, apart), features(some, together), SETTINGS) == 1
    shape = features(some, apart, shape_wh=(1.0, 0.5))
    assert cells(shape, 10).tolist() == [round(float(x) * 10) * (1 << 20) + round(float(y) * 5) for x, y in shape.point]


@pytest.mark.parametrize(("query", "reference"), [(0, 5), (1, 5), (5, 0), (0, 0)])
def test_too_few_keypoints_match_nothing(query, reference):
    assert judge([features(rows(query, 1))], features(rows(reference, 1)), SETTINGS) == {"match_count": 0.0}


def test_looks_are_summed_and_copies_beat_strangers(pictures):
    sift = SiftSettings(short_side=200, keypoints=250)
    reference = extract(pictures["chelsea"], sift)
    crop = extract(np.ascontiguousarray(pictures["chelsea"][30:200, 80:300]), sift)
    flipped = extract(np.ascontiguousarray(pictures["chelsea"][:, ::-1]), sift)
    stranger = extract(pictures["coffee"], sift)
    counts = {
        name: judge(looks, reference, SETTINGS)["match_count"]
        for name, looks in {"crop": [crop], "flipped": [flipped], "stranger": [stranger], "both": [stranger, crop]}.items()
    }
    assert counts["crop"] > 40 and counts["flipped"] > 80 and counts["stranger"] < 8
    assert counts["both"] == counts["stranger"] + counts["crop"]
