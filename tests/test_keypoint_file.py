"""Keypoints read one picture at a time are those that were written."""

import pickle

import numpy as np
import pytest

from matcher.errors import MatcherError
from matcher.features import FeatureSet, join
from matcher.keypoint_file import FeatureShard, KeypointFile, StoredFeatures, write_keypoints
from matcher.models.sift import LocalFeatures
from matcher.types import Pictures

COUNTS = np.array([3, 0, 5, 1, 0])


def made(seed):
    """Five pictures and their keypoints."""
    rng, names = np.random.default_rng(seed), [f"{seed} {n}" for n in range(5)]
    columns = {name: names for name in ("id", "path", "file_key", "pixel_key")} | {"width": [40, 9, 30, 7, 8], "height": [20, 9, 60, 7, 8]}
    found = [
        LocalFeatures(
            rng.random((count, 2), np.float32),
            rng.random(count, np.float32),
            rng.random(count, np.float32),
            rng.integers(0, 256, (count, 128)).astype(np.uint8),
            np.ones(2, np.float32),
        )
        for count in COUNTS
    ]
    return Pictures(**columns, thumbnail=np.zeros((5, 768), np.uint8), keypoints=COUNTS), join(names, found)


def equal(first, second):
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ("point", "size", "angle", "rows", "shape_wh"))


def write(path, keypoints):
    write_keypoints(path, [keypoints.take(slice(0, 8)), keypoints.take(slice(8, None))], COUNTS)
    return KeypointFile(path, COUNTS)


def test_a_stored_set_is_the_set_itself(tmp_path):
    shards, kept = [made(0), made(1)], np.array([True, True, False, True, True])
    files = [write(tmp_path / str(n), keypoints) for n, (_, keypoints) in enumerate(shards)]
    masks = [kept, np.ones(5, dtype=bool)]
    stored = StoredFeatures([FeatureShard(pictures, mask, file) for (pictures, _), mask, file in zip(shards, masks, files, strict=True)])
    assert stored.pictures.id.tolist() == ["0 0", "0 1", "0 3", "0 4", *(f"1 {n}" for n in range(5))]
    whole, sent = [FeatureSet(*shard) for shard in shards], pickle.loads(pickle.dumps(stored))  # as an engine sends it
    for n, id_ in enumerate(stored.pictures.id.tolist()):
        shard, number = map(int, id_.split())
        assert equal(stored.features(n), whole[shard].features(number)) and equal(sent.features(n), stored.features(n))
    assert [place.tolist() for place in stored.places()] == [[0, 3, -1, 3, 4], [4, 7, 7, 12, 13]]
    assert stored.owner(np.array([2, 3, 4, 12])).tolist() == [0, 2, 4, 7]


def test_damage_is_found_in_the_picture_that_has_it(tmp_path):
    _, keypoints = made(0)
    write(tmp_path / "k", keypoints)
    data = bytearray((tmp_path / "k").read_bytes())
    data[3 * 144 + 2 * 4 + 700] ^= 4
    (tmp_path / "k").write_bytes(data)
    file = KeypointFile(tmp_path / "k", COUNTS)
    assert len(file.read(0)) == 3 and len(file.read(3)) == 1
    with pytest.raises(MatcherError, match="damaged at picture 2"):
        file.read(2)
    (tmp_path / "k").write_bytes(data[:-1])
    for wrong in (tmp_path / "k", tmp_path / "none"):
        with pytest.raises(MatcherError, match=r"damaged|cannot read"):
            KeypointFile(wrong, COUNTS)


@pytest.mark.parametrize("counts", [[3, 5], [3, 0, 5, 1, 0, 2], [3, 0, 5, 2]])
def test_keypoints_of_other_pictures_are_refused(counts, tmp_path):
    keypoints = made(0)[1]
    with pytest.raises(MatcherError, match="describe them again"):
        write_keypoints(tmp_path / "k", [keypoints], np.array(counts))
    assert not list(tmp_path.iterdir())
