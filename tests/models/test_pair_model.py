"""What TokenFusion and ConcatViT have in common."""

import numpy as np
import pytest
import torch

from matcher.errors import MatcherError
from matcher.models import checkpoint
from matcher.models.concat_vit import ConcatViT
from matcher.models.descriptor import Descriptor
from matcher.models.token_fusion import TokenFusion

BUILDERS = {
    "fusion of a conv net": lambda **more: TokenFusion.build(
        "timm:test_efficientnet", depth=4, size=64, width=16, joint=1, heads=2, **more
    ),
    "fusion of a ViT": lambda **more: TokenFusion.build("timm:test_vit", depth=4, size=32, **more),
    "square canvas": lambda **more: ConcatViT.build("timm:test_vit", size=32, **more),
    "wide canvas": lambda **more: ConcatViT.build("timm:test_vit", size=32, canvas="wide", **more),
    "both orders": lambda **more: ConcatViT.build("timm:test_vit", size=32, symmetric=True, **more),
}


def shake(model):
    """Weights as after training: nothing is zero or one, and what tells the sides apart is as large as the rest."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            large = name in ("sides", "pair", "places") or value.ndim > 1
            value.add_(torch.randn(value.shape, generator=generator), alpha=0.1 if large else 0.02)
    return model.eval()


@pytest.fixture(scope="module", params=BUILDERS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def model(kind):
    return shake(BUILDERS[kind]())


@pytest.fixture(scope="module")
def views(model):
    return np.random.default_rng(0).integers(0, 256, (6, model.size, model.size, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def cached(model, views):
    return model.encode_views(views)


def as_batch(views):
    return torch.from_numpy(views).permute(0, 3, 1, 2) / 255


def verdict_arrays(verdict):
    return [one for one in (verdict.logit, verdict.to_reference, verdict.to_query) if one is not None]


def test_what_is_cached(model, cached):
    assert isinstance(cached, np.ndarray) and cached.dtype == model.stored and len(cached) == 6
    assert torch.equal(model.unpack(model.pack(model.unpack(cached))), model.unpack(cached))


def test_cached_views_are_judged_as_fresh_ones(model, views, cached):
    with torch.inference_mode():
        fresh = model(as_batch(views[:3]), as_batch(views[3:])).numpy()
    assert fresh.shape == (3,) and np.abs(model.judge_views(cached[:3], cached[3:]).logit - fresh).max() < 0.05 * fresh.std()


def test_a_pair_is_judged_alike_in_any_company(model, cached):
    together = verdict_arrays(model.judge_views(cached[:3], cached[3:]))
    alone = verdict_arrays(model.judge_views(cached[1:2], cached[4:5]))
    others = verdict_arrays(model.judge_views(cached[[5, 1, 0, 2]], cached[[5, 4, 3, 3]]))
    for whole, single, mixed in zip(together, alone, others, strict=True):
        assert np.allclose(whole[1], single[0], atol=1e-4) and np.allclose(whole[1], mixed[1], atol=1e-4)


def test_a_view_is_encoded_alike_in_any_company(model, views, cached):
    again = model.unpack(model.encode_views(views[4:5]))
    assert torch.allclose(again[0], model.unpack(cached)[4], rtol=0.01, atol=0.005)  # one step of what is stored


def test_the_order_matters_unless_both_are_looked_at(model, kind, cached):
    there, back = model.judge_views(cached[:3], cached[3:]).logit, model.judge_views(cached[3:], cached[:3]).logit
    if kind == "both orders":
        assert np.allclose(there, back, atol=1e-5)
    else:
        assert (np.abs(there - back) > 1e-3).all()


def test_no_views_and_no_pairs(model, views, cached):
    none = model.encode_views(views[:0])
    assert none.shape == (0, *cached.shape[1:]) and none.dtype == cached.dtype
    whole, empty = verdict_arrays(model.judge_views(cached, cached)), verdict_arrays(model.judge_views(none, none))
    assert [one.shape for one in empty] == [(0, *one.shape[1:]) for one in whole]


def test_judging_while_training_is_judging(kind, model, views, cached):
    training = BUILDERS[kind]()
    training.load_state_dict(model.state_dict())
    assert training.training and all(p.requires_grad for p in training.parameters())
    before = {key: value.clone() for key, value in training.state_dict().items()}
    assert np.array_equal(training.encode_views(views), cached)
    assert np.allclose(training.judge_views(cached[:3], cached[3:]).logit, model.judge_views(cached[:3], cached[3:]).logit, atol=1e-5)
    assert training.training and all(torch.equal(value, before[key]) for key, value in training.state_dict().items())


def test_every_weight_learns(kind):
    model = BUILDERS[kind]()
    query, reference = torch.rand(2, 4, 3, model.size, model.size, generator=torch.Generator().manual_seed(0))
    said = model.judge(model.encode(query), model.encode(reference))
    told = sum(one.log_softmax(-1)[:, :, ::2].sum() for one in (said.to_reference, said.to_query) if one is not None)
    (said.logit.sum() + told).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize("half", [False, True])
def test_saved_and_loaded_it_says_the_same(model, cached, half, tmp_path):
    file = checkpoint.save(tmp_path / "a.safetensors", model, {"data": "drawn"}, half=half)[0]
    loaded = checkpoint.load(file, kind=type(model).__name__)
    assert type(loaded) is type(model) and loaded.arguments == model.arguments and loaded.card["data"] == "drawn"
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    if not half:
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())
    for found, expected in zip(*(verdict_arrays(m.judge_views(cached[:3], cached[3:])) for m in (loaded, model)), strict=True):
        assert np.allclose(found, expected, atol=0.02 if half else 1e-6)
    assert checkpoint.save(tmp_path / "b.safetensors", loaded, {"data": "drawn"}, half=half)[0].read_bytes() == file.read_bytes()


def test_a_folder_for_the_hub_gives_the_same(model, views, tmp_path):
    model.save_pretrained(tmp_path / "mine", card={"licences": ["CC0"]})
    loaded = type(model).from_pretrained(tmp_path / "mine")
    assert np.array_equal(loaded.encode_views(views), model.encode_views(views)) and loaded.card["licences"] == ["CC0"]
    assert torch.equal(loaded(as_batch(views[:3]), as_batch(views[3:])), model(as_batch(views[:3]), as_batch(views[3:])))
    with pytest.raises(MatcherError, match=f"holds a {type(model).__name__}, and a Descriptor"):
        Descriptor.from_pretrained(tmp_path / "mine")


def test_the_same_seed_gives_the_same_weights_and_leaves_torch_alone(kind):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (BUILDERS[kind](seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["verdict.weight"], other["verdict.weight"])
    tower = next(key for key in first if "backbone" in key and first[key].ndim > 1)
    assert not torch.equal(first[tower], other[tower])
