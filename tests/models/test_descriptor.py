import numpy as np
import pytest
import torch

from matcher.errors import MatcherError, UsageError
from matcher.models import checkpoint
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


def trained(pooling="mean", backbone="timm:test_vit", **more):
    return Descriptor.build(backbone, **({"size": 32, "dim": 12, "pooling": pooling} | more))


def test_a_plain_backbone_has_no_head(model):
    assert model.head is None and model.pooling is None and model.dim == model.backbone.dim and model.card == {}
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("backbone", ["timm:test_vit", "timm:test_resnet", "timm:test_efficientnet"])
@pytest.mark.parametrize("pooling", ["mean", "gem", "backbone"])
def test_pooling_linear_batch_norm_unit_norm(backbone, pooling):
    model = trained(pooling, backbone).eval()
    model.head[1].running_mean.normal_(generator=torch.Generator().manual_seed(0))
    model.head[1].weight.data.uniform_(0.5, 2, generator=torch.Generator().manual_seed(0))
    batch = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    pooled = model.backbone(batch) if pooling == "backbone" else model.pooling(model.backbone.tokens(batch))
    linear, norm = model.head
    z = pooled @ linear.weight.T
    z = (z - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    expected = z / z.square().sum(dim=1, keepdim=True).sqrt()
    assert linear.bias is None and model.dim == 12 and torch.allclose(model(batch), expected, atol=1e-5)


def test_the_mean_of_a_vit_leaves_the_class_token_out():
    model = trained(dim=None).eval()
    batch = torch.rand(2, 3, 32, 32)
    tokens = model.backbone.tokens(batch)
    assert torch.allclose(model(batch), torch.nn.functional.normalize(tokens[:, 1:].mean(dim=1), dim=-1), atol=1e-6)


@pytest.mark.parametrize("backbone", ["timm:test_vit", "timm:test_resnet"])
def test_every_weight_learns(backbone):
    model = trained("gem", backbone)
    assert model.training
    rows = model(torch.rand(4, 3, 32, 32))
    (rows * torch.randn(4, 12)).sum().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    assert any(p.grad.abs().max() > 0 for p in model.backbone.parameters())


def test_describing_while_training_sees_running_averages_and_changes_nothing():
    model = trained(backbone="timm:test_resnet")
    model.backbone.network.bn1.eval()  # somebody froze one layer
    before = {key: value.clone() for key, value in model.state_dict().items()}
    rows = model.describe(pixels(4))
    assert np.allclose(rows[1], model.describe(pixels(4)[1:2])[0], atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.training and model.head.training and not model.backbone.network.bn1.training
    assert np.allclose(rows, model.eval().describe(pixels(4)))


def test_the_same_seed_gives_the_same_weights_and_leaves_torch_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (trained(seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["head.0.weight"], other["head.0.weight"])
    assert torch.equal(before, torch.get_rng_state())


def test_half_precision_training_gives_float32_unit_rows():
    with torch.autocast("cpu", torch.bfloat16):
        rows = trained()(torch.rand(3, 3, 32, 32))
    assert rows.dtype == torch.float32 and torch.allclose(rows.norm(dim=1), torch.ones(3), atol=1e-6)


def test_pooling_by_class_token_needs_one():
    with pytest.raises(UsageError, match="class token"):
        trained("cls", "timm:test_resnet")


def test_a_neck_is_part_of_the_checkpoint_and_needs_a_descriptor_behind_it(tmp_path):
    model = Descriptor.build("timm:test_resnet", size=32, dim=8, neck=20).eval()
    assert [layer.out_features for layer in model.head if isinstance(layer, torch.nn.Linear)] == [10, 20, 8]
    again = checkpoint.load(checkpoint.save(tmp_path / "a.safetensors", model, {})[0])
    assert again.neck == 20 and np.array_equal(again.describe(pixels(2)), model.describe(pixels(2)))
    assert "neck" not in trained().arguments  # older versions read what they wrote
    with pytest.raises(UsageError, match="say its dim too"):
        Descriptor.build("timm:test_resnet", size=32, dim=None, neck=20)


def test_a_checkpoint_as_the_backbone_of_settings(tmp_path):
    path = checkpoint.save(tmp_path / "a.safetensors", trained(), {})[0]
    model = Descriptor.from_settings(DescriptorSettings(backbone=str(path), size=32))
    assert (model.size, model.dim) == (32, 12) and model.card["class"] == "Descriptor"
    assert np.array_equal(model.describe(pixels(2)), Descriptor.from_settings(DescriptorSettings(backbone=str(path))).describe(pixels(2)))
    for more, word in (({"weights": False}, "weights: false"), ({"seed": 3}, "seed 3"), ({"size": 64}, "32 pixels: size 64")):
        with pytest.raises(UsageError, match=word):
            Descriptor.from_settings(DescriptorSettings(backbone=str(path), **more))


def test_names_that_are_nothing():
    with pytest.raises(UsageError, match="timm:NAME"):
        Descriptor.from_settings(DescriptorSettings(backbone="no_such_descriptor"))
    with pytest.raises(MatcherError, match="no checkpoint"):
        Descriptor.from_settings(DescriptorSettings(backbone="/no/such/file.safetensors"))


@pytest.mark.parametrize("wrong", [pixels(1) / 255, pixels(1) > 9, pixels(1)[:, :16], pixels(1)[0], pixels(1)[..., :1]])
def test_pixels_of_another_kind_or_size_are_refused(model, wrong):
    with pytest.raises(ValueError, match=r"pictures must be uint8 of shape \(rows, 32, 32, 3\), got"):
        model.describe(wrong)
