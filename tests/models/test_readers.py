import copy

import pytest
import timm
import torch
import transformers

from matcher.errors import MatcherError
from matcher.models.backbones import load_backbone, make, rebuild_backbone
from matcher.models.readers import TransformersReader, as_tokens
from matcher.settings import DescriptorSettings

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32, "patch_size": 8}
HALF = (0.5, 0.5, 0.5)


def timm_backbone(name, size):
    return load_backbone(DescriptorSettings(backbone=f"timm:{name}", weights=False, size=size))


def transformers_backbone(config):
    torch.manual_seed(0)
    network = transformers.AutoModel.from_config(config)
    made_by = {"model": config.to_dict(), "pooler": True}
    return make(network, TransformersReader(True), f"transformers:{config.model_type}", config=made_by, size=32, mean=HALF, std=HALF)


def test_maps_become_tokens_row_by_row():
    maps = torch.rand(2, 5, 3, 4)
    tokens = as_tokens(maps, channels_last=False)
    assert tokens.shape == (2, 12, 5) and torch.equal(tokens[:, 4 + 3], maps[:, :, 1, 3])
    assert torch.equal(as_tokens(maps.permute(0, 2, 3, 1), channels_last=True), tokens)
    assert torch.equal(as_tokens(tokens, channels_last=False), tokens)
    with pytest.raises(MatcherError, match="pooling backbone"):
        as_tokens((maps, maps), channels_last=False)


def test_a_cnn_gives_its_last_map():
    backbone, batch = timm_backbone("test_resnet", 64), torch.rand(2, 3, 64, 64)
    maps = backbone.network.forward_features((batch - backbone.mean) / backbone.std)
    pooled = backbone(batch)
    assert backbone.read_tokens() == maps.shape[1] and backbone.prefix == 0 and not backbone.has_class
    assert torch.allclose(backbone.tokens(batch), maps.flatten(2).transpose(1, 2))
    assert torch.allclose(backbone.tokens(batch).mean(dim=1), pooled, atol=1e-5)  # a resnet pools by the mean itself


def test_a_vit_gives_class_token_and_places():
    backbone, batch = timm_backbone("test_vit", 32), torch.rand(2, 3, 32, 32)
    cls = backbone(batch)
    assert backbone.read_tokens() == backbone.dim and backbone.prefix == 1 and backbone.has_class
    tokens = backbone.tokens(batch)
    assert tokens.shape == (2, 1 + (32 // 16) ** 2, backbone.dim) and torch.allclose(tokens[:, 0], cls, atol=1e-5)


def test_what_only_the_networks_own_pooling_needs_is_taken_off():
    network = timm.create_model("mobilenetv4_conv_small_035", num_classes=0)
    backbone = timm_backbone("mobilenetv4_conv_small_035", 64)
    before = set(backbone.state_dict())
    width = backbone.read_tokens()
    gone = before - set(backbone.state_dict())
    assert width == network.num_features and width < backbone.dim
    assert gone and all(key.startswith(("network.conv_head.", "network.norm_head.")) for key in gone)
    assert backbone.tokens(torch.rand(1, 3, 64, 64)).shape == (1, 4, width)


@pytest.mark.parametrize(
    ("config", "prefix"),
    [
        (transformers.Dinov2Config(**TINY), 1),
        (transformers.Dinov2WithRegistersConfig(**TINY, num_register_tokens=3), 4),
        (transformers.ViTConfig(**TINY), 1),
        (transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic"), 0),
        (transformers.CLIPConfig(text_config={**TINY, "vocab_size": 50}, vision_config=TINY, projection_dim=12), 1),
    ],
    ids=["dinov2", "registers", "vit", "resnet", "clip"],
)
def test_models_of_transformers(config, prefix):
    backbone, batch = transformers_backbone(config), torch.rand(2, 3, 32, 32)
    vision = getattr(backbone.network, "vision_model", backbone.network)
    expected = vision(pixel_values=(batch - 0.5) / 0.5).last_hidden_state
    width = backbone.read_tokens()
    tokens = backbone.tokens(batch)
    assert backbone.prefix == prefix and backbone.has_class == (prefix > 0) and tokens.shape[2] == width
    assert torch.allclose(tokens, expected if expected.ndim == 3 else expected.flatten(2).transpose(1, 2), atol=1e-5)
    assert not any(key.startswith("network.text_model") for key in backbone.state_dict())
    again = rebuild_backbone(backbone.name, config=backbone.config, **backbone.preprocessing)
    again.read_tokens()
    again.load_state_dict(backbone.state_dict())
    assert torch.equal(again.tokens(batch), tokens)


def test_a_deep_copy_reads_its_own_network():
    backbone, batch = timm_backbone("test_vit", 32), torch.rand(1, 3, 32, 32)
    before, copied = backbone(batch), copy.deepcopy(backbone)
    for weight in backbone.parameters():
        weight.data.zero_()
    assert torch.equal(copied(batch), before) and not torch.equal(backbone(batch), before)


def test_what_no_library_knows_is_one_sentence():
    for name, config in (("timm:no_such_model", {}), ("transformers:vit", {"model": {"model_type": "none"}, "pooler": True})):
        with pytest.raises(MatcherError, match="cannot be made") as caught:
            rebuild_backbone(name, config=config, size=32, mean=HALF, std=HALF)
        assert "\n" not in str(caught.value)
