"""Models made ready: batch norms folded, maps turned, convolutions packed. The same numbers, and nothing changed that must not be."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import timm
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn

from matcher.describe import load_model
from matcher.models import checkpoint
from matcher.models.cards import find_model
from matcher.models.descriptor import Descriptor
from matcher.models.inference import PackedConvolution, fold_batch_norms, pack_convolutions, turn
from matcher.models.pair_model import read_verdict
from matcher.models.token_fusion import TokenFusion
from matcher.scoring.encoded_views import AT_ONCE
from matcher.scoring.pair_model import ROOMS, load_pair_model
from matcher.settings import DescriptorSettings, PairModelSettings

ON_CPU = pytest.mark.skipif(
    torch.cuda.is_available() or not torch.backends.mkldnn.is_available(), reason="convolutions are packed for CPUs"
)


def stir(model: nn.Module) -> nn.Module:
    """Batch norms as after training: no mean is 0, no variance 1."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18", "mobilenetv4_conv_small", "test_vit"])
def test_numbers_stay(name: str) -> None:
    model = stir(timm.create_model(name, num_classes=5))
    size = 160 if name == "test_vit" else 64
    pictures = torch.rand(2, 3, size, size)
    before = model(pictures)
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert fold_batch_norms(model, lambda: model(pictures)) == norms
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    torch.testing.assert_close(model(pictures), before, rtol=1e-4, atol=1e-4 * float(before.abs().max()))


class Odd(nn.Module):
    """A convolution that is used twice, and one whose output is changed before its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.other, self.late = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, batch: Tensor) -> Tensor:
        batch = self.twice(self.norm(self.twice(batch)))
        return self.late(self.other(batch).relu())


def test_what_does_not_follow_stays() -> None:
    model, pictures = stir(Odd()), torch.rand(2, 3, 8, 8)
    before = model(pictures)
    assert fold_batch_norms(model, lambda: model(pictures)) == 0
    torch.testing.assert_close(model(pictures), before)


@pytest.mark.parametrize(
    ("name", "size"), [("tf_efficientnet_lite0", 64), ("tf_efficientnet_lite0", 75), ("tf_mobilenetv3_small_minimal_100", 50)]
)
def test_a_turned_network_describes_and_places_the_same(name: str, size: int) -> None:
    pictures = torch.rand(2, 3, size, size)
    descriptor = Descriptor.build(f"timm:{name}", size=size, dim=None, pooling="gem")
    stir(descriptor)
    tower = TokenFusion.build(f"timm:{name}", size=64, depth=2, width=12, joint=1)
    stir(tower)
    placed = torch.rand(2, 3, 64, 64)
    before = descriptor.backbone.tokens(pictures), descriptor(pictures), tower.encode(placed)
    assert all(turn(model, run) for model, run in ((descriptor, lambda: descriptor(pictures)), (tower, lambda: tower.encode(placed))))
    assert not any(isinstance(module, Conv2dSame) for model in (descriptor, tower) for module in model.modules())
    for now, then in zip((descriptor.backbone.tokens(pictures), descriptor(pictures), tower.encode(placed)), before, strict=True):
        torch.testing.assert_close(now, then, rtol=1e-4, atol=1e-4 * float(then.abs().max()))


class Strided(nn.Module):
    """One convolution that pads as TensorFlow's, and one that does not and skips pixels: turned, it would look at others."""

    def __init__(self) -> None:
        super().__init__()
        self.turned = False
        self.same, self.other = Conv2dSame(3, 4, 3, stride=2), nn.Conv2d(4, 4, 3, stride=2, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        maps = self.other(self.same(pictures.flip(2, 3) if self.turned else pictures))
        return maps.flip(2, 3) if self.turned else maps


def test_what_would_give_other_numbers_is_not_turned() -> None:
    model, pictures = nn.Module(), torch.rand(1, 3, 32, 32)
    model.backbone = Strided().eval().requires_grad_(False)
    before = model.backbone(pictures)
    assert turn(model, lambda: model.backbone(pictures)) == 0
    assert not model.backbone.turned and isinstance(model.backbone.same, Conv2dSame)
    assert torch.equal(model.backbone(pictures), before)


def test_a_network_with_other_padding_is_not_turned() -> None:
    model, pictures = nn.Module(), torch.rand(1, 3, 32, 32)
    model.backbone = Strided().eval().requires_grad_(False)
    model.backbone.other.padding = (0, 0)
    assert turn(model, lambda: model.backbone(pictures)) == 0 and isinstance(model.backbone.same, Conv2dSame)


@ON_CPU
@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18", "mobilenetv4_conv_small", "test_vit"])
def test_packed_convolutions_give_the_same_numbers(name: str) -> None:
    model = stir(timm.create_model(name, num_classes=5))
    size = 160 if name == "test_vit" else 64
    pictures = torch.rand(2, 3, size, size)
    fold_batch_norms(model, lambda: model(pictures))
    before, plain = model(pictures), sum(type(module) is nn.Conv2d for module in model.modules())
    assert pack_convolutions(model, lambda: model(pictures)) == plain
    assert sum(isinstance(module, PackedConvolution) for module in model.modules()) == plain
    left = sum(type(module) in (nn.ReLU, nn.ReLU6) for module in model.modules())
    assert left == {"tf_efficientnet_lite0": 5, "resnet18": 8}.get(name, 0)  # after convolutions that pad by themselves; after sums
    torch.testing.assert_close(model(pictures), before, rtol=1e-4, atol=1e-4 * float(before.abs().max()))


@ON_CPU
def test_an_activation_that_takes_something_else_stays() -> None:
    model, pictures = stir(Odd()), torch.rand(2, 3, 8, 8)
    model.late = nn.ReLU()
    before = model(pictures)
    assert pack_convolutions(model, lambda: model(pictures)) == 2
    assert isinstance(model.late, nn.ReLU)  # it takes what is not a convolution's any more
    torch.testing.assert_close(model(pictures), before)


def views(count: int, size: int) -> np.ndarray:
    """Smooth random pictures (count, size, size, 3)."""
    coarse = torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    fine = nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)
    return (fine.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()


@pytest.mark.parametrize("name", ["copydetect", "mobilenet"])
def test_the_descriptors_that_ship_describe_as_they_were_trained(name: str) -> None:
    settings = DescriptorSettings(backbone=name)
    trained, ready = Descriptor.from_settings(settings), load_model(settings)
    pixels = views(8, trained.size)
    assert np.abs(trained.describe(pixels) - ready.describe(pixels)).max() < 1e-5
    assert not any(module.training for module in ready.modules())


def test_the_pair_model_that_ships_judges_as_it_was_trained() -> None:
    trained, ready = (
        checkpoint.load(find_model("token_fusion/copydetect", ROOMS)),
        load_pair_model(PairModelSettings("token_fusion/copydetect", precision="float32")),
    )
    pixels = views(8, trained.size)
    first, second = (model.judge_views(kept := model.encode_views(pixels), np.roll(kept, 1, axis=0)) for model in (trained, ready))
    assert np.abs(first.logit - second.logit).max() < 5e-3  # tokens are kept in bfloat16, where the last bit of some falls otherwise
    assert np.abs(first.to_reference - second.to_reference).max() < 5e-3


def test_bfloat16_is_near_and_no_two_logits_tie() -> None:
    exact, fast = (load_pair_model(PairModelSettings("token_fusion/copydetect", precision=kind)) for kind in ("float32", "bfloat16"))
    kept = exact.encode_views(views(24, exact.size))
    first, second = (model.judge_views(kept, np.roll(kept, 1, axis=0)) for model in (exact, fast))
    assert 0 < np.abs(first.logit - second.logit).max() < 0.05 < first.logit.std()
    assert np.abs(first.to_reference - second.to_reference).max() < 0.05
    assert second.logit.dtype == np.float32 and len(set(second.logit)) == 24


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_a_logit_depends_on_no_neighbour_and_no_thread(kind: str) -> None:
    settings = PairModelSettings("token_fusion/copydetect", precision=kind)
    model, threads = load_pair_model(settings), torch.get_num_threads()
    kept = model.encode_views(views(2 * settings.batch_size, model.size))
    torch.set_num_threads(1)
    try:
        orders = [np.random.default_rng(seed).permutation(len(kept)) for seed in range(4)]

        def judge(order: np.ndarray) -> np.ndarray:
            sides = kept[order], np.roll(kept, 1, axis=0)[order]
            parts = zip(*(np.split(side, 2) for side in sides), strict=True)
            return np.concatenate([model.judge_views(*part).logit for part in parts])[np.argsort(order)]

        alone = judge(np.arange(len(kept)))
        with ThreadPoolExecutor(2) as pool:
            assert all(np.array_equal(alone, found) for found in pool.map(judge, orders))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("count", [1, 3, 5, 7])
def test_a_layer_with_one_output_gives_the_same_bits_in_every_row(count: int) -> None:
    layer, rows = torch.nn.Linear(132, 1), torch.randn(64, count, 132, generator=torch.Generator().manual_seed(0))
    given = [torch.stack([read_verdict(layer, some.roll(turns, 0)).roll(-turns, 0) for some in rows]) for turns in range(count)]
    assert all(torch.equal(given[0], other) for other in given) and torch.allclose(given[0], layer(rows)[..., 0], atol=1e-5)


@pytest.mark.parametrize("tiles", [False, True])
def test_auto_takes_bfloat16_where_it_is_faster(tiles: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": tiles})
    found = load_pair_model(PairModelSettings("token_fusion/copydetect"))
    assert found.precision == (torch.bfloat16 if tiles else torch.float32)


def test_bits_depend_on_no_neighbour_and_no_thread() -> None:
    model = load_pair_model(PairModelSettings("token_fusion/copydetect"))
    pixels, threads = views(2 * AT_ONCE, model.size), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        orders = [np.random.default_rng(seed).permutation(len(pixels)) for seed in range(4)]

        def encode(order: np.ndarray) -> np.ndarray:
            kept = np.concatenate([model.encode_views(pixels[part]) for part in np.split(order, 2)])
            return kept[np.argsort(order)]

        alone = encode(np.arange(len(pixels)))
        with ThreadPoolExecutor(2) as pool:
            assert all(np.array_equal(alone, kept) for kept in pool.map(encode, orders))
    finally:
        torch.set_num_threads(threads)
