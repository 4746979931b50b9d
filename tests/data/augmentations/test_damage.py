"""Damage to detail and edits of colour: shapes, ranges, order of strength, and slow versions."""

import cv2
import numpy as np
import pytest
import torch

from matcher.data.augmentations import Recipe
from matcher.data.augmentations.damage import DAMAGES, gaussian, shuffle
from matcher.data.augmentations.tone import LUMA


@pytest.fixture
def photo():
    """(3, 64, 64) in 0..1, smooth shapes and some texture."""
    rng = np.random.default_rng(0)
    small = cv2.resize(rng.random((9, 9, 3), dtype=np.float32), (64, 64), interpolation=cv2.INTER_CUBIC)
    return torch.from_numpy(np.clip(small + 0.08 * rng.standard_normal((64, 64, 3)), 0, 1).astype(np.float32)).permute(2, 0, 1)


@pytest.mark.parametrize("name", list(DAMAGES))
def test_strong_damage_is_more_than_mild(name, photo, generator):
    pixels = photo.repeat(24, 1, 1, 1)
    strength = torch.tensor([0.0] * 12 + [1.0] * 12)
    out = DAMAGES[name](pixels, strength, generator)
    assert out.shape == pixels.shape and out.isfinite().all() and out.min() >= -1e-6 and out.max() <= 1 + 1e-6
    change = (out - pixels).abs().mean((1, 2, 3))
    assert change.min() > 0
    if name != "resave":
        assert change[12:].mean() > 1.3 * change[:12].mean()


@pytest.mark.parametrize("name", list(DAMAGES))
def test_damage_is_the_same_for_the_same_seed(name, photo):
    pixels, strength = photo.repeat(3, 1, 1, 1), torch.tensor([0.2, 0.5, 0.8])
    first, second = (DAMAGES[name](pixels.clone(), strength, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)


def test_blur_is_the_gaussian_of_opencv(photo):
    sigma = torch.tensor([0.7, 1.9])
    for row, blurred in enumerate(gaussian(photo.repeat(2, 1, 1, 1), sigma)):
        slow = cv2.GaussianBlur(photo.permute(1, 2, 0).numpy(), (11, 11), float(sigma[row]), borderType=cv2.BORDER_REPLICATE)
        np.testing.assert_allclose(blurred.permute(1, 2, 0).numpy(), slow, atol=0.01)


def test_shuffled_pixels_come_from_the_same_picture(photo, generator):
    out = shuffle(photo[None], torch.tensor([0.5]), generator)
    known = {tuple(colour) for colour in photo.flatten(1).T.tolist()}
    assert all(tuple(colour) in known for colour in out[0].flatten(1).T.tolist())
    assert 0.15 < (out[0] != photo).any(0).float().mean() < 0.35


def apply(edit, photo, generator, count=16):
    recipe = Recipe(edits={edit: (1.0, 1.0)}, untouched=0.0, resaved=0.0)
    pictures = (photo * 255).round().to(torch.uint8).repeat(count, 1, 1, 1)
    return pictures / 255, recipe(pictures, torch.ones(count), generator=generator, side=64, hardness=1.0, others=pictures)


def test_gray_is_gray(photo, generator):
    before, out = apply("gray", photo, generator)
    assert (out.pixels.amax(1) - out.pixels.amin(1)).max() < 1e-4
    luma = torch.einsum("c,bchw->bhw", torch.tensor(LUMA), before)
    assert ((out.pixels[:, 0] - luma).abs().amax((1, 2)) < 1e-4).any()  # one in two keeps its contrast


def test_dark_mostly_darkens(photo, generator):
    before, out = apply("dark", photo, generator, 60)
    darker = (out.pixels.mean((1, 2, 3)) < before.mean((1, 2, 3))).float().mean()
    assert 0.5 < darker < 0.9


@pytest.mark.parametrize("edit", ["jitter", "filter", "gray", "dark"])
def test_colour_edits_move_nothing(edit, photo, generator):
    before, out = apply(edit, photo, generator)
    assert ((out.pixels - before).abs().mean((1, 2, 3)) > 1e-4).float().mean() > 0.9
    assert out.visible.all() and torch.allclose(out.frame, torch.eye(3).expand(16, 3, 3), atol=1e-6)
