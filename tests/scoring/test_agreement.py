import cv2
import numpy as np
import pytest

from matcher.geometry import compose, flip, from_box, identity
from matcher.scoring.agreement import AGREES, BLOCK, TEXTURE, correlate, grey, pixel_agreement
from matcher.views.render import render

SIDE = 96
COS, SIN = np.cos(np.pi / 6), np.sin(np.pi / 6)
TURNED = np.array([[COS, -SIN, 0.5 - (COS - SIN) / 2], [SIN, COS, 0.5 - (COS + SIN) / 2], [0, 0, 1]])  # by 30 degrees about the middle


def brighter(image):
    return np.clip(image.astype(float) * 0.6 + 60, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee"])
def test_identical_pictures_agree(pictures, name):
    correlation, share = pixel_agreement(pictures[name], pictures[name], identity(), side=SIDE)
    assert correlation == pytest.approx(1, abs=0.005) and share == 1


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee"])
def test_brightness_and_contrast_are_forgiven(pictures, name):
    correlation, share = pixel_agreement(brighter(pictures[name]), pictures[name], identity(), side=SIDE)
    assert correlation > 0.97 and share > 0.9
    correlation, _ = pixel_agreement(255 - pictures[name], pictures[name], identity(), side=SIDE)
    assert correlation < -0.9


def test_a_crop_agrees_where_it_lies_and_not_elsewhere(pictures):
    image, where = pictures["coffee"], from_box(0.15, 0.2, 0.75, 0.7)
    query = render(image, where, (150, 260))
    assert pixel_agreement(query, image, where, side=SIDE)[0] > 0.97
    assert pixel_agreement(image, query, np.linalg.inv(where), side=SIDE)[0] > 0.97  # and the other way round
    assert pixel_agreement(query, image, identity(), side=SIDE)[0] < 0.5
    assert pixel_agreement(query, image, where @ flip(), side=SIDE)[0] < 0.5


def test_what_a_turned_copy_does_not_show_is_not_compared(pictures):
    image = pictures["coffee"]
    where = compose(from_box(0.1, 0.1, 0.7, 0.9), TURNED)
    correlation, share = pixel_agreement(render(image, where, (240, 300)), image, where, side=SIDE)
    assert correlation > 0.97 and share > 0.99


def test_what_was_pasted_over_costs_its_share(pictures):
    image = pictures["chelsea"].copy()
    image[: image.shape[0] // 3] = render(pictures["rocket"], identity(), (image.shape[0] // 3, image.shape[1]))
    correlation, share = pixel_agreement(image, pictures["chelsea"], identity(), side=SIDE)
    assert correlation > 0.9 and 0.5 < share < 0.8


def test_strangers_do_not_agree(pictures):
    names = list(pictures)
    for first, second in zip(names, names[1:] + names[:1], strict=True):
        correlation, share = pixel_agreement(pictures[first], pictures[second], identity(), side=SIDE)
        assert abs(correlation) < 0.35 and share < 0.15, (first, second)


def test_nothing_to_compare(pictures):
    image, plain = pictures["coffee"], np.full((200, 300, 3), 90, np.uint8)
    beside, sliver = from_box(1.5, 0, 2.5, 1), from_box(0.99, 0, 1.99, 1)
    for frame in (beside, sliver, np.full((3, 3), np.nan)):
        assert np.isnan(pixel_agreement(image, image, frame, side=SIDE)).all()
    assert np.isnan(pixel_agreement(image, plain, identity(), side=SIDE)).all()
    assert np.isnan(pixel_agreement(plain, plain, identity(), side=SIDE)).all()
    assert abs(pixel_agreement(plain, image, identity(), side=SIDE)[0]) < 0.01  # the reference has texture, the query lacks it


def slow(first, second, valid):
    """Every window by itself."""
    margin = BLOCK // 2
    a, b, w = (cv2.copyMakeBorder(x.astype(np.float64), *[margin] * 4, cv2.BORDER_REFLECT_101) for x in (first, second, valid))
    values = []
    for y, x in np.ndindex(first.shape):
        part = (slice(y, y + BLOCK), slice(x, x + BLOCK))
        weight = w[part] / max(w[part].sum(), 1e-12)
        if not valid[y, x] or w[part].mean() <= 0.5:
            continue
        mean_a, mean_b = (a[part] * weight).sum(), (b[part] * weight).sum()
        var_a, var_b = ((a[part] - mean_a) ** 2 * weight).sum(), ((b[part] - mean_b) ** 2 * weight).sum()
        if var_b > TEXTURE:
            covariance = ((a[part] - mean_a) * (b[part] - mean_b) * weight).sum()
            values.append(covariance / np.sqrt(max(var_a, 4) * max(var_b, 4)))
    return np.array(values)


@pytest.mark.parametrize("case", ["all valid", "half valid", "ragged", "sliver"])
def test_correlate_agrees_with_a_slow_loop(pictures, case):
    second = grey(render(pictures["astronaut"], identity(), (40, 50)))
    noise = np.random.default_rng(0).normal(0, 25, second.shape)
    first = (0.7 * second + 20 + noise).astype(np.float32)
    valid = np.ones(second.shape, np.float32)
    if case == "half valid":
        valid[:, 25:] = 0
    elif case == "ragged":
        valid[np.add.outer(np.arange(40), np.arange(50)) > 55] = 0
    elif case == "sliver":
        valid[:, 20:40] = 0
        valid[:, 45:] = 0
        first[:, 40:45] = 255 - first[:, 40:45]
    values = slow(first, second, valid)
    median, share = correlate(first, second, valid)
    assert len(values) > 200 and median == pytest.approx(np.median(values), abs=2e-3)
    assert share == pytest.approx((values > AGREES).mean(), abs=0.01) and 0.02 < share < 0.98


def test_correlate_needs_some_windows():
    noise = np.random.default_rng(0).normal(128, 40, (5, 5)).astype(np.float32)
    assert np.isnan(correlate(noise, noise, np.ones_like(noise))).all()
    assert np.isnan(correlate(noise, noise, np.zeros_like(noise))).all()
