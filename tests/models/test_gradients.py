import cv2
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from matcher.models.corners import find, pyramid
from matcher.models.gradients import BORDER, CAP, SIDE, describe, histograms, lay_out, patch_tables, product, turns


def grey(picture, size=(260, 200)):
    return cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)


def cone(angle, size=61):
    """A picture that gets brighter towards a place 20 pixels from its middle, in this direction (radians, clockwise from the x axis)."""
    y, x = np.mgrid[:size, :size] - size // 2
    return np.clip(230 - 3 * np.hypot(x - 20 * np.cos(angle), y - 20 * np.sin(angle)), 0, 255).astype(np.uint8)


def cosine(first, second):
    return float((first * second).sum() / np.linalg.norm(first) / np.linalg.norm(second))


@pytest.mark.parametrize("degrees", range(0, 360, 25))
def test_the_angle_is_where_gradients_point(degrees):
    found = turns(cone(np.deg2rad(degrees)), np.array([[30, 30]], np.float32))[0]
    assert np.cos(found - np.deg2rad(degrees)) > np.cos(np.deg2rad(6))  # smooth slopes on a grid of pixels fill few bins


def test_a_descriptor_agrees_with_a_slow_loop():
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8), (5, 5), 0)
    place, angle = (31.3, 30.8), 0.4
    slow = np.zeros((4, 4, 8))
    beside = np.arange(SIDE) - (SIDE - 1) / 2
    x = place[0] + np.cos(angle) * beside - np.sin(angle) * beside[:, None]
    y = place[1] + np.sin(angle) * beside + np.cos(angle) * beside[:, None]
    patch = cv2.remap(image, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR).astype(float)
    for row in range(1, SIDE - 1):
        for column in range(1, SIDE - 1):
            gradient = np.array([patch[row, column + 1] - patch[row, column - 1], patch[row + 1, column] - patch[row - 1, column]])
            at = np.array([beside[row], beside[column]]) / (SIDE - 2) * 4
            weight = np.exp(-(at**2).sum() / 8)
            for direction in range(8):
                axis = np.array([np.cos(direction * np.pi / 4), np.sin(direction * np.pi / 4)])
                projection = max(gradient @ axis, 0)
                near = [np.maximum(1 - np.abs(value - (np.arange(4) - 1.5)), 0) for value in at]
                slow[:, :, direction] += weight * np.outer(*near) * projection**3 / max((gradient**2).sum(), 1e-9)
    slow = slow.ravel()
    slow = np.minimum(slow, CAP * np.linalg.norm(slow))
    found = histograms(image, np.array([place], np.float32), np.array([angle], np.float32))[0]
    assert np.allclose(found, slow, rtol=2e-3, atol=1e-3 * slow.max())


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_quarter_turn_turns_the_angles_and_keeps_the_descriptors(pictures, quarters):
    image = grey(pictures["coffee"])
    places = np.array([(70.0, 80.0), (120.0, 90.0), (150.0, 60.0), (90.0, 120.0)], np.float32)
    angles, rows = describe([image], places, np.zeros(4, np.int64))
    turned = np.ascontiguousarray(np.rot90(image, -quarters))  # clockwise
    there = places.copy()
    height, width = image.shape
    for _ in range(quarters):
        there, (height, width) = np.stack([height - 1 - there[:, 1], there[:, 0]], axis=1), (width, height)
    angles_there, rows_there = describe([turned], there, np.zeros(4, np.int64))
    assert (np.cos(angles_there - angles - quarters * np.pi / 2) > 0.999).all()
    assert all(cosine(*pair) > 0.99 for pair in zip(rows, rows_there, strict=True))


def test_brightness_and_contrast_change_no_direction(pictures):
    image = grey(pictures["chelsea"])
    paler = (image // 2 + 60).astype(np.uint8)
    points, of_level = find(pyramid(image), 60)
    first, second = (describe(pyramid(one), points, of_level)[1] for one in (image, paler))
    assert np.median([cosine(*pair) for pair in zip(first, second, strict=True)]) > 0.97


def test_levels_lie_apart_and_repeat_their_edges(pictures):
    levels = pyramid(grey(pictures["rocket"]))
    atlas = lay_out(levels)
    for level, top in zip(levels, atlas.top, strict=True):
        smooth = cv2.GaussianBlur(level, (3, 3), 0)
        height, width = level.shape
        assert np.array_equal(atlas.image[top : top + height, BORDER : BORDER + width], smooth)
        assert (atlas.image[top - BORDER : top, BORDER : BORDER + width] == smooth[0]).all()
        assert (atlas.image[top : top + height, BORDER + width : 2 * BORDER + width] == smooth[:, -1:]).all()


def test_the_patch_of_no_corner_leaves_the_border_of_its_level():
    reach = (SIDE - 1) / 2 * np.sqrt(2) + 1  # the corner of a turned patch, and the pixel that interpolation asks for
    assert reach <= BORDER + 2  # a corner is never nearer than 2 pixels to the edge (corners.MARGIN)


def test_cells_are_symmetric_and_the_middle_weighs_most():
    cells = patch_tables()[1].reshape(SIDE, SIDE, 4, 4)
    assert np.allclose(cells, cells[::-1, :, ::-1]) and np.allclose(cells, cells.transpose(1, 0, 3, 2))
    assert cells[SIDE // 2, SIDE // 2].sum() > cells[3, 3].sum() > cells[1, 1].sum() > cells[0].sum() == 0


def test_more_corners_than_opencv_takes_at_once(pictures):
    image, rng = grey(pictures["coffee"]), np.random.default_rng(0)
    places = np.float32(rng.uniform(20, 180, (33_000, 2)))
    angles = np.float32(rng.uniform(-3, 3, len(places)))
    found = histograms(image, places, angles)
    np.testing.assert_allclose(found[-500:], histograms(image, places[-500:], angles[-500:]), atol=1e-3)


def test_no_corners_no_rows():
    angles, rows = describe([np.zeros((40, 40), np.uint8)], np.empty((0, 2), np.float32), np.empty(0, np.int64))
    assert angles.shape == (0,) and rows.shape == (0, 128)


@pytest.mark.parametrize("count", [37, 200, 601])  # one of BLAS's threads, several that share evenly, several that do not
def test_threads_change_no_bit(pictures, count):
    levels, found = pyramid(cv2.cvtColor(pictures["coffee"], cv2.COLOR_RGB2GRAY)), []
    places, of_level = find(levels, count)
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(describe(levels, places, of_level))
    assert len(places) == count and all(np.array_equal(one, two) for one, two in zip(*found, strict=True))


def test_a_product_by_parts_is_a_product():
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(101, 256)), rng.normal(size=(256, 16))
    assert np.allclose(product(left, right), np.einsum("kn,nm->km", left, right), rtol=0, atol=1e-12)
