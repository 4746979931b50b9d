import numpy as np
import pytest
import torch
from PIL import Image

from matcher.errors import MatcherError, UsageError
from matcher.models import checkpoint
from matcher.models.descriptor import Descriptor
from matcher.training.whitening import covariance_root, outputs, whiten


@pytest.fixture(scope="module", params=[None, 12], ids=["linear", "neck"])
def model(request):
    torch.manual_seed(0)
    model = Descriptor.build("timm:test_convnext", size=32, dim=8, neck=request.param)
    for _ in range(3):
        model(torch.rand(16, 3, 32, 32))
    return model.eval()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for n in range(40):
        Image.fromarray(np.random.default_rng(n).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{n:02d}.png")
    return folder


def test_the_root_makes_the_identity():
    rows = torch.randn(500, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64) + 3
    matrix, mean = covariance_root(rows, shrinkage=0)
    assert torch.allclose(torch.cov(((rows - mean) @ matrix).T), torch.eye(6, dtype=torch.float64), atol=1e-8)


def test_a_whitened_head_is_the_head_followed_by_the_root(model, photos, tmp_path):
    checkpoint.save(tmp_path / "plain.safetensors", model, {"numbers": {"x": 1}})
    whitened = checkpoint.load(whiten(tmp_path / "plain.safetensors", photos, tmp_path / "white.safetensors"))
    pixels = torch.from_numpy(np.stack([np.asarray(Image.open(path)) for path in sorted(photos.iterdir())])).permute(0, 3, 1, 2)
    before = outputs(model, pixels)
    matrix, mean = covariance_root(before)
    assert torch.allclose(outputs(whitened, pixels), (before - mean) @ matrix, atol=0.05)  # stored as float16
    assert whitened.card["training"]["whitened_on"] == 40 and whitened.card["numbers"] == {"x": 1}


def test_too_few_photographs_are_refused(model, photos, tmp_path):
    checkpoint.save(tmp_path / "plain.safetensors", model, {})
    with pytest.raises(MatcherError, match="with 10 photographs"):
        whiten(tmp_path / "plain.safetensors", photos, tmp_path / "white.safetensors", pictures=10)


def test_a_convolutional_descriptor_may_take_larger_pictures(model, photos, tmp_path):
    checkpoint.save(tmp_path / "plain.safetensors", model, {})
    larger = checkpoint.load(whiten(tmp_path / "plain.safetensors", photos, tmp_path / "large.safetensors", size=48))
    assert larger.size == 48 and larger.card["training"]["trained_at"] == 32
    assert larger(torch.rand(2, 3, 48, 48)).shape == (2, 8)


def test_positions_that_are_weights_belong_to_a_size():
    with pytest.raises(UsageError, match="for pictures of 32 pixels, not 48"):
        Descriptor.build("timm:test_vit", size=32, dim=8).at_size(48)
