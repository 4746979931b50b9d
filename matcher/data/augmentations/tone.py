"""Edits of colour and light: planned as numbers, then done to the chosen rows only; (R, 3, H, W) in 0..1 in and out."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from matcher.data.augmentations.dice import Dice
from matcher.data.augmentations.plan import Plan, choose

LUMA = (0.299, 0.587, 0.114)
SEPIA = ((0.393, 0.769, 0.189), (0.349, 0.686, 0.168), (0.272, 0.534, 0.131))
FILTERS = ("sepia", "duotone", "cast", "posterise", "solarise", "invert")
FILTER_WEIGHTS = (2, 2, 2, 1, 1, 1)


def plan_tones(plan: Plan, dice: Dice, fired: dict[str, Tensor]) -> None:
    """Draw the numbers of all colour edits: one colour matrix (B, 3, 4) for most of them, and what is not linear."""
    count, device = dice.count, dice.device
    luma = torch.tensor(LUMA, device=device).expand(count, 3, 3)
    eye = torch.eye(3, device=device).expand(count, 3, 3)
    reach = dice.strength(0.1, 0.7)[:, None]
    gain, contrast, saturation = (1 + dice.uniform(-1, 1, 3) * reach)[..., None].unbind(1)
    jitter = saturation[..., None] * eye + (1 - saturation[..., None]) * luma
    jitter = (gain * contrast)[..., None] * (jitter @ turned_hue(dice.uniform(-1, 1) * reach[:, 0] * 2.4))
    matrix = choose(fired["jitter"], jitter, eye)
    middle = choose(fired["jitter"], gain * (1 - contrast), torch.zeros_like(gain))  # times the mean of the picture
    grey = choose(dice.coin(0.5), torch.ones(count, 1, device=device), dice.uniform(0.8, 1.6, 1))
    matrix = choose(fired["gray"], grey[..., None] * luma @ matrix, matrix)
    middle = choose(fired["gray"], grey * middle + (1 - grey), middle)
    light = choose(dice.coin(0.7), dice.logarithmic(0.65, 0.12), 1 / dice.strength(0.8, 0.4))
    light = torch.where(fired["dark"], light, 1.0)[:, None]
    plan.numbers |= {"colour matrix": light[..., None] * matrix, "mean share": light * middle}
    plan.numbers |= {"filter": dice.pick(range(len(FILTERS)), FILTER_WEIGHTS), "filter share": dice.strength(0.35, 1.0)}
    plan.numbers |= {"ramp": dice.uniform(0, 1, 2, 3), "levels": dice.strength(10, 3).round(), "threshold": dice.strength(0.9, 0.35)}
    plan.numbers["tone first"] = dice.coin(0.4)


def turned_hue(radians: Tensor) -> Tensor:
    """Rotations of the colours around the grey axis: (B,) -> (B, 3, 3)."""
    r = 1 / math.sqrt(3)
    cross = torch.tensor([[0, -r, r], [r, 0, -r], [-r, r, 0]], device=radians.device)
    eye, axis = torch.eye(3, device=radians.device), torch.full((3, 3), 1 / 3, device=radians.device)
    cos, sin = radians.cos()[:, None, None], radians.sin()[:, None, None]
    return cos * eye + sin * cross + (1 - cos) * axis


def recolour(pixels: Tensor, rows: Tensor, plan: Plan) -> Tensor:
    """Pixels (B, 3, H, W) with the colour edits of the chosen rows (B,) bool."""
    linear = rows & (plan.fired["jitter"] | plan.fired["gray"] | plan.fired["dark"])
    if len(at := linear.nonzero()[:, 0]):
        chosen = pixels[at]
        offset = plan.numbers["mean share"][at] * chosen.mean((1, 2, 3))[:, None]
        mixed = torch.baddbmm(offset[:, :, None], plan.numbers["colour matrix"][at], chosen.flatten(2))
        pixels[at] = mixed.clamp_(0, 1).view_as(chosen)
    filtered = rows & plan.fired["filter"]
    for number, name in enumerate(FILTERS):
        if len(at := (filtered & (plan.numbers["filter"] == number)).nonzero()[:, 0]):
            share = plan.numbers["filter share"][at, None, None, None]
            pixels[at] = torch.lerp(pixels[at], through(name, pixels[at], plan, at), share).clamp_(0, 1)
    return pixels


def through(name: str, pixels: Tensor, plan: Plan, at: Tensor) -> Tensor:
    """Pixels (R, 3, H, W) through one filter at full strength."""
    ramp = plan.numbers["ramp"][at][..., None, None]  # (R, 2, 3, 1, 1)
    if name == "sepia":
        return torch.einsum("dc,rchw->rdhw", torch.tensor(SEPIA, device=pixels.device), pixels)
    if name == "duotone":
        light = torch.einsum("c,rchw->rhw", torch.tensor(LUMA, device=pixels.device), pixels)[:, None]
        return torch.lerp(0.4 * ramp[:, 0], 0.6 + 0.4 * ramp[:, 1], light)
    if name == "cast":
        return pixels * (0.5 + 0.8 * ramp[:, 0]) + 0.15 * ramp[:, 1]
    if name == "posterise":
        levels = plan.numbers["levels"][at, None, None, None] - 1
        return (pixels * levels).round() / levels
    if name == "solarise":
        return torch.where(pixels > plan.numbers["threshold"][at, None, None, None], 1 - pixels, pixels)
    return 1 - pixels
