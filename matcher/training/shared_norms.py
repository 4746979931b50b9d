"""Batch norm over the rows of all processes, on any device (torch's SyncBatchNorm knows GPUs only, and drops timm's activations)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm


def share_norms(model: nn.Module) -> None:
    """A model -> from now on each of its batch norms, while it trains, takes the statistics of what all processes give it.

    A change of behaviour, not of modules: names, weights and the file of the model stay. Every process must use every norm.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.forward = partial(normalise, module, type(module).forward)


def normalise(module: Any, alone: Any, x: Tensor) -> Tensor:
    """A batch norm, its own way of going forward, and its input (B, C, ...) -> its output (B, C, ...)."""
    if not module.training:
        return alone(module, x)
    values = x.float()
    dims = [axis for axis in range(x.ndim) if axis != 1]
    shape = [1, -1] + [1] * (x.ndim - 2)
    count = Sum.apply(values.new_tensor(x.numel() / x.shape[1]))
    mean = Sum.apply(values.sum(dims)) / count
    variance = Sum.apply((values - mean.view(shape)).square().sum(dims)) / count
    remember(module, mean.detach(), variance.detach() * count / (count - 1))
    scale = torch.rsqrt(variance + module.eps)
    scale = scale if module.weight is None else scale * module.weight
    shift = -mean * scale if module.bias is None else module.bias - mean * scale
    normal = (values * scale.view(shape) + shift.view(shape)).to(x.dtype)
    return module.act(module.drop(normal)) if isinstance(module, BatchNormAct2d) else normal


@torch.no_grad()
def remember(module: Any, mean: Tensor, variance: Tensor) -> None:
    """Moves the running statistics as torch's own batch norm does."""
    if module.running_mean is None:
        return
    module.num_batches_tracked += 1
    share = 1 / float(module.num_batches_tracked) if module.momentum is None else module.momentum
    module.running_mean.lerp_(mean.to(module.running_mean), share)
    module.running_var.lerp_(variance.to(module.running_var), share)


class Sum(torch.autograd.Function):
    """The sum over all processes; so is its gradient (see ``devices.gather``)."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return summed(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return summed(gradient)


def summed(value: Tensor) -> Tensor:
    """A tensor -> the sum of those of all processes."""
    total = value.contiguous().clone()
    distributed.all_reduce(total)
    return total
