"""Edits that cost detail, done to the chosen rows of the finished pictures: (R, 3, S, S) in 0..1 in and out.

Lengths are shares of the side, so an edit looks the same at every size. Each takes (pixels, strengths, generator):
strengths (R,) in 0..1, mild to strong.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import kornia
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Damage = Callable[[Tensor, Tensor, torch.Generator], Tensor]


def rand(like: Tensor, generator: torch.Generator, *shape: int) -> Tensor:
    """Numbers 0..1: (R, *shape), on the pixels' device."""
    return torch.rand((len(like), *shape), generator=generator, device=like.device)


def between(strength: Tensor, mild: float, strong: float) -> Tensor:
    """Strengths 0..1 -> from mild to strong on a logarithmic scale, (R,)."""
    return (math.log(mild) + strength * (math.log(strong) - math.log(mild))).exp()


def scale(pixels: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Made smaller, 70 % (mild) down to 20 % (strong), and large again."""
    side, result = pixels.shape[-1], pixels.clone()
    sides = (side * between(strength, 0.7, 0.2) / 4).round().clamp(min=2).long() * 4
    for small in sides.unique().tolist():
        at = (sides == small).nonzero()[:, 0]
        shrunk = F.interpolate(pixels[at], size=(small, small), mode="area")
        result[at] = F.interpolate(shrunk, size=(side, side), mode="bilinear", align_corners=False)
    return result


def blur(pixels: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian of 0.4 % (mild) to 2.8 % (strong) of the side, or (one in four) along a line three times as long."""
    sigma = between(strength, 0.004, 0.028) * pixels.shape[-1]
    angle = rand(pixels, generator) * math.pi
    result = gaussian(pixels, sigma)
    if len(at := (rand(pixels, generator) < 0.25).nonzero()[:, 0]):
        result[at] = along(pixels[at], 1.7 * sigma[at], angle[at])
    return result


def gaussian(pixels: Tensor, sigma: Tensor) -> Tensor:
    """Each row blurred by its own sigma (R,) pixels."""
    reach = max(1, math.ceil(2.5 * float(sigma.max())))
    steps = torch.arange(-reach, reach + 1, device=pixels.device)
    kernel = (-0.5 * (steps / sigma[:, None].clamp(min=1e-3)) ** 2).exp()
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, dim=0)  # (3R, K)
    flat = pixels.reshape(1, -1, *pixels.shape[2:])
    padded = F.pad(flat, (reach, reach, reach, reach), mode="replicate")
    down = F.conv2d(padded, kernel[:, None, :, None], groups=len(kernel))
    return F.conv2d(down, kernel[:, None, None, :], groups=len(kernel)).view_as(pixels)


def along(pixels: Tensor, sigma: Tensor, angle: Tensor) -> Tensor:
    """Motion blur: the mean of seven copies shifted along a line of +-1.5 sigma pixels."""
    side, result = pixels.shape[-1], torch.zeros_like(pixels)
    whole = torch.eye(2, 3, device=pixels.device).repeat(len(pixels), 1, 1)
    for step in torch.linspace(-1.5, 1.5, 7).tolist():
        whole[:, 0, 2] = 2 * step * sigma * angle.cos() / side
        whole[:, 1, 2] = 2 * step * sigma * angle.sin() / side
        grid = F.affine_grid(whole, list(pixels.shape), align_corners=False)
        result += F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    return result / 7


def pixel(pixels: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """A mosaic of 64 (mild) down to 18 (strong) cells a side, at least two pixels each; one in three is smoothed."""
    side, result = pixels.shape[-1], pixels.clone()
    cells = between(strength, 64, 18).round().long().clamp(max=side // 2)
    smooth = rand(pixels, generator) < 0.33
    for number in cells.unique().tolist():
        at = (cells == number).nonzero()[:, 0]
        coarse = F.adaptive_avg_pool2d(pixels[at], number)
        square = F.interpolate(coarse, size=(side, side), mode="nearest-exact")
        soft = F.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=False)
        result[at] = torch.where(smooth[at, None, None, None], soft, square)
    return result


def shuffle(pixels: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """A share of the pixels, 4 % (mild) to 45 % (strong), replaced by others from the same picture."""
    side = pixels.shape[-1]
    chosen = rand(pixels, generator, side * side) < (0.04 + 0.41 * strength)[:, None]
    place = (rand(pixels, generator, side * side) * side * side).long().clamp(max=side * side - 1)
    flat = pixels.flatten(2)
    moved = flat.gather(2, place[:, None].expand(-1, 3, -1))
    return torch.where(chosen[:, None], moved, flat).view_as(pixels)


def noise(pixels: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian noise (sigma 0.03 to 0.25), grain that is the same in all channels, or pixels gone black and white."""
    kind, sigma = rand(pixels, generator, 1, 1, 1), (0.03 + 0.22 * strength)[:, None, None, None]
    each = torch.randn(pixels.shape, generator=generator, device=pixels.device)
    grain = torch.where(kind < 0.2, each[:, :1], each)
    hit = rand(pixels, generator, 1, *pixels.shape[2:])
    salted = torch.where(hit < 0.6 * sigma, 0.0, torch.where(hit > 1 - 0.6 * sigma, 1.0, pixels))
    return torch.where(kind > 0.8, salted, (pixels + sigma * grain).clamp(0, 1))


def sharpen(pixels: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Unsharp mask of 150 % (mild) to 1,200 % (strong)."""
    soft = gaussian(pixels, (0.8 + 1.2 * rand(pixels, generator)) * pixels.shape[-1] / 128)
    return (pixels + between(strength, 1.5, 12.0)[:, None, None, None] * (pixels - soft)).clamp(0, 1)


def edges(pixels: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Edges drawn out by a Laplacian, one time in five embossed: added with a weight of 0.4 (mild) to 3 (strong)."""
    weight = between(strength, 0.4, 3.0)[:, None, None, None]
    padded = F.pad(pixels, (1, 1, 1, 1), mode="replicate")
    laplace = (pixels - F.avg_pool2d(padded, 3, stride=1)) * 2.25
    emboss = padded[..., 2:, 2:] - padded[..., :-2, :-2]
    return (pixels + weight * torch.where(rand(pixels, generator, 1, 1, 1) < 0.2, emboss, laplace)).clamp(0, 1)


def screen(pixels: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Seen on a screen by a camera: moire, light from one side, a bright spot, a colour cast, some blur and noise."""
    side, count = pixels.shape[-1], len(pixels)
    line = (torch.arange(side, device=pixels.device) + 0.5) / side
    y, x = line[None, None, :, None], line[None, None, None, :]
    draws = rand(pixels, generator, 16, 1, 1, 1).unbind(1)
    force = strength[:, None, None, None]
    waves = torch.ones_like(pixels)
    lag = torch.tensor([0.0, 0.7, 1.4], device=pixels.device)[None, :, None, None]
    for period, turn, bend in (draws[:3], draws[3:6]):
        angle, frequency = turn * math.pi, 2 * math.pi * side / (2.4 + 7 * period)
        phase = frequency * (x * angle.cos() + y * angle.sin()) + 3 * (bend - 0.5) * (x - y) ** 2
        waves += (0.03 + 0.17 * force * draws[6]) * (phase + lag).cos()
    light = 1 + 0.7 * force * ((x - 0.5) * (2 * math.pi * draws[7]).cos() + (y - 0.5) * (2 * math.pi * draws[7]).sin())
    spot = (-((x - draws[8]) ** 2 + (y - draws[9]) ** 2) / (2 * (0.1 + 0.25 * draws[10]) ** 2)).exp()
    cast = 1 + 0.3 * (torch.cat([draws[11], draws[12], draws[13]], dim=1) - 0.5) * (0.3 + force)
    lit = pixels * waves * light * cast * (0.75 + 0.4 * draws[14]) + 0.25 * force * draws[15] * spot
    soft = gaussian(lit, (0.3 + 0.6 * strength) * side / 160)
    return (soft + (0.004 + 0.03 * force) * torch.randn((count, 3, side, side), generator=generator, device=pixels.device)).clamp(0, 1)


def jpeg(pixels: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Saved as JPEG of quality 75 (mild) down to 5 (strong)."""
    return saved(pixels, between(strength, 75, 5))


def resave(pixels: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Saved once more, at quality 60 to 95."""
    return saved(pixels, 60 + 35 * rand(pixels, generator))


def saved(pixels: Tensor, quality: Tensor) -> Tensor:
    """Through JPEG of a quality (R,) 1..100: by the library on a CPU, by the same arithmetic in a batch on another device."""
    if pixels.device.type != "cpu":
        return kornia.enhance.jpeg_codec_differentiable(pixels, quality).clamp(0, 1)
    whole = (pixels * 255).round().to(torch.uint8).flip(1).permute(0, 2, 3, 1).contiguous().numpy()  # (R, S, S, BGR)
    files = [cv2.imencode(".jpg", one, [cv2.IMWRITE_JPEG_QUALITY, round(q)])[1] for one, q in zip(whole, quality.tolist(), strict=True)]
    back = np.stack([np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR)) for file in files])
    return torch.from_numpy(back).permute(0, 3, 1, 2).flip(1).float() / 255


DAMAGES: dict[str, Damage] = {
    "scale": scale,
    "blur": blur,
    "sharpen": sharpen,
    "edges": edges,
    "pixel": pixel,
    "recapture": screen,
    "noise": noise,
    "shuffle": shuffle,
    "jpeg": jpeg,
    "resave": resave,
}


def damaged(pixels: Tensor, fired: dict[str, Tensor], strength: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    """Pixels (B, 3, S, S) after the damage that fired (B,) in their rows, in the order above."""
    for name, damage in DAMAGES.items():
        if len(at := fired[name].nonzero()[:, 0]):
            pixels[at] = damage(pixels[at], strength[name][at], generator)
    return pixels
