"""A recipe -> a plan: which edits happen to which rows, in which order they are laid, and none so hard that nothing is left."""

from __future__ import annotations

import torch
from torch import Tensor

from matcher.data.augmentations import homography, motion, overlays, pasting
from matcher.data.augmentations.damage import DAMAGES
from matcher.data.augmentations.dice import Dice
from matcher.data.augmentations.drawn import Drawn, drawn_on
from matcher.data.augmentations.plan import INNER, OUTER, Plan, choose
from matcher.data.augmentations.tone import plan_tones

MOTIONS = ("crop", "hflip", "vflip", "turn", "aspect", "rotate", "perspective")
OVERLAYS = ("under", "emoji", "text", "scribble", "stripes", "occlude")
TONES = ("jitter", "gray", "dark", "filter")
SCENES = ("onto", "collage", "screenshot")
BORDERS = ("pad", "meme")
EDITS = (*MOTIONS, *BORDERS, *OVERLAYS, *SCENES, *TONES, *(name for name in DAMAGES if name != "resave"))
LEAST_COVERED, LEAST_SEEN = 0.08, 0.04  # of the source's area; of the output's
CALMER = 0.5  # a row that shows too little is drawn again with this share of the strength, and at last left alone
PROBES = 16  # points a side at which it is looked how much a plan shows


def draw_good_plan(
    chances: dict[str, float], kept: tuple[float, float], aspect: Tensor, generator: torch.Generator, reach: float, others: Tensor
) -> Plan:
    """A plan in which every row shows enough of its source: all are drawn twice at once, and the first good draw is taken.

    Args:
        chances: of all EDITS
        kept: shares of the rows that are left alone, and only saved once more
        aspect: (B,)
        generator: all randomness
        reach: 0..1, how strong edits get
        others: (N,), aspects of what can be pasted
    """
    count, device = len(aspect), generator.device
    whole = torch.ones(count, device=device)
    dice = Dice(generator, 3 * count, reach * torch.cat([whole, CALMER * whole, whole]))
    untouched = torch.cat([kept[0] * whole, kept[0] * whole, whole])
    plan = draw_plan(chances, untouched, kept[1], aspect.repeat(3), dice, others)
    first, second, _ = shows_too_little(plan).unflatten(0, (3, count))
    return plan.take(torch.arange(count, device=device) + count * (first.long() + (first & second).long()))


def draw_plan(chances: dict[str, float], untouched: Tensor, resaved: float, aspect: Tensor, dice: Dice, others: Tensor) -> Plan:
    """One plan.

    Args:
        chances: of all EDITS, among the rows that are edited at all
        untouched: (B,), chance that a row is left alone
        resaved: chance that it is only saved once more
        aspect: (B,)
        dice: all randomness
        others: (N,), aspects of what can be pasted
    """
    drawn = drawn_on(dice.device)
    fired = draw_edits(chances, untouched, resaved, dice)
    early = {name: dice.coin(0.5) for name in (*MOTIONS, *OVERLAYS)}  # before anything is pasted, or after
    plan = Plan.start(aspect)
    for name in MOTIONS:
        getattr(motion, name)(plan, dice, fired[name] & early[name])
    paper = dice.colour()
    motion.pad(plan, dice, fired["pad"])
    paper = choose(fired["meme"], pasting.meme(plan, dice, fired["meme"], drawn), paper)
    lay_over(plan, dice, {name: fired[name] & early[name] for name in OVERLAYS}, INNER, others, drawn)
    plan.close_inner()
    lay_on(plan, dice, fired, others, drawn)
    filled = fired["pad"] | fired["meme"] | (fired["rotate"] & early["rotate"]) | (fired["perspective"] & early["perspective"])
    under_source = plan.layers.index(plan.source)
    plan.add("paper", filled, plan.sheet @ plan.inner, depth=INNER, colour=paper, below=True)
    plan.layers.insert(under_source, plan.layers.pop(0))
    lay_over(plan, dice, {name: fired[name] & ~early[name] for name in OVERLAYS}, OUTER, others, drawn)
    plan.close_outer()
    for name in MOTIONS:
        getattr(motion, name)(plan, dice, fired[name] & ~early[name])
    motion.perspective(plan, dice, fired["recapture"])
    plan.numbers["wall"] = dice.colour()
    plan_tones(plan, dice, fired)
    plan.numbers |= {name: dice.uniform() * dice.reach for name in DAMAGES}
    plan.fired = fired
    return plan


def draw_edits(chances: dict[str, float], untouched: Tensor, resaved: float, dice: Dice) -> dict[str, Tensor]:
    """Which rows get which edit: (B,) bool each; the scenes exclude each other."""
    fate = dice.uniform()
    edited = fate >= untouched + resaved
    fired = {name: edited & dice.coin(chance) for name, chance in chances.items() if name not in SCENES}
    scene, start = dice.uniform(), 0.0
    for name in SCENES:
        fired[name] = edited & (scene >= start) & (scene < start + chances[name])
        start += chances[name]
    return fired | {"resave": (fate >= untouched) & ~edited}


def lay_over(plan: Plan, dice: Dice, on: dict[str, Tensor], depth: int, others: Tensor, drawn: Drawn) -> None:
    """All that can lie on the canvas, bottom first."""
    overlays.under(plan, dice, on["under"], depth, others)
    overlays.stripes(plan, dice, on["stripes"], depth)
    overlays.occlude(plan, dice, on["occlude"], depth)
    overlays.scribble(plan, dice, on["scribble"], depth, drawn)
    overlays.emoji(plan, dice, on["emoji"], depth, drawn)
    overlays.text(plan, dice, on["text"], depth, drawn)


def lay_on(plan: Plan, dice: Dice, on: dict[str, Tensor], others: Tensor, drawn: Drawn) -> None:
    """All that the canvas can lie on."""
    pasting.onto(plan, dice, on["onto"], others)
    pasting.collage(plan, dice, on["collage"], others)
    pasting.screenshot(plan, dice, on["screenshot"], drawn)


def shows_too_little(plan: Plan) -> Tensor:
    """Rows (B,) bool that show less than LEAST_COVERED of the source, or on less than LEAST_SEEN of the output."""
    source = plan.source
    square = torch.tensor([0.0, 0.0, 1.0, 1.0], device=plan.aspect.device).repeat(len(plan.aspect), 1)
    back = homography.inverse(plan.placed(source))
    seen = homography.inside(*homography.raster(back, PROBES), source.window) & (source.opacity >= 0.5)[:, None, None]
    for canvas in (plan.inner, plan.outer):
        seen &= homography.inside(*homography.raster(homography.inverse(plan.sheet @ canvas), PROBES), square)
    above = [layer for layer in plan.layers[plan.layers.index(source) + 1 :] if layer.kind in ("other", "paper", "sticker")]
    on = torch.stack([layer.on & (layer.opacity >= 0.5) for layer in above])
    which, rows = on.nonzero(as_tuple=True)
    frames, windows = (torch.stack([getattr(layer, name) for layer in above])[which, rows] for name in ("frame", "window"))
    hidden = homography.inside(*homography.raster(homography.inverse(plan.sheet[rows] @ frames), PROBES), windows)
    seen &= torch.zeros_like(seen, dtype=torch.int32).index_add_(0, rows, hidden.int()) == 0
    line = (torch.arange(PROBES, device=back.device) + 0.5) / PROBES
    depth = back[:, 2, 0, None, None] * line + back[:, 2, 1, None, None] * line[:, None] + back[:, 2, 2, None, None]
    covered = (seen * (torch.linalg.det(back)[:, None, None] / depth**3).abs()).mean((1, 2))
    return (covered < LEAST_COVERED) | (seen.float().mean((1, 2)) < LEAST_SEEN)
