import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from matcher.features import pixel_key, thumbnail
from matcher.scoring.identical import could_be_untouched, excess, is_identical, is_untouched
from matcher.types import Pictures


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
    return could_be_untouched(a, b) and is_untouched(first, second)


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
    assert excess(described(square), described(wide)) < 3 and not could_be_untouched(described(square), described(wide))


def page(text, size):
    image = Image.new("RGB", (800, 1100), "white")
    ImageDraw.Draw(image).text((80, 80), text, fill="black", font=ImageFont.load_default(size))
    return np.asarray(image)


@pytest.mark.parametrize("size", [12, 20, 40])
def test_pages_with_few_words_are_told_apart(size):
    invoice = page("Invoice 4711", size)
    assert untouched(resaved(invoice, 30), invoice) and untouched(resized(invoice, 0.6), invoice)
    assert not untouched(invoice, page("Receipt 0815", size)) and not untouched(invoice, page("", size))


@pytest.mark.parametrize("radius", [4, 8, 16])
def test_a_small_disc_is_where_it_is(radius):
    def disc(x, y):
        image = np.zeros((600, 800, 3), np.uint8)
        image[np.hypot(*(np.mgrid[:600, :800] - np.array([y, x])[:, None, None])) < radius] = 255
        return image

    assert untouched(resaved(disc(400, 200)), disc(400, 200))
    assert not untouched(disc(400, 200), disc(100, 500)) and not untouched(disc(400, 200), np.zeros((600, 800, 3), np.uint8))


def test_pictures_of_one_colour_are_the_same_within_what_saving_changes():
    plain = np.full((100, 150, 3), 120, np.uint8)
    assert untouched(resaved(plain), plain) and untouched(resized(plain, 2), plain)
    assert could_be_untouched(described(plain), described(plain + 3)) and not untouched(plain + 3, plain)


@pytest.mark.parametrize("side", [24, 48])
def test_very_small_pictures_are_found_again(pictures, side):
    for name in ("astronaut", "coffee", "rocket"):
        small = resized(pictures[name], side / max(pictures[name].shape))
        assert untouched(resaved(small, 60), small) and untouched(pictures[name], small)


def test_the_same_thumbnail_of_other_pixels_is_not_enough(pictures):
    rng = np.random.default_rng(0)
    first, second = (np.clip(128 + rng.normal(0, 40, (160, 160, 1)), 0, 255).astype(np.uint8).repeat(3, axis=2) for _ in range(2))
    a, b = described(first), described(first, "other", pixel_key=[pixel_key(second)])  # thumbnails equal, as those of fine noise may be
    assert could_be_untouched(a, b) and not is_untouched(first, second)


def texture(seed):
    noise = np.random.default_rng(seed).normal(128, 40, (320, 320, 1)).clip(0, 255)
    return noise.astype(np.uint8).repeat(3, axis=2)


def test_a_sticker_on_a_tenth_of_a_texture_shows():
    image = texture(0)
    stuck = image.copy()
    stuck[100:200, 100:200] = 128
    assert is_untouched(resaved(image), image) and not is_untouched(stuck, image) and not is_untouched(image, stuck)


def test_another_picture_that_shines_through_everywhere_shows():
    image = texture(0)
    blend = (0.6 * image + 0.4 * texture(1)).astype(np.uint8)
    assert is_untouched(resaved(image), image) and not is_untouched(blend, image) and not is_untouched(image, blend)
