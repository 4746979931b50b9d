"""A loaded model -> the same one, faster, for describing and judging only."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

Model = TypeVar("Model", bound=nn.Module)
NOTHING: tuple[str, list[float], str] = "none", [], ""  # as oneDNN calls activations
ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float], str]] = {
    nn.ReLU: ("relu", [], ""),
    nn.ReLU6: ("hardtanh", [0.0, 6.0], ""),
}


def make_ready(model: Model, run: Callable[[Tensor], Any]) -> Model:
    """Model in eval mode, on the CPU -> itself, faster, on the GPU if there is one; no longer to be saved or trained.

    ``run``: what is done with pictures of the model's size; that shows which module follows which convolution.
    """
    noise = torch.rand(1, 3, model.size, model.size, generator=torch.Generator().manual_seed(0))
    fold_batch_norms(model, lambda: run(noise))
    turn(model, lambda: run(noise))
    model.to(memory_format=torch.channels_last).eval()
    if torch.cuda.is_available():
        return model.to("cuda")
    if torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise"):  # torch's own, not promised to stay
        pack_convolutions(model, lambda: run(noise))
    return model.eval()


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 faster than float32: GPUs that know it, and CPUs with tiles for it (AMX)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16"))


@torch.no_grad()
def turn(model: nn.Module, run: Callable[[], Any]) -> int:
    """Let a network whose strided convolutions pad as TensorFlow's do work on pictures turned by 180 degrees -> convolutions changed.

    Such a convolution pads an even side by one row more behind than before, which torch does with a copy of every map. Turned, with its
    kernel, it asks for one row more before, and that is what torch's own padding gives: the row too many behind is never reached.
    Nothing is changed where the numbers would.
    """
    from timm.layers import Conv2dSame

    backbone: Any = getattr(model, "backbone", None)
    convs = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    same = [type(conv) is Conv2dSame for _, conv in convs]
    if backbone is None or not any(same):
        return 0
    if not all(is_same or is_centred(conv) for is_same, (_, conv) in zip(same, convs, strict=True)):
        return 0
    before = run()
    for name, conv in convs:
        put(model, name, turn_convolution(conv))
    backbone.turned = True
    if torch.allclose(run(), before, rtol=0, atol=1e-4 * float(before.abs().max())):
        return len(convs)
    for name, conv in convs:
        put(model, name, conv)
    backbone.turned = False
    return 0


def half_kernel(conv: nn.Conv2d) -> tuple[int, ...]:
    """Convolution -> rows and columns of padding that put its kernel's middle on the first pixel."""
    return tuple(step * (side // 2) for step, side in zip(conv.dilation, conv.kernel_size, strict=True))


def is_centred(conv: nn.Conv2d) -> bool:
    """Whether that is how it pads, with zeros."""
    return type(conv) is nn.Conv2d and conv.padding == half_kernel(conv) and conv.padding_mode == "zeros"


def turn_convolution(conv: nn.Conv2d) -> nn.Conv2d:
    """Convolution -> the one for turned pictures, padded by half of its kernel on every side."""
    shape: Any = {"stride": conv.stride, "padding": half_kernel(conv), "dilation": conv.dilation, "groups": conv.groups}
    turned = nn.utils.skip_init(nn.Conv2d, conv.in_channels, conv.out_channels, conv.kernel_size, bias=conv.bias is not None, **shape)
    turned.weight, turned.bias = nn.Parameter(conv.weight.flip(2, 3), requires_grad=False), conv.bias
    return turned


class PackedConvolution(nn.Module):
    """A convolution and the activation after it, in one call of oneDNN, the weights laid out for it once and not in each call."""

    def __init__(self, conv: nn.Conv2d, activation: nn.Module | None) -> None:
        super().__init__()
        self.how = list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(conv.weight, *self.how)
        self.bias, self.then = conv.bias, NOTHING if activation is None else ACTIVATIONS[type(activation)]

    def forward(self, maps: Tensor) -> Tensor:
        return torch.ops.mkldnn._convolution_pointwise(maps, self.weight, self.bias, *self.how, *self.then)


@torch.no_grad()
def pack_convolutions(model: nn.Module, run: Callable[[], Any]) -> int:
    """Lay out the weights of convolutions for oneDNN, with the activation that follows -> convolutions packed; for CPUs."""
    names = {module: name for name, module in model.named_modules()}
    pairs = {conv: after for conv, after in find_pairs(model, run, tuple(ACTIVATIONS)) if type(after) in ACTIVATIONS}
    plain = [conv for conv in names if type(conv) is nn.Conv2d and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)]
    for conv in plain:
        activation = pairs.get(conv)
        put(model, names[conv], PackedConvolution(conv, activation))
        if activation is not None:
            put(model, names[activation], nn.Identity())
    return len(plain)


def fold_batch_norms(model: nn.Module, run: Callable[[], Any]) -> int:
    """Multiply batch norms into the convolutions that they follow -> how many; EfficientNet-Lite0 takes half the time so.

    What is called more than once, or does not follow directly, stays as it is.
    """
    names = {module: name for name, module in model.named_modules()}
    pairs = find_pairs(model, run, (nn.BatchNorm2d,))
    for conv, norm in pairs:
        measured = norm.running_mean, norm.running_var, norm.eps
        weight, bias = fuse_conv_bn_weights(conv.weight, conv.bias, *measured, norm.weight, norm.bias)
        conv.weight, conv.bias = weight.requires_grad_(False), bias.requires_grad_(False)
        put(model, names[norm], getattr(norm, "act", nn.Identity()))  # timm's BatchNormAct2d brings its activation
    return len(pairs)


@torch.no_grad()
def find_pairs(model: nn.Module, run: Callable[[], Any], kinds: tuple[type[nn.Module], ...]) -> list[tuple[nn.Conv2d, Any]]:
    """Run a model -> its convolutions and the modules of those kinds that take what they give, in the order of the run."""
    calls: list[tuple[nn.Module, Tensor, int]] = []  # convolutions and what they gave, the others and what they took; its changes so far

    def gave(module: nn.Module, _: object, output: Tensor) -> None:
        calls.append((module, output, output._version))

    def took(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        calls.append((module, inputs[0], inputs[0]._version))

    hooks = [module.register_forward_hook(gave) for module in model.modules() if isinstance(module, nn.Conv2d)]
    hooks += [module.register_forward_pre_hook(took) for module in model.modules() if isinstance(module, kinds)]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    called = [module for module, *_ in calls]
    return [
        (conv, after)
        for (conv, given, then), (after, taken, now) in pairwise(calls)
        if isinstance(conv, nn.Conv2d) and isinstance(after, kinds) and given is taken and then == now
        if called.count(conv) == called.count(after) == 1
    ]


def put(model: nn.Module, name: str, module: nn.Module) -> None:
    """Another module under a name."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
