import json

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf

from matcher.errors import MatcherError, UsageError
from matcher.models.backbones import load_backbone
from matcher.settings import DescriptorSettings

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32, "patch_size": 8}
PREPROCESSING = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3], "size": {"height": 32, "width": 32}}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def timm_folder(folder, name="test_vit", **more):
    model = timm.create_model(name, pretrained=False, **more).eval()
    save_for_hf(model, folder, safe_serialization=True)
    return model


def transformers_folder(folder, config, kind=transformers.AutoModel):
    torch.manual_seed(0)
    model = kind.from_config(config).eval()
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING))
    return model


def settings(folder, **more):
    return DescriptorSettings(backbone=str(folder), **more)


@pytest.mark.parametrize(("name", "size"), [("test_vit", 32), ("test_convnext", 48), ("test_resnet", None)])
def test_timm_with_random_weights(name, size):
    backbone = load_backbone(DescriptorSettings(backbone=f"timm:{name}", weights=False, size=size))
    config = timm.get_pretrained_cfg(name)
    assert backbone.size == (size or 160) and not backbone.training
    assert backbone.mean.flatten().tolist() == pytest.approx(config.mean) and backbone.std.flatten().tolist() == pytest.approx(config.std)
    assert backbone(torch.rand(2, 3, backbone.size, backbone.size)).shape == (2, backbone.dim) and backbone.dim < 1000
    assert not any(p.requires_grad for p in backbone.parameters())


def test_random_weights_follow_the_seed_and_leave_torch_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (load_backbone(DescriptorSettings(backbone="timm:test_vit", weights=False, size=32, seed=s)) for s in (1, 1, 2))
    batch = torch.zeros(1, 3, 32, 32)
    assert torch.equal(first(batch), again(batch)) and not torch.equal(first(batch), other(batch))
    assert torch.equal(before, torch.get_rng_state())


def test_a_timm_folder_gives_what_timm_gives(tmp_path):
    model = timm_folder(tmp_path)
    backbone, batch = load_backbone(settings(tmp_path)), torch.rand(2, 3, 160, 160)
    expected = model.forward_head(model.forward_features((batch - 0.5) / 0.5), pre_logits=True)
    assert torch.allclose(backbone(batch), expected, atol=1e-5)
    resized = load_backbone(settings(tmp_path, size=64))
    assert resized.size == 64 and resized(torch.rand(1, 3, 64, 64)).shape == (1, backbone.dim)


def test_a_timm_folder_that_lacks_a_tensor_is_refused(tmp_path):
    timm_folder(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    for broken in ({k: v for k, v in weights.items() if k != "norm.weight"}, weights | {"extra": torch.zeros(1)}):
        save_file(broken, tmp_path / "model.safetensors")
        with pytest.raises(MatcherError, match="local-dir"):
            load_backbone(settings(tmp_path))


@pytest.mark.parametrize("config", [transformers.Dinov2Config(**TINY), transformers.ViTConfig(**TINY)], ids=["dinov2", "vit"])
def test_a_transformers_folder_gives_what_transformers_gives(tmp_path, config):
    model = transformers_folder(tmp_path, config)
    backbone, batch = load_backbone(settings(tmp_path)), torch.rand(2, 3, 32, 32)
    normal = (batch - torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1)) / torch.tensor([0.2, 0.25, 0.3]).view(1, 3, 1, 1)
    assert torch.allclose(backbone(batch), model(normal).pooler_output, atol=1e-5)
    assert backbone.size == 32 and backbone.dim == 16
    resized = load_backbone(settings(tmp_path, size=64))
    assert resized(torch.rand(1, 3, 64, 64)).shape == (1, 16)
    assert load_backbone(settings(tmp_path, weights=False)).dim == 16


def test_without_a_trained_pooler_the_cls_token_is_the_feature(tmp_path):
    model = transformers_folder(tmp_path, transformers.ViTConfig(**TINY), transformers.AutoModelForImageClassification)
    backbone, batch = load_backbone(settings(tmp_path)), torch.rand(2, 3, 32, 32)
    expected = model.base_model((batch - backbone.mean) / backbone.std).last_hidden_state[:, 0]
    assert torch.allclose(backbone(batch), expected, atol=1e-5)


def test_a_text_image_model_gives_its_image_features(tmp_path):
    text = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.CLIPConfig(text_config=text, vision_config=TINY, projection_dim=12)
    transformers_folder(tmp_path, config)
    backbone = load_backbone(settings(tmp_path))
    assert backbone.dim == 12 and backbone(torch.rand(2, 3, 32, 32)).shape == (2, 12)


def test_a_transformers_folder_that_does_not_fit_is_refused(tmp_path):
    transformers_folder(tmp_path, transformers.Dinov2Config(**TINY))
    weights = load_file(tmp_path / "model.safetensors")
    lacking = {k: v for k, v in weights.items() if k != "layernorm.weight"}
    for broken, word in ((lacking, "lack layernorm.weight"), (weights | {"extra.weight": torch.zeros(1)}, "no place for")):
        save_file(broken, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(MatcherError, match=word):
            load_backbone(settings(tmp_path))


def test_folders_without_what_is_needed_are_refused(tmp_path):
    with pytest.raises(MatcherError, match=r"config\.json"):
        load_backbone(settings(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(MatcherError, match="safetensors"):
        load_backbone(settings(tmp_path))
    with pytest.raises(MatcherError, match="neither"):
        load_backbone(settings(tmp_path, weights=False))
    transformers_folder(tmp_path, transformers.Dinov2Config(**TINY))
    (tmp_path / "preprocessor_config.json").write_text('{"size": 32}')
    with pytest.raises(MatcherError, match="image_mean"):
        load_backbone(settings(tmp_path))


def test_pickled_weights_are_not_read(tmp_path):
    timm_folder(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(MatcherError, match="safetensors"):
        load_backbone(settings(tmp_path))


@pytest.mark.parametrize("backbone", ["timm:test_vit", "timm:no_such_model", "transformers:someone/no-such-model"])
def test_without_network_one_sentence(backbone, monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

    def fail(*args, **kwargs):
        raise OSError("no network\nmany more lines")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(MatcherError) as caught:
        load_backbone(DescriptorSettings(backbone=backbone))
    assert "\n" not in str(caught.value) and backbone.split(":")[1] in str(caught.value)
    if backbone != "timm:no_such_model":
        assert "weights: false" in str(caught.value) and "local folder" in str(caught.value)


@pytest.mark.parametrize("backbone", ["resnet18", "timm:", "/no/such/folder", ""])
def test_names_that_cannot_be_right(backbone):
    with pytest.raises(UsageError, match="timm:NAME"):
        load_backbone(DescriptorSettings(backbone=backbone))


def test_a_size_that_does_not_work_is_one_sentence():
    with pytest.raises(MatcherError, match="size 33"):
        load_backbone(DescriptorSettings(backbone="timm:test_vit", weights=False, size=33))


def test_features_do_not_depend_on_the_batch():
    backbone = load_backbone(DescriptorSettings(backbone="timm:test_vit", weights=False, size=32))
    batch = torch.rand(3, 3, 32, 32)
    assert np.allclose(backbone(batch), torch.cat([backbone(one[None]) for one in batch]), atol=1e-5)
