import numpy as np
import pytest
import torch

from matcher.models.descriptor import Descriptor
from matcher.settings import DescriptorSettings


@pytest.fixture(scope="module")
def model():
    return Descriptor.from_settings(DescriptorSettings(backbone="timm:test_vit", weights=False, size=32))


def pixels(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def test_unit_vectors_of_the_normalised_features(model):
    views = pixels(4)
    rows = model.describe(views)
    z = model.backbone(torch.from_numpy(views).permute(0, 3, 1, 2) / 255).numpy()
    assert rows.dtype == np.float32 and rows.shape == (4, model.dim)
    assert np.allclose(rows, z / np.linalg.norm(z, axis=1, keepdims=True), atol=1e-6)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_the_same_picture_gives_the_same_row_in_any_batch(model):
    views = pixels(5)
    assert np.allclose(model.describe(views)[2], model.describe(views[2:3])[0], atol=1e-5)
    assert np.allclose(model.describe(views[::-1])[0], model.describe(views)[4], atol=1e-5)


def test_inference_only(model):
    assert not model.training and model.size == 32
    rows = model.describe(pixels(1))
    assert isinstance(rows, np.ndarray)


def test_nothing_in_nothing_out(model):
    assert model.describe(pixels(0)).shape == (0, model.dim)
