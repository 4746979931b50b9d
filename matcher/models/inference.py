"""A loaded model -> the same one, faster, for describing and judging only."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

Model = TypeVar("Model", bound=nn.Module)


def make_ready(model: Model, run: Callable[[Tensor], Any]) -> Model:
    """Model in eval mode, on the CPU -> itself, its batch norms folded, channels last, on the GPU if there is one; no longer to be saved.

    ``run``: what is done with pictures of the model's size; that shows which batch norm follows which convolution.
    """
    fold_batch_norms(model, lambda: run(torch.zeros(1, 3, model.size, model.size)))
    return model.to(memory_format=torch.channels_last).to("cuda" if torch.cuda.is_available() else "cpu")


def fold_batch_norms(model: nn.Module, run: Callable[[], Any]) -> int:
    """Multiply batch norms into the convolutions that they follow -> how many; EfficientNet-Lite0 takes half the time so.

    What is called more than once, or does not follow directly, stays as it is.
    """
    names = {module: name for name, module in model.named_modules()}
    pairs = find_pairs(model, run)
    for conv, norm in pairs:
        measured = norm.running_mean, norm.running_var, norm.eps
        weight, bias = fuse_conv_bn_weights(conv.weight, conv.bias, *measured, norm.weight, norm.bias)
        conv.weight, conv.bias = weight.requires_grad_(False), bias.requires_grad_(False)
        parent, _, child = names[norm].rpartition(".")
        setattr(model.get_submodule(parent), child, getattr(norm, "act", nn.Identity()))  # timm's BatchNormAct2d brings its activation
    return len(pairs)


@torch.inference_mode()
def find_pairs(model: nn.Module, run: Callable[[], Any]) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Run a model -> its convolutions and the batch norms that take what they give, in the order of the run."""
    calls: list[tuple[nn.Module, Tensor]] = []  # convolutions and what they gave, batch norms and what they took

    def gave(module: nn.Module, _: object, output: Tensor) -> None:
        calls.append((module, output))

    def took(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        calls.append((module, inputs[0]))

    hooks = [module.register_forward_hook(gave) for module in model.modules() if isinstance(module, nn.Conv2d)]
    hooks += [module.register_forward_pre_hook(took) for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    called = [module for module, _ in calls]
    return [
        (conv, norm)
        for (conv, given), (norm, taken) in pairwise(calls)
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and given is taken
        if called.count(conv) == called.count(norm) == 1
    ]
