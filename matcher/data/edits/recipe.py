"""Which edits, how many and how strong: the mixture as tables, and how one recipe is drawn from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from matcher.data.edits import damage, motion, overlays, pasting, recapture, screens, tone
from matcher.data.edits.edited import Edit, Severity
from matcher.errors import UsageError

Difficulty = Literal["easy", "usual", "hard"]

# family: (the edit, how often it is drawn against the others). The weights of the first block add up to about 100;
# the second block is what people do beyond it.
FAMILIES: dict[str, tuple[Edit, float]] = {
    "crop": (motion.crop, 9.5),
    "onto": (pasting.onto, 10.5),
    "jitter": (tone.jitter, 7.5),
    "text": (overlays.text, 6.0),
    "hflip": (motion.hflip, 5.5),
    "emoji": (overlays.emoji, 5.0),
    "under": (pasting.under, 4.5),
    "rotate": (motion.rotate, 4.3),
    "pad": (motion.pad, 4.2),
    "scale": (motion.scale, 4.1),
    "blur": (damage.blur, 4.0),
    "screenshot": (screens.screenshot, 4.0),
    "jpeg": (damage.jpeg, 3.6),
    "aspect": (motion.aspect, 3.5),
    "noise": (damage.noise, 3.2),
    "gray": (tone.gray, 2.9),
    "perspective": (motion.perspective, 2.9),
    "pixel": (damage.pixel, 2.8),
    "turn": (motion.turn, 2.6),
    "meme": (screens.meme, 2.5),
    "edges": (damage.edges, 2.5),
    "collage": (pasting.collage, 2.8),
    "scribble": (overlays.scribble, 2.0),
    "shuffle": (damage.shuffle, 1.9),
    "sharpen": (damage.sharpen, 1.5),
    "stripes": (overlays.stripes, 1.5),
    "vflip": (motion.vflip, 1.4),
    "dark": (tone.dark, 1.1),
    "recapture": (recapture.recapture, 2.0),
    "phone": (screens.phone, 1.8),
    "border": (motion.border, 1.5),
    "occlude": (overlays.occlude, 1.5),
    "tint": (tone.tint, 1.5),
    "watermark": (overlays.watermark, 1.5),
    "mirror": (motion.mirror, 1.2),
    "bright": (tone.bright, 0.8),
    "invert": (tone.invert, 0.5),
    "posterise": (tone.posterise, 0.5),
    "solarise": (tone.solarise, 0.5),
}


@dataclass(frozen=True)
class Mixture:
    """How many edits a query gets, and how strong.

    Args:
        counts: chances of 1, 2, 3, ... edits
        severities: chances of severity 1, 2, 3 for each edit
        untouched: chance that nothing is done at all
        resaved: chance that the picture is only saved again or made smaller, mildly
        weights: how often each family is drawn against the others
    """

    counts: Sequence[float] = (0.20, 0.32, 0.24, 0.18, 0.06)
    severities: Sequence[float] = (0.44, 0.33, 0.23)
    untouched: float = 0.035
    resaved: float = 0.03
    weights: Mapping[str, float] = field(default_factory=lambda: {name: weight for name, (_, weight) in FAMILIES.items()})


MIXTURES: dict[Difficulty, Mixture] = {
    "easy": Mixture(counts=(0.60, 0.30, 0.10), severities=(0.70, 0.25, 0.05)),
    "usual": Mixture(),
    "hard": Mixture(counts=(0.05, 0.20, 0.30, 0.30, 0.15), severities=(0.20, 0.40, 0.40)),
}

Recipe = tuple[tuple[str, Severity], ...]


def mixture(difficulty: str) -> Mixture:
    """The mixture of that name; UsageError if there is none."""
    for name in get_args(Difficulty):
        if name == difficulty:
            return MIXTURES[name]
    raise UsageError(f"difficulty {difficulty!r} is not known; take one of {', '.join(MIXTURES)}")


def draw_recipe(rng: np.random.Generator, mix: Mixture) -> Recipe:
    """Edits in order with their severities, no family twice; () = leave the picture alone.

    The first family is drawn by the weights, each further one by the weights of those that are left.
    """
    chance = rng.random()
    if chance < mix.untouched:
        return ()
    if chance < mix.untouched + mix.resaved:
        return ((("jpeg", "scale")[int(rng.integers(2))], 1),)
    left = dict(mix.weights)
    recipe: list[tuple[str, Severity]] = []
    for _ in range(1 + pick(rng, mix.counts)):
        name = list(left)[pick(rng, list(left.values()))]
        del left[name]
        recipe.append((name, severity_of(1 + pick(rng, mix.severities))))
    return tuple(recipe)


def pick(rng: np.random.Generator, weights: Sequence[float]) -> int:
    """An index, as often as its weight says."""
    edges = np.cumsum(weights)
    return int(min(np.searchsorted(edges, rng.random() * edges[-1], side="right"), len(edges) - 1))


def severity_of(number: int) -> Severity:
    """1, 2 or 3; ValueError otherwise."""
    for level in get_args(Severity):
        if level == number:
            return level
    raise ValueError(f"a severity is 1, 2 or 3, not {number}")
