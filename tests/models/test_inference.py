"""Batch norms folded into convolutions: the same numbers, and nothing folded that does not follow."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from matcher.models.inference import fold_batch_norms


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
