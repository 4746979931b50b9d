import pytest
import timm
import torch
from torch import nn

from matcher.errors import MatcherError, UsageError
from matcher.models import checkpoint
from matcher.models.descriptor import Descriptor
from matcher.models.tower import Tower, load_tower, load_trunk

BATCH = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def trunk(name, size=64):
    return load_trunk(f"timm:{name}", size=size, weights=False, seed=2)


def normalised(backbone):
    return (BATCH - backbone.mean) / backbone.std


@pytest.mark.parametrize("depth", [1, 4, 6])
def test_tower_of_a_vit_is_its_first_blocks(depth):
    whole = trunk("test_vit")
    network = whole.network
    with torch.inference_mode():
        patches = network.patch_embed(normalised(whole)).flatten(1, 2)
        x = torch.cat([network.cls_token.expand(2, -1, -1), patches], dim=1) + network.pos_embed
        for block in network.blocks[:depth]:
            x = block(x)
        tower = Tower(trunk("test_vit"), depth=depth)
        assert torch.allclose(tower(BATCH), x[:, 1:], atol=1e-5)
    assert (tower.channels, tower.grid, tower.size, len(tower.rest)) == (64, 4, 64, 6 - depth)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_convnext", "test_mambaout"])
@pytest.mark.parametrize("depth", [1, 3])
def test_tower_of_another_network_is_what_features_only_gives(name, depth):
    whole = trunk(name)
    features = timm.create_model(name, pretrained=False, features_only=True, out_indices=[depth - 1]).eval()
    kept = whole.network.state_dict()
    names = {key: key.replace("stages_", "stages.").replace("stem_", "stem.") for key in features.state_dict()}
    features.load_state_dict({key: kept[name] for key, name in names.items()})
    tower = Tower(whole, depth=depth)
    with torch.inference_mode():
        (expected,) = features(normalised(whole))
        found = tower(BATCH)
    expected = expected.permute(0, 3, 1, 2) if name == "test_mambaout" else expected  # channels last
    assert (tower.channels, tower.grid) == expected.shape[1:3] and tower.rest == []
    assert torch.allclose(found, expected.flatten(2).transpose(1, 2), atol=1e-5)


def test_what_lies_behind_the_tower_is_neither_kept_nor_stored():
    whole = trunk("test_efficientnet")
    before = sum(p.numel() for p in whole.parameters())
    tower = Tower(whole, depth=2)
    assert sum(p.numel() for p in tower.parameters()) < before / 2
    assert not [key for key in tower.state_dict() if "blocks.2" in key or "conv_head" in key]


@pytest.mark.parametrize(("name", "depth", "word"), [("test_vit", 0, "1 to 6 blocks, not 0"), ("test_resnet", 6, "1 to 5 stages, not 6")])
def test_wrong_depths(name, depth, word):
    with pytest.raises(UsageError, match=word):
        Tower(trunk(name), depth=depth)


def test_networks_without_intermediate_features_are_refused():
    whole = trunk("test_resnet")
    whole.network = nn.Sequential(nn.Conv2d(3, 4, 3))
    with pytest.raises(UsageError, match="does not show its intermediate features"):
        Tower(whole, depth=1)


def test_networks_that_cannot_be_cut_are_told_in_one_line(monkeypatch):
    whole = trunk("test_resnet")
    monkeypatch.setattr(whole.network, "forward_intermediates", lambda *args, **kwargs: 1 / torch.zeros(2).reshape(3))
    with pytest.raises(MatcherError, match="timm:test_resnet cannot be cut") as caught:
        Tower(whole, depth=1)
    assert "\n" not in str(caught.value)


@pytest.fixture
def descriptor(tmp_path):
    """Saves a descriptor -> it, and the path of its checkpoint."""

    def save(name, **more):
        model = Descriptor.build(f"timm:{name}", **({"size": 64, "dim": 8, "pooling": "mean", "seed": 7} | more)).eval()
        return model, str(checkpoint.save(tmp_path / "d.safetensors", model, {})[0])

    return save


@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet"])
def test_the_trunk_of_a_descriptor_has_its_weights(descriptor, name):
    model, path = descriptor(name)
    found = load_trunk(path, size=None, weights=False, seed=0)
    trained = model.backbone.network.state_dict()
    assert found.size == 64 and found.network.state_dict().keys() == trained.keys()
    assert all(torch.equal(value, trained[key]) for key, value in found.network.state_dict().items())


def test_the_tower_of_a_descriptor_gives_its_features(descriptor):
    model, path = descriptor("test_vit")
    tower = load_tower(path, depth=6, size=None, weights=False, seed=0)
    with torch.inference_mode():
        assert torch.allclose(model.backbone.network.norm(tower(BATCH)), model.backbone.tokens(BATCH)[:, 1:], atol=1e-5)


@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet"])
def test_the_trunk_of_a_descriptor_at_another_size(descriptor, name):
    model, path = descriptor(name)
    tower = load_tower(path, depth=2, size=96, weights=False, seed=0)
    assert tower.size == 96 and tower.grid == {"test_vit": 6, "test_efficientnet": 24}[name]
    trained = model.backbone.network.state_dict()
    kept = {key: value for key, value in tower.backbone.network.state_dict().items() if key != "pos_embed"}
    assert len(kept) > 10 and all(torch.equal(value, trained[key]) for key, value in kept.items())


def test_a_trunk_of_a_descriptor_leaves_torch_alone(descriptor):
    _, path = descriptor("test_vit")
    before = torch.get_rng_state()
    load_trunk(path, size=96, weights=False, seed=0)
    assert torch.equal(before, torch.get_rng_state())


def test_what_a_descriptor_did_not_keep_is_missed_only_where_it_is_needed(descriptor):
    _, path = descriptor("test_vit3")  # pools by attention, which the descriptor's own pooling replaced
    with pytest.raises(MatcherError, match=r"did not keep attn_pool\.\S+ of its backbone \(13 such\)"):
        load_trunk(path, size=None, weights=False, seed=0)
    assert load_tower(path, depth=9, size=None, weights=False, seed=0).grid == 4


def test_a_tower_misses_what_it_uses(descriptor, monkeypatch):
    model, path = descriptor("test_vit")
    model.backbone.network.blocks[5] = nn.Identity()
    monkeypatch.setattr(Descriptor, "from_settings", lambda settings: model)
    with pytest.raises(MatcherError, match=r"did not keep blocks\.5\."):
        load_tower(path, depth=4, size=None, weights=False, seed=0)  # its rest becomes the joint blocks


def test_checkpoints_of_other_models_are_no_trunk(tmp_path):
    from matcher.models.concat_vit import ConcatViT

    path = checkpoint.save(tmp_path / "c.safetensors", ConcatViT.build("timm:test_vit", size=32), {})[0]
    with pytest.raises(MatcherError, match="holds a ConcatViT, and a Descriptor is needed"):
        load_tower(str(path), depth=2, size=None, weights=False, seed=0)
