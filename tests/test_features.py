import hashlib

import numpy as np
import pytest
from PIL import Image

from matcher import features as features_room
from matcher.errors import MatcherError
from matcher.features import FeatureSet, describe_pictures, fingerprint, pixel_key, thumbnail
from matcher.images.table import ImageSet
from matcher.models.sift import extract
from matcher.settings import ImageSettings, SiftSettings
from matcher.types import Keypoints, Pictures

SETTINGS = SiftSettings(short_side=100, keypoints=60)
SIZES = {"a": (90, 120), "b": (150, 100), "plain": (80, 80), "z": (100, 100)}


def draw(name, height, width):
    if name == "plain":
        return np.full((height, width, 3), 200, np.uint8)
    coarse = np.random.default_rng(ord(name)).integers(0, 256, (height // 6, width // 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("pictures")
    for name, size in SIZES.items():
        Image.fromarray(draw(name, *size)).save(place / f"{name}.png")
    (place / "torn.png").write_bytes((place / "a.png").read_bytes()[:300])
    (place / "words.png").write_text("this is no picture at all, only words")
    return place


def images(folder, names):
    paths = [str(folder / f"{name}.png") for name in names]
    return ImageSet(id=names, path=paths, bytes=np.ones(len(names)), mtime_ns=np.ones(len(names)))


def describe(folder, names, settings=SETTINGS, image_settings=None, **options):
    return describe_pictures(images(folder, names), settings, image_settings=image_settings or ImageSettings(), stage="queries", **options)


def equal(first, second):
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name, _, _ in first.columns())


def test_good_and_bad_pictures(folder):
    pictures, keypoints, errors = describe(folder, ["a", "torn", "plain", "words", "gone", "b"])
    assert pictures.id.tolist() == ["a", "plain", "b"] and pictures.path.tolist() == [str(folder / f"{n}.png") for n in ("a", "plain", "b")]
    assert errors.id.tolist() == ["torn", "words", "gone"] and errors.code.tolist() == ["truncated", "unsupported", "missing"]
    assert set(errors.stage.tolist()) == {"queries"} and all(errors.message.tolist())
    assert list(zip(pictures.height.tolist(), pictures.width.tolist(), strict=True)) == [SIZES[name] for name in ("a", "plain", "b")]
    assert pictures.keypoints[0] > 20 and pictures.keypoints[1] == 0 and pictures.keypoints.sum() == len(keypoints)
    assert [(keypoints.image_id == name).sum() for name in ("a", "plain", "b")] == pictures.keypoints.tolist()


def test_what_is_known_of_a_picture(folder):
    pictures, keypoints, _ = describe(folder, ["b"])
    image = draw("b", *SIZES["b"])
    assert pictures.file_key[0] == hashlib.sha256((folder / "b.png").read_bytes()).hexdigest()
    assert pictures.pixel_key[0] == pixel_key(image) and np.array_equal(pictures.thumbnail[0], thumbnail(image))
    assert np.array_equal(keypoints.rows, extract(image, SETTINGS).rows)


def test_pixel_keys_tell_pictures_apart_and_files_not(folder, tmp_path):
    image = draw("z", 100, 100)
    Image.fromarray(image).save(tmp_path / "z.png", compress_level=1)
    (first, _, _), (second, _, _) = describe(folder, ["z"]), describe(tmp_path, ["z"])
    assert first.pixel_key[0] == second.pixel_key[0] and first.file_key[0] != second.file_key[0]
    assert pixel_key(image.reshape(50, 200, 3)) != pixel_key(image)  # the same bytes in another shape


def test_thumbnail_agrees_with_a_slow_loop():
    image = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    slow = [image[2 * y : 2 * y + 2, 4 * x : 4 * x + 4].reshape(-1, 3).mean(axis=0) for y in range(16) for x in range(16)]
    assert np.abs(thumbnail(image).astype(float) - np.ravel(slow)).max() <= 1


def test_nothing_and_nothing_good(folder):
    for names in ([], ["words"]):
        pictures, keypoints, errors = describe(folder, names)
        assert len(pictures) == len(keypoints) == 0 and len(errors) == len(names)


def test_a_cached_description_is_the_same(folder, tmp_path, monkeypatch):
    names = ["a", "plain", "torn", "b"]
    plain, first = describe(folder, names), describe(folder, names, cache=tmp_path / "cache")
    kept = sorted((tmp_path / "cache").rglob("*.npz"))
    assert len(kept) == 3 and all(kept_name.parent.name == kept_name.name[:2] for kept_name in kept)
    monkeypatch.setattr(features_room, "extract", lambda *_: pytest.fail("the cache was not used"))
    again = describe(folder, names, cache=tmp_path / "cache")
    for left, middle, right in zip(plain, first, again, strict=True):
        assert equal(left, middle) and equal(left, right)


def test_other_settings_do_not_share_a_cache(folder, tmp_path):
    plain = fingerprint(SETTINGS, ImageSettings())
    assert plain == fingerprint(SETTINGS, ImageSettings())
    assert plain != fingerprint(SiftSettings(short_side=100, keypoints=61), ImageSettings())
    assert plain != fingerprint(SETTINGS, ImageSettings(max_pixels=1000))
    describe(folder, ["a"], cache=tmp_path)
    few = describe(folder, ["a"], SiftSettings(short_side=100, keypoints=10), cache=tmp_path)
    assert len(few[1]) <= 10 and len(list(tmp_path.rglob("*.npz"))) == 2


def damages(data):
    yield "empty", b""
    yield "words", b"no such thing"
    yield from ((f"cut at {share}", data[: int(len(data) * share)]) for share in (0.01, 0.3, 0.9, 0.999))
    yield "another npz", None
    rng = np.random.default_rng(0)
    for place in (*rng.integers(0, len(data), 24).tolist(), *range(0, 40, 2), *range(len(data) - 24, len(data), 2)):
        yield f"byte {place}", data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def test_a_damaged_cache_file_is_made_again(folder, tmp_path):
    small = SiftSettings(short_side=60, enlarge=1, keypoints=20)
    whole = describe(folder, ["a"], small, cache=tmp_path)
    (kept,) = tmp_path.rglob("*.npz")
    data = kept.read_bytes()
    for what, damaged in damages(data):
        if damaged is None:
            np.savez(kept, other=np.zeros(3))
        else:
            kept.write_bytes(damaged)
        again = describe(folder, ["a"], small, cache=tmp_path)
        assert all(equal(left, right) for left, right in zip(whole, again, strict=True)), what
    assert kept.stat().st_size == len(data)


def test_a_cache_that_cannot_be_written_is_an_error(folder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MatcherError, match=r"cannot write the cache .*; choose another --cache"):
        describe(folder, ["a"], cache=tmp_path / "file")


def test_feature_sets_give_back_what_was_extracted(folder):
    pictures, keypoints, _ = describe(folder, ["plain", "a", "b"])
    found = FeatureSet(pictures, keypoints)
    assert len(found) == 3 and found.number == {"plain": 0, "a": 1, "b": 2}
    for number, name in enumerate(["plain", "a", "b"]):
        original, ours = extract(draw(name, *SIZES[name]), SETTINGS), found.features(number)
        for column in ("point", "size", "angle", "rows", "shape_wh"):
            assert np.array_equal(getattr(ours, column), getattr(original, column)), column


def test_owners_skip_pictures_without_keypoints(folder):
    pictures, keypoints, _ = describe(folder, ["plain", "a", "b"])
    twice = Pictures.concat([pictures, Pictures(**{n: getattr(pictures, n) for n, _, _ in Pictures.columns()} | {"id": ["p", "c", "d"]})])
    found = FeatureSet(twice, Keypoints.concat([keypoints, keypoints]))
    slow = np.repeat(np.arange(6), twice.keypoints)
    assert np.array_equal(found.owner(np.arange(len(slow))), slow) and set(slow.tolist()) == {1, 2, 4, 5}


def test_keypoints_of_other_pictures_are_refused(folder):
    pictures, keypoints, _ = describe(folder, ["a", "b"])
    with pytest.raises(MatcherError, match="keypoints do not belong to these 2 pictures"):
        FeatureSet(pictures, keypoints.take(slice(1, None)))
    with pytest.raises(MatcherError, match="do not belong to these 1 pictures"):
        FeatureSet(pictures.take([0]), keypoints)


def test_an_empty_feature_set():
    found = FeatureSet(Pictures.empty(), Keypoints.empty())
    assert len(found) == 0 and found.owner(np.empty(0, np.int64)).shape == (0,) and found.shape_wh.shape == (0, 2)
