import io

import numpy as np
import pytest
from PIL import Image

from matcher.features import pixel_key, thumbnail
from matcher.scoring.identical import could_be_untouched, distance, is_identical, is_untouched
from matcher.types import Pictures

SIDE = 96


def described(image, file_key="a file", **changed):
    columns = {
        "id": ["p"],
        "path": ["p"],
        "width": [image.shape[1]],
        "height": [image.shape[0]],
        "file_key": [file_key],
        "pixel_key": [pixel_key(image)],
        "thumbnail": [thumbnail(image)],
        "keypoints": [0],
    }
    return Pictures(**columns | changed)


def resaved(image, quality=60):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def resized(image, scale):
    height, width = image.shape[:2]
    return np.asarray(Image.fromarray(image).resize((round(width * scale), round(height * scale)), Image.Resampling.LANCZOS))


def untouched(first, second):
    a, b = described(first, "one"), described(second, "other")
    return could_be_untouched(a, b) and is_untouched(a, b, (first, second), side=SIDE)


def test_identical_by_file_or_by_pixels(pictures):
    image, other = pictures["coffee"], pictures["chelsea"]
    assert is_identical(described(image, "one"), described(image, "other"))
    assert is_identical(described(image, "one"), described(other, "one"))
    assert not is_identical(described(image, "one"), described(other, "other"))
    changed = image.copy()
    changed[0, 0] ^= 1
    assert not is_identical(described(image, "one"), described(changed, "other"))


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "coins"])
def test_resaved_and_resized_pictures_are_untouched(pictures, name):
    image = pictures[name]
    for edited in (image, resaved(image), resized(image, 0.5), resized(image, 2), resaved(resized(image, 0.7), 80)):
        assert untouched(edited, image) and untouched(image, edited)


def test_edited_pictures_are_not(pictures):
    image = pictures["coffee"]
    height, width = image.shape[:2]
    pasted = image.copy()
    pasted[height // 4 : height * 3 // 4, width // 4 : width * 3 // 4] = 255
    crop = resized(image[height // 10 : height * 9 // 10, width // 10 : width * 9 // 10], 1.25)
    for edited in (image[:, ::-1], image[::-1], pasted, crop, image // 2, pictures["chelsea"], image[:, : width * 9 // 10]):
        assert not untouched(np.ascontiguousarray(edited), image)


def test_the_shape_counts_where_thumbnails_do_not(pictures):
    square, wide = resized(pictures["coffee"], 0.5), np.asarray(Image.fromarray(pictures["coffee"]).resize((200, 100)))
    assert distance(described(square), described(wide)) < 3 and not could_be_untouched(described(square), described(wide))


def test_pictures_without_texture_must_be_closer_still():
    plain = np.full((100, 150, 3), 120, np.uint8)
    assert untouched(resaved(plain), plain) and untouched(resized(plain, 2), plain)
    assert could_be_untouched(described(plain), described(plain + 2)) and not untouched(plain + 2, plain)


def test_the_same_thumbnail_of_other_pixels_is_not_enough(pictures):
    rng = np.random.default_rng(0)
    first, second = (np.clip(128 + rng.normal(0, 40, (160, 160, 1)), 0, 255).astype(np.uint8).repeat(3, axis=2) for _ in range(2))
    a, b = described(first), described(first, "other", pixel_key=[pixel_key(second)])  # thumbnails equal, as those of fine noise may be
    assert could_be_untouched(a, b) and not is_untouched(a, b, (first, second), side=160)


def test_distance_is_a_root_mean_square():
    dark, light = np.full((20, 20, 3), 10, np.uint8), np.full((20, 20, 3), 14, np.uint8)
    assert distance(described(dark), described(light)) == pytest.approx(4) == distance(described(light), described(dark))
    assert distance(described(dark), described(dark)) == 0
