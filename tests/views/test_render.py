import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from matcher.geometry import compose, covered_share, flip, from_box, identity, turn
from matcher.views import render as rendering
from matcher.views.render import render, render_many, render_with_mask

FILL = (1, 200, 3)


@pytest.fixture(scope="module")
def photo():
    return np.ascontiguousarray(data.astronaut())  # ships inside the wheel


def noise(h, w, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


def smooth(h, w):
    return cv2.GaussianBlur(noise(h, w), (0, 0), 4)


def supersampled(image, frame, size_hw, times=16):
    """Slow and obvious: the mean of times x times nearest pixels for every pixel of the view."""
    (h, w), (image_h, image_w) = size_hw, image.shape[:2]
    x, y = np.meshgrid((np.arange(w * times) + 0.5) / (w * times), (np.arange(h * times) + 0.5) / (h * times))
    across, down, depth = (row[0] * x + row[1] * y + row[2] for row in frame)
    column = np.clip(np.floor(across / depth * image_w), 0, image_w - 1).astype(int)
    row = np.clip(np.floor(down / depth * image_h), 0, image_h - 1).astype(int)
    return image[row, column].astype(np.float64).reshape(h, times, w, times, 3).mean(axis=(1, 3))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 3))
def test_turns_and_flips_are_exact(h, w, quarters):
    image = noise(h, w)
    turned = np.rot90(image, -quarters)
    assert (render(image, turn(quarters), turned.shape[:2]) == turned).all()
    assert (render(image, flip(), (h, w)) == image[:, ::-1]).all()
    assert (render(image, compose(turn(quarters), flip()), turned.shape[:2]) == turned[:, ::-1]).all()


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_box_on_whole_pixels_is_a_slice(draw):
    h, w = draw.draw(st.integers(2, 50)), draw.draw(st.integers(2, 50))
    y0, x0 = draw.draw(st.integers(0, h - 1)), draw.draw(st.integers(0, w - 1))
    y1, x1 = draw.draw(st.integers(y0 + 1, h)), draw.draw(st.integers(x0 + 1, w))
    image = noise(h, w)
    assert (render(image, from_box(x0 / w, y0 / h, x1 / w, y1 / h), (y1 - y0, x1 - x0)) == image[y0:y1, x0:x1]).all()


def test_a_crop_of_a_crop_is_the_composed_crop():
    image = smooth(240, 320)
    outer, inner = from_box(0.1, 0.2, 0.9, 0.95), compose(from_box(0.25, 0.1, 0.8, 0.7), turn(1))
    twice = render(render(image, outer, (180, 256)), inner, (64, 64)).astype(int)
    once = render(image, compose(outer, inner), (64, 64)).astype(int)
    assert np.abs(twice - once).max() <= 4


@pytest.mark.parametrize("size_hw", [(224, 224), (64, 64), (100, 37), (17, 200), (1, 1)])
def test_the_whole_shrunk_agrees_with_pillow(photo, size_hw):
    ours = render(photo, identity(), size_hw).astype(int)
    box = np.asarray(Image.fromarray(photo).resize(size_hw[::-1], Image.Resampling.BOX)).astype(int)
    assert np.abs(ours - box).mean() < 3
    if size_hw[0] < 128 and size_hw[1] < 128:
        assert np.abs(ours - box).mean() < 1


@pytest.mark.parametrize("frame", [identity(), turn(1), from_box(0.13, 0.07, 0.81, 0.9), compose(from_box(0.5, 0.5, 0.9, 1), flip())])
def test_shrinking_agrees_with_a_slow_mean(photo, frame):
    ours, slow = render(photo, frame, (50, 40)).astype(float), supersampled(photo, frame, (50, 40))
    naive = cv2.resize(photo, (40, 50), interpolation=cv2.INTER_NEAREST).astype(float)
    assert np.abs(ours - slow).mean() < 3.5
    assert np.abs(naive - supersampled(photo, identity(), (50, 40))).mean() > 10  # what no filter would give


def test_a_tilted_view_shrinks_well(photo):
    angle = np.deg2rad(30)
    tilted = np.array([[np.cos(angle), -np.sin(angle), 0.35], [np.sin(angle), np.cos(angle), 0.05], [0.2, 0.1, 1.0]])
    rotated = tilted @ np.diag([0.6, 0.6, 1.0])
    ours, inside = render_with_mask(photo, rotated, (48, 48))
    assert np.abs(ours.astype(float) - supersampled(photo, rotated, (48, 48)))[inside].mean() < 4


def test_fine_stripes_become_grey():
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    view = render(stripes, from_box(0, 0, 1, 0.99), (60, 61))
    assert np.abs(view.astype(int) - 127).max() < 25


def test_enlarging_keeps_edges_and_means():
    image = smooth(20, 20)
    view = render(image, identity(), (80, 80))
    assert np.abs(view.astype(float).mean((0, 1)) - image.astype(float).mean((0, 1))).max() < 1
    assert np.abs(view[0, 0].astype(int) - image[0, 0].astype(int)).max() <= 1  # no dark rim


def test_outside_is_filled_and_masked():
    image = noise(40, 60)
    view, inside = render_with_mask(image, from_box(-0.5, -0.25, 0.5, 0.75), (40, 60), fill=FILL)
    expected = np.zeros((40, 60), bool)
    expected[10:, 30:] = True
    assert (inside == expected).all()
    assert (view[~inside] == FILL).all()
    assert (view[inside] == image[:30, :30].reshape(-1, 3)).all()


@pytest.mark.parametrize("frame", [from_box(2, 2, 3, 3), np.diag([1.0, 1.0, -1.0]), np.zeros((3, 3))])
def test_a_view_beside_the_picture_is_all_fill(frame):
    view, inside = render_with_mask(noise(10, 10), frame, (8, 9), fill=FILL)
    assert not inside.any() and (view == FILL).all()


def test_a_horizon_in_view_is_masked():
    frame = np.array([[1.0, 0, 0], [0, 1.0, 0], [0, -2.0, 1.0]])  # depth 0 at half the height
    view, inside = render_with_mask(noise(30, 30), frame, (20, 20), fill=FILL)
    y, x = ((np.indices((20, 20)) + 0.5) / 20).astype(float)
    depth = 1 - 2 * y
    expected = (depth > 0) & (x <= depth) & (y <= depth)
    assert (inside == expected).all() and (view[~expected] == FILL).all() and not expected[10:].any()


def test_mask_counts_the_covered_share(photo):
    angle = np.deg2rad(45)
    frame = np.array([[np.cos(angle), -np.sin(angle), 0.5], [np.sin(angle), np.cos(angle), 0.5 - np.sqrt(0.5)], [0, 0, 1.0]])
    _, inside = render_with_mask(photo, frame, (200, 200))
    assert inside.mean() == pytest.approx(covered_share(frame), abs=0.01)  # the view is as large as the picture


def test_many_views_are_single_views(photo):
    frames = np.stack([identity(), flip(), from_box(0.2, 0.2, 0.7, 0.9)])
    many = render_many(photo, frames, (32, 32))
    assert many.shape == (3, 32, 32, 3)
    assert all((view == render(photo, frame, (32, 32))).all() for view, frame in zip(many, frames, strict=True))
    assert render_many(photo, frames[:0], (32, 32)).shape == (0, 32, 32, 3)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_slices_are_what_the_warp_gives(draw):
    h, w = draw.draw(st.integers(1, 60)), draw.draw(st.integers(1, 60))
    size_hw = draw.draw(st.integers(1, 30)), draw.draw(st.integers(1, 30))
    image, quarters, mirrored = noise(h, w), draw.draw(st.integers(0, 3)), draw.draw(st.booleans())
    frame = compose(turn(quarters), flip() if mirrored else identity())
    sliced = render(image, frame, size_hw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rendering, "pick", lambda *_: None)
        assert np.array_equal(render(image, frame, size_hw), sliced)


def test_a_slice_is_a_copy_and_needs_its_pixels(photo):
    whole = rendering.pick(photo, np.eye(3), photo.shape[:2])
    assert np.array_equal(whole, photo) and not np.shares_memory(whole, photo)
    assert rendering.pick(photo, rendering.shift(1, 0), photo.shape[:2]) is None  # reaches beyond the right edge
    assert rendering.pick(photo, rendering.shift(0.5, 0), (9, 9)) is None
    assert rendering.pick(photo, np.diag([2.0, 2.0, 1.0]), (9, 9)) is None


def test_a_picture_is_shrunk_once_for_its_turns(photo, monkeypatch):
    shrunk, resize = [], cv2.resize
    monkeypatch.setattr(rendering.cv2, "resize", lambda image, size, **how: shrunk.append(size) or resize(image, size, **how))
    render_many(photo[:400], [turn(quarters) for quarters in range(4)], (64, 64))
    assert shrunk.count((128, 128)) == 1 and shrunk.count((64, 64)) == 4


def test_very_long_pictures():
    image = noise(3, 70_000)
    assert render(image, identity(), (16, 16)).shape == (16, 16, 3)
    assert (render(image, from_box(0.5, 0, 0.5 + 20 / 70_000, 1), (3, 20)) == image[:, 35_000:35_020]).all()


@pytest.mark.parametrize(
    ("image", "frame", "size_hw"),
    [
        (np.zeros((4, 4), np.uint8), identity(), (2, 2)),
        (np.zeros((4, 4, 3), np.float32), identity(), (2, 2)),
        (np.zeros((0, 4, 3), np.uint8), identity(), (2, 2)),
        (np.zeros((4, 4, 3), np.uint8), np.full((3, 3), np.nan), (2, 2)),
        (np.zeros((4, 4, 3), np.uint8), identity(), (0, 2)),
    ],
)
def test_what_cannot_be_rendered_is_refused(image, frame, size_hw):
    with pytest.raises(ValueError, match="render needs"):
        render(image, frame, size_hw)
