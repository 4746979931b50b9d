"""Edits that move the whole canvas: crop, flips, turns, rotation, other aspect, perspective. Each takes (plan, dice, on)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from matcher.data.augmentations import homography
from matcher.data.augmentations.dice import Dice
from matcher.data.augmentations.plan import Plan, somewhere


def crop(plan: Plan, dice: Dice, on: Tensor) -> None:
    """Cut to 90 % (mild) down to 8 % (strong) of the area."""
    area, slant = dice.logarithmic(0.9, 0.08), dice.uniform(-0.35, 0.35).exp()
    width, height = (area.sqrt() * slant).clamp(max=1.0), (area.sqrt() / slant).clamp(max=1.0)
    plan.cut(on, somewhere(dice, width, height))


def hflip(plan: Plan, dice: Dice, on: Tensor) -> None:
    """Left becomes right."""
    one = torch.ones(dice.count, device=dice.device)
    plan.move(on, homography.centred(homography.scaling(-one, one)))


def vflip(plan: Plan, dice: Dice, on: Tensor) -> None:
    """Top becomes bottom."""
    one = torch.ones(dice.count, device=dice.device)
    plan.move(on, homography.centred(homography.scaling(one, -one)))


def turn(plan: Plan, dice: Dice, on: Tensor) -> None:
    """By 90, 180 or 270 degrees."""
    quarters = dice.pick((1, 2, 3), (2, 1, 2))
    frame = homography.centred(homography.rotation(quarters * (math.pi / 2)).round())
    plan.move(on, frame, torch.where(quarters == 2, plan.aspect, 1 / plan.aspect))


def aspect(plan: Plan, dice: Dice, on: Tensor) -> None:
    """Stretched by 1.1 (mild) to 2.5 (strong), one way or the other: on unit squares nothing moves."""
    plan.aspect = torch.where(on, plan.aspect * dice.logarithmic(1.1, 2.5) ** dice.sign(), plan.aspect)


def rotate(plan: Plan, dice: Dice, on: Tensor) -> None:
    """By 2 (mild) to 45 degrees or (one in five) anything; the corners stay on the canvas, or it is cut some way in."""
    radians = torch.where(dice.coin(0.2 * dice.reach), dice.uniform(0, math.pi), dice.strength(0.035, math.pi / 4)) * dice.sign()
    turned = torch.where(dice.coin(0.35), dice.uniform(0.7, 1.0), 1.0)
    width, height = plan.aspect.sqrt(), plan.aspect.rsqrt()
    cos, sin = radians.cos().abs(), radians.sin().abs()
    wide, high = turned * (width * cos + height * sin), turned * (width * sin + height * cos)
    frame = homography.scaling(1 / wide, 1 / high) @ homography.rotation(radians) @ homography.scaling(width, height)
    plan.move(on, homography.centred(frame), wide / high)


def perspective(plan: Plan, dice: Dice, on: Tensor) -> None:
    """Each corner moves inwards by up to 4 % (mild) to 30 % (strong) of the sides, or (one in three) is pulled over the edge."""
    reach = dice.strength(0.04, 0.3)
    inwards = dice.uniform(0.0, 1.0, 4, 2) * reach[:, None, None]
    outwards = torch.where(dice.coin(0.33), 0.6 * reach, 0.0)[:, None, None]
    direction = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]], device=dice.device)
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], device=dice.device)
    plan.move(on, homography.to_corners(square + direction * (inwards - outwards)))


def pad(plan: Plan, dice: Dice, on: Tensor) -> None:
    """A border of one colour: 3 % (mild) to 45 % (strong) of a side, even or not, or only above and below."""
    reach = dice.strength(0.03, 0.45)
    even = dice.coin(0.4)[:, None]
    share = torch.where(even, reach[:, None], dice.uniform(0.0, 1.0, 4) * reach[:, None])
    keep = dice.pick((0, 1, 2), (3, 1, 1))[:, None]
    sideways = torch.tensor([True, False, True, False], device=dice.device)
    share = torch.where(((keep == 1) & sideways) | ((keep == 2) & ~sideways), 0.0, share)
    grow(plan, on, share)


def grow(plan: Plan, on: Tensor, share: Tensor) -> None:
    """The canvas gets margins: left, top, right, bottom (B, 4) as shares of its sides."""
    box = torch.stack([-share[:, 0], -share[:, 1], 1 + share[:, 2], 1 + share[:, 3]], dim=-1)
    plan.cut(on, box)
