"""Edits that lay things on the canvas: another picture, stickers, text, scribbles, stripes, blocks. Each takes (plan, dice, on, depth)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from matcher.data.augmentations import homography
from matcher.data.augmentations.augmented import PICTURE, STICKER, TEXT
from matcher.data.augmentations.dice import Dice
from matcher.data.augmentations.drawn import PLAIN_TEXTS, Drawn
from matcher.data.augmentations.plan import Plan, somewhere

MOST_STICKERS, MOST_TEXTS, MOST_STRIPES, MOST_BLOCKS = 3, 3, 4, 3


def placed(canvas: Tensor, dice: Dice, area: Tensor, aspect: Tensor, overhang: float, radians: Tensor) -> Tensor:
    """Frames (B, 3, 3) of things of an ``area`` (a share of the canvas) and ``aspect``, turned, at random on canvases of aspect (B,)."""
    ratio = (aspect / canvas).sqrt()
    root = torch.minimum(area.sqrt(), 1.1 / torch.maximum(ratio, 1 / ratio))  # nothing runs far beyond both sides
    return homography.turned_in_place(homography.from_box(somewhere(dice, root * ratio, root / ratio, overhang)), radians, canvas)


def area_of(canvas: Tensor, height: Tensor, aspect: Tensor) -> Tensor:
    """Height as a share of the short side of canvases of aspect (B,) -> area as a share of the canvas."""
    return height**2 * aspect * torch.minimum(canvas, 1 / canvas)


def under(plan: Plan, dice: Dice, on: Tensor, depth: int, others: Tensor) -> None:
    """Another picture over it, hiding 8 % (mild) to 60 % (strong); one in four lets it through, one in five is turned."""
    index = dice.whole(0, len(others))
    shape = others[index] * torch.where(dice.coin(0.3), dice.uniform(-0.5, 0.5).exp(), 1.0)
    radians = torch.where(dice.coin(0.2), dice.uniform(-0.5, 0.5), 0.0)
    opacity = torch.where(dice.coin(0.75), 1.0, dice.uniform(0.4, 0.9))
    frame = placed(plan.aspect, dice, dice.strength(0.08, 0.6), shape, 0.1, radians)
    plan.add("other", on, frame, depth=depth, label=PICTURE, index=index, opacity=opacity)


def emoji(plan: Plan, dice: Dice, on: Tensor, depth: int, drawn: Drawn) -> None:
    """One to three stickers, each 12 % (mild) to 45 % (strong) of the short side."""
    on, dice, canvas = some(on, dice, MOST_STICKERS), dice.times(MOST_STICKERS), plan.aspect.repeat(MOST_STICKERS)
    index = dice.whole(0, len(drawn.aspects["sticker"]))
    height, shape = dice.strength(0.12, 0.45) * dice.uniform(0.7, 1.1), drawn.aspects["sticker"][index]
    radians = torch.where(dice.coin(0.3), dice.uniform(-math.pi, math.pi), dice.uniform(-0.35, 0.35))
    opacity = torch.where(dice.coin(0.85), 1.0, dice.uniform(0.5, 1.0))
    frames = placed(canvas, dice, area_of(canvas, height, shape), shape, 0.2, radians)
    plan.add_each("sticker", on, frames, depth=depth, label=STICKER, index=index, opacity=opacity)


def text(plan: Plan, dice: Dice, on: Tensor, depth: int, drawn: Drawn) -> None:
    """One to three blocks of text in random styles, sizes and colours."""
    on, dice, canvas = some(on, dice, MOST_TEXTS), dice.times(MOST_TEXTS), plan.aspect.repeat(MOST_TEXTS)
    index = dice.whole(0, len(drawn.lines))
    height = dice.strength(0.09, 0.28) * dice.uniform(0.7, 1.1) * drawn.lines[index] ** 0.7
    radians = torch.where(dice.coin(0.2), dice.uniform(-0.6, 0.6), 0.0)
    opacity, shape = torch.where(dice.coin(0.75), 1.0, dice.uniform(0.5, 1.0)), drawn.aspects["text"][index]
    frames = placed(canvas, dice, area_of(canvas, height, shape), shape, 0.15, radians)
    plan.add_each("text", on, frames, depth=depth, label=TEXT, index=index, colour=coloured(dice, index), opacity=opacity)


def coloured(dice: Dice, index: Tensor) -> Tensor:
    """Colours (B, 3) for texts (B,): any for plain ones, their own for those on panels."""
    return torch.where((index < PLAIN_TEXTS)[:, None], dice.colour(), 1.0)


def some(on: Tensor, dice: Dice, most: int) -> Tensor:
    """Rows (B,) that get one to ``most`` things -> which things are there, (most * B,)."""
    count = dice.whole(1, most + 1)
    return torch.cat([on & (nth < count) for nth in range(most)])


def scribble(plan: Plan, dice: Dice, on: Tensor, depth: int, drawn: Drawn) -> None:
    """Strokes of a pen over the picture, few (mild) to many (strong)."""
    known = len(drawn.aspects["scribble"])
    index = (dice.strength(0, 1) * known).long().clamp(max=known - 1)  # sorted by their number of strokes
    spread = dice.uniform(0.9, 1.5)
    box = somewhere(dice, spread, spread * dice.uniform(0.8, 1.2), 0.1)
    plan.add("scribble", on, homography.from_box(box), depth=depth, index=index)


def stripes(plan: Plan, dice: Dice, on: Tensor, depth: int) -> None:
    """One to four parallel stripes of one colour, hiding 10 % (mild) to 50 % (strong); some let it through."""
    count, share = dice.whole(1, MOST_STRIPES + 1), dice.strength(0.1, 0.5)
    nth = torch.arange(MOST_STRIPES, device=dice.device)[:, None]
    middle, thick = ((nth + dice.uniform()) / count - 0.5) * 1.4, (1.4 * share / count).expand(MOST_STRIPES, -1)
    box = torch.stack([torch.full_like(middle, -2.0), middle - thick / 2, torch.full_like(middle, 2.0), middle + thick / 2], dim=-1)
    turned = homography.scaling(plan.aspect.rsqrt(), plan.aspect.sqrt()) @ homography.rotation(dice.uniform(0, math.pi))
    half = torch.full_like(share, 0.5)
    frames = homography.shift(half, half) @ turned @ homography.from_box(box)
    colour, opacity = dice.colour().repeat(MOST_STRIPES, 1), torch.where(dice.coin(0.67), 1.0, 0.6).repeat(MOST_STRIPES)
    plan.add_each("paper", (on & (nth < count)).flatten(), frames.flatten(0, 1), depth=depth, colour=colour, opacity=opacity)


def occlude(plan: Plan, dice: Dice, on: Tensor, depth: int) -> None:
    """One to three blocks of colour, together 6 % (mild) to 50 % (strong)."""
    there, side = some(on, dice, MOST_BLOCKS), (dice.strength(0.06, 0.5) / MOST_BLOCKS).sqrt().repeat(MOST_BLOCKS)
    dice = dice.times(MOST_BLOCKS)
    slant = dice.uniform(-0.6, 0.6).exp()
    box = somewhere(dice, (side * slant).clamp(max=1.0), (side / slant).clamp(max=1.0), 0.1)
    plan.add_each("paper", there, homography.from_box(box), depth=depth, colour=dice.colour())
