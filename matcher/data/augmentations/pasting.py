"""Edits that lay the canvas on another one: onto a picture, among the tiles of a collage, on a made-up screen; and meme captions."""

from __future__ import annotations

import torch
from torch import Tensor

from matcher.data.augmentations import homography
from matcher.data.augmentations.augmented import PICTURE, TEXT
from matcher.data.augmentations.dice import Dice
from matcher.data.augmentations.drawn import PLAIN_TEXTS, Drawn
from matcher.data.augmentations.motion import grow
from matcher.data.augmentations.plan import INNER, OUTER, Plan, choose, somewhere

MOST_TILES = 9
GRIDS = ((2, 1), (1, 2), (2, 2), (3, 1), (1, 3), (2, 3), (3, 2), (3, 3))  # columns, rows; mild ones first


def onto(plan: Plan, dice: Dice, on: Tensor, others: Tensor) -> None:
    """Laid on another picture: 80 % (mild) down to 22 % (strong) of its side, mostly opaque, some over its edge or turned."""
    index = dice.whole(0, len(others))
    base = others[index]
    ratio = (plan.aspect / base).sqrt()
    size = torch.minimum(dice.strength(0.8, 0.22), 0.97 / torch.maximum(ratio, 1 / ratio))
    width, height = size * ratio, size / ratio
    box = choose(dice.coin(0.15), somewhere(dice, width, height, 0.25), somewhere(dice, width, height))
    tilt = torch.where(dice.coin(0.15), dice.uniform(-0.5, 0.5), 0.0)
    frame = homography.turned_in_place(homography.from_box(box), tilt, base)
    plan.nest(on, frame, base, torch.where(dice.coin(0.75), 1.0, dice.uniform(0.6, 1.0)))
    plan.add("other", on, homography.identity(dice.count, dice.device), depth=OUTER, index=index, below=True)


def collage(plan: Plan, dice: Dice, on: Tensor, others: Tensor) -> None:
    """One tile of a grid of two to four (mild) or up to nine pictures, stretched or cut to their tiles, with or without gaps."""
    grid = torch.tensor(GRIDS, device=dice.device)[(dice.strength(0, 1) * len(GRIDS)).long().clamp(max=len(GRIDS) - 1)]
    columns, rows = grid.unbind(-1)
    x, y, gap = divided(dice, columns), divided(dice, rows), dice.pick((0.0, 0.006, 0.012, 0.03), (2, 1, 2, 1))
    shape = dice.pick((0.75, 1.0, 1.33), (1, 2, 1)) * columns / rows
    cells = torch.arange(MOST_TILES, device=dice.device).expand(dice.count, -1)
    boxes = tile_boxes(x, y, cells, columns, gap)
    own = (dice.uniform() * columns * rows).long().clamp(max=MOST_TILES - 1)
    mine = boxes.gather(1, own[:, None, None].expand(-1, 1, 4))[:, 0]
    plan.cut(on & dice.coin(0.4), middle_of(plan.aspect, aspect_of(mine) * shape))
    plan.nest(on, homography.from_box(mine), shape)
    here = on[:, None] & (cells < (columns * rows)[:, None]) & (cells != own[:, None])
    index = dice.whole(0, len(others), MOST_TILES)
    wanted = torch.where(dice.uniform(0, 1, MOST_TILES) < 0.4, aspect_of(boxes) * shape[:, None], others[index])
    window = middle_of(others[index], wanted)
    frames = homography.from_box(boxes) @ homography.inverse(homography.from_box(window))
    for cell in range(MOST_TILES):
        columns_of = {"index": index[:, cell], "window": window[:, cell]}
        plan.add("other", here[:, cell], frames[:, cell], depth=OUTER, label=PICTURE, below=True, **columns_of)
    plan.add("paper", on, homography.identity(dice.count, dice.device), depth=OUTER, colour=dice.colour(), below=True)


def divided(dice: Dice, parts: Tensor) -> Tensor:
    """The unit length in one to three parts, equal or (one in three) not: their edges (B, 4), the last ones repeated."""
    uneven = torch.where(dice.coin(0.33)[:, None], dice.uniform(0.6, 1.4, 3), 1.0)
    width = uneven * (torch.arange(3, device=dice.device) < parts[:, None])
    return torch.cat([torch.zeros_like(width[:, :1]), (width / width.sum(1, keepdim=True)).cumsum(1)], dim=1)


def tile_boxes(x: Tensor, y: Tensor, cells: Tensor, columns: Tensor, gap: Tensor) -> Tensor:
    """Edges (B, 4) of columns and rows -> boxes (B, cells, 4), row after row; cells that are not there get some box."""
    column, row = cells % columns[:, None], (cells // columns[:, None]).clamp(max=2)
    box = torch.stack([x.gather(1, column), y.gather(1, row), x.gather(1, column + 1), y.gather(1, row + 1)], dim=-1)
    box = box + gap[:, None, None] * torch.tensor([1.0, 1.0, -1.0, -1.0], device=box.device)
    there = (box[..., 2:] > box[..., :2]).all(-1, keepdim=True)
    return torch.where(there, box, torch.tensor([0.0, 0.0, 1.0, 1.0], device=box.device))


def aspect_of(box: Tensor) -> Tensor:
    """Width / height of boxes (..., 4) on a square."""
    return (box[..., 2] - box[..., 0]) / (box[..., 3] - box[..., 1])


def middle_of(aspect: Tensor, wanted: Tensor) -> Tensor:
    """The largest box (..., 4) of aspect ``wanted`` in the middle of a canvas of ``aspect``."""
    width, height = (wanted / aspect).clamp(max=1.0), (aspect / wanted).clamp(max=1.0)
    return torch.stack([0.5 - width / 2, 0.5 - height / 2, 0.5 + width / 2, 0.5 + height / 2], dim=-1)


def screenshot(plan: Plan, dice: Dice, on: Tensor, drawn: Drawn) -> None:
    """On a made-up screen: whole with bars beside it (two in three), or cut to fill the place."""
    index = dice.whole(0, len(drawn.places))
    place, shape = drawn.places[index], drawn.aspects["screen"][index]
    room = aspect_of(place) * shape
    plan.cut(on & dice.coin(0.33), middle_of(plan.aspect, room))
    frame = homography.from_box(place) @ homography.from_box(middle_of(room, plan.aspect))
    plan.nest(on, frame, shape)
    behind = torch.where(dice.coin(0.6), 0.0, 1.0)[:, None].expand(-1, 3)
    plan.add("paper", on, homography.from_box(place), depth=OUTER, colour=behind, below=True)
    plan.add("screen", on, homography.identity(dice.count, dice.device), depth=OUTER, index=index, below=True)


def meme(plan: Plan, dice: Dice, on: Tensor, drawn: Drawn) -> Tensor:
    """A caption on a bar above (two in three), below, or both: 10 % (mild) to 40 % (strong) of the height. The bars' colour (B, 3)."""
    bar, where = dice.strength(0.1, 0.4), dice.pick((0, 1, 2), (0.65, 0.15, 0.2))
    above, below = bar * (where != 1), bar * (where != 0)
    paper, zero = dice.colour(), torch.zeros_like(bar)
    grow(plan, on, torch.stack([zero, above, zero, below], dim=-1))
    legible = (paper.mean(1, keepdim=True) < 0.5).float().expand(-1, 3)
    colour = choose(dice.coin(0.6), legible, dice.colour())
    total = 1 + above + below
    for start, end, there in ((zero, above / total, where != 1), (1 - below / total, torch.ones_like(zero), where != 0)):
        index = dice.whole(0, PLAIN_TEXTS)
        box = torch.stack([zero + 0.03, start + 0.1 * (end - start), zero + 0.97, end - 0.1 * (end - start)], dim=-1)
        room = aspect_of(box.clamp(min=1e-3)) * plan.aspect
        frame = homography.from_box(box) @ homography.from_box(middle_of(room.abs() + 1e-3, drawn.aspects["text"][index]))
        plan.add("text", on & there, frame, depth=INNER, label=TEXT, index=index, colour=colour)
    return paper
