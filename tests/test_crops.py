import numpy as np
import pytest
from PIL import Image

from matcher.crops import CropSet, describe_crop, describe_crops, lift, on_pixels
from matcher.errors import ImageError, MatcherError
from matcher.features import FeatureSet, join, pixel_key, thumbnail
from matcher.geometry import apply, from_box, invert
from matcher.images.table import ImageSet
from matcher.models.sift import LocalFeatures, extract
from matcher.scoring.matching import match
from matcher.scoring.nearest import nearest_two
from matcher.scoring.sift import frame_of
from matcher.settings import BoxRules, ImageSettings, SiftScorerSettings, SiftSettings
from matcher.types import Keypoints, Pictures, Views

SIFT = SiftSettings(short_side=200, keypoints=250, enlarge=1)
BOX = 80, 40, 280, 190  # left, top, right, bottom, in pixels of a canvas of 400 x 300

NONE = LocalFeatures(*(np.empty(s, np.float32) for s in ((0, 2), 0, 0)), np.empty((0, 128), np.uint8), np.float32([1, 0.75]))


class Finder:
    """A detector that finds the same in every picture: boxes in pixels, with their classes and confidences."""

    def __init__(self, *found):
        self.found = found

    def detect(self, pixels, *, threshold=0.25):
        height, width = pixels.shape[:2]
        boxes = np.array([np.divide(box, (width, height, width, height)) for box, _, _ in self.found]).reshape(-1, 4)
        return boxes, np.array([number for _, number, _ in self.found]), np.array([sure for _, _, sure in self.found])


FINDER = Finder(((0, 0, 60, 60), 0, 0.4), (BOX, 0, 0.9), ((300, 10, 380, 90), 1, 0.95))  # the last one is a sticker


@pytest.fixture(scope="module")
def canvas(pictures):
    """A picture of 400 x 300 with a part of another one pasted into BOX."""
    made = np.ascontiguousarray(np.resize(pictures["coins"], (300, 400, 3)))
    made[BOX[1] : BOX[3], BOX[0] : BOX[2]] = pictures["chelsea"][20:170, 60:260]
    return made


@pytest.fixture
def saved(canvas, tmp_path):
    Image.fromarray(canvas).save(tmp_path / "canvas.png")
    return str(tmp_path / "canvas.png")


def describe(path, detector=FINDER, settings=SIFT):
    return describe_crop("canvas", path, settings, rules=BoxRules(), image_settings=ImageSettings(), detector=detector)


def side_of(images, found):
    names = list(images)
    sizes = [(image.shape[1], image.shape[0]) for image in images.values()]
    made = Pictures(
        id=names,
        path=names,
        width=[w for w, _ in sizes],
        height=[h for _, h in sizes],
        file_key=names,
        pixel_key=[pixel_key(image) for image in images.values()],
        thumbnail=[thumbnail(image) for image in images.values()],
        keypoints=[len(features) for features in found],
    )
    return FeatureSet(made, join(names, found))


def test_the_most_certain_pasted_picture_is_described_at_its_own_resolution(canvas, saved):
    view, found = describe(saved)
    assert view.image_id.tolist() == ["canvas"] and view.confidence[0] == np.float32(0.9)
    left, top, right, bottom = BOX
    alone = extract(np.ascontiguousarray(canvas[top:bottom, left:right]), SIFT)
    assert len(found) == len(alone) > 100 and np.array_equal(found.rows, alone.rows) and np.array_equal(found.angle, alone.angle)
    assert np.allclose(found.point * (400, 300), alone.point * (right - left, bottom - top) + (left, top), atol=1e-3)
    assert np.allclose(found.size * 400, alone.size * 200, atol=1e-3) and np.allclose(found.shape_wh, (1, 0.75))


def test_what_is_found_by_a_crop_lies_in_the_whole_picture(pictures, saved):
    _, found = describe(saved)
    reference = extract(pictures["chelsea"], SIFT)
    frame = frame_of(match(found, reference, nearest_two(found, [reference])[0], SiftScorerSettings()), found, reference)
    height, width = pictures["chelsea"].shape[:2]
    pasted = from_box(BOX[0] / 400, BOX[1] / 300, BOX[2] / 400, BOX[3] / 300)
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    there = np.array([[60, 20], [260, 20], [260, 170], [60, 170]]) / (width, height)
    assert np.abs(apply(frame, apply(pasted, corners)) - there).max() < 0.01


def test_a_picture_without_a_pasted_one_has_no_crop(saved):
    assert describe(saved, Finder()) is None
    assert describe(saved, Finder((BOX, 1, 0.9))) is None  # a sticker
    assert describe(saved, Finder(((0, 0, 400, 300), 0, 0.9))) is None  # the whole picture


@pytest.mark.parametrize(
    ("box", "pixels"),
    [((0.2, 0.2, 0.5, 0.9), (8, 6, 20, 27)), ((0.21, 0.21, 0.49, 0.89), (8, 6, 20, 27)), ((0.999, 0.0, 1.0, 0.001), (39, 0, 40, 1))],
)
def test_boxes_grow_to_whole_pixels(box, pixels):
    frame, size_hw = on_pixels(from_box(*box), np.zeros((30, 40, 3), np.uint8))
    left, top, right, bottom = pixels
    assert np.allclose(frame, from_box(left / 40, top / 30, right / 40, bottom / 30)) and size_hw == (bottom - top, right - left)


def test_lift_agrees_with_a_keypoint_by_hand(canvas):
    frame = from_box(0.5, 0.5, 0.75, 1.0)  # 100 x 150 of 400 x 300 pixels
    alone = extract(np.ascontiguousarray(canvas[150:300, 200:300]), SIFT)
    found = lift(alone, frame, canvas)
    assert np.allclose(apply(invert(frame), found.point), alone.point, atol=1e-5)
    assert np.allclose(found.size * 400, alone.size * 150, atol=1e-3)


def test_bad_pictures_and_those_without_a_crop_lose_no_other(canvas, saved, tmp_path):
    class Seldom(Finder):
        def detect(self, pixels, *, threshold=0.25):
            return super().detect(pixels) if pixels[0, 0, 0] == canvas[0, 0, 0] else Finder().detect(pixels)

    Image.fromarray(255 - canvas).save(tmp_path / "none.png")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    ids = ["bad", "none", "canvas"]
    images = ImageSet(id=ids, path=[str(tmp_path / f"{id_}.png") for id_ in ids], bytes=[1] * 3, mtime_ns=[1] * 3)
    views, keypoints = describe_crops(images, SIFT, rules=BoxRules(), image_settings=ImageSettings(), detector=Seldom(*FINDER.found))
    assert views.image_id.tolist() == ["canvas"] and set(keypoints.image_id.tolist()) == {"canvas"}
    with pytest.raises(ImageError):
        describe(str(tmp_path / "bad.png"))
    none = ImageSet(id=["bad"], path=[str(tmp_path / "bad.png")], bytes=[1], mtime_ns=[1])
    assert [len(made) for made in describe_crops(none, SIFT, rules=BoxRules(), image_settings=ImageSettings(), detector=FINDER)] == [0, 0]


def test_a_crop_set_gives_each_picture_its_own(pictures, saved):
    side = side_of(
        {**pictures, "canvas": np.zeros((300, 400, 3), np.uint8)}, [extract(image, SIFT) for image in pictures.values()] + [NONE]
    )
    view, found = describe(saved)
    plain = Views(image_id=["coffee"], frame=from_box(0, 0, 0.5, 0.5)[None], kind=["overlay"], confidence=[0.5])
    crops = CropSet(side, Views.concat([plain, view]), join(["canvas"], [found]))
    assert set(crops.frame) == {side.number["coffee"], side.number["canvas"]}
    again = crops.features(side.number["canvas"])
    for name in ("point", "size", "angle", "rows", "shape_wh"):
        assert np.array_equal(getattr(again, name), getattr(found, name))
    assert crops.features(side.number["coffee"]) is None and crops.features(side.number["rocket"]) is None
    with pytest.raises(MatcherError, match="the crop of 'stranger' does not belong to these 7 pictures"):
        CropSet(side, Views(image_id=["stranger"], frame=np.eye(3)[None], kind=["overlay"], confidence=[1]), Keypoints.empty())
