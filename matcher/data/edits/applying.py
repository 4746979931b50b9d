"""Edits put to work: one by name, a whole recipe, and draws repeated until a copy can be recognised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from matcher.data.edits.edited import Context, Edited, Pixels, Severity, Step
from matcher.data.edits.placing import fitting, resized
from matcher.data.edits.recipe import FAMILIES, Mixture, Recipe, draw_recipe
from matcher.data.edits.several import gather

SEEN_SHARE = 0.03  # of the query's area must still show the original
SEEN_PIXELS = 1600  # of the query must still show the original
KEPT_SHARE = 0.05  # of the original must still be seen
CONTRAST = 5.0  # standard deviation of the grey values that must be left
TRIES = 6  # times that a recipe is made before another one is drawn
RECIPES = 8  # drawn before the picture is left as it is


def apply_edit(picture: Edited, name: str, severity: Severity, rng: np.random.Generator, context: Context) -> Edited:
    """One edit by its family's name; the result has one step more, with everything that was drawn for it."""
    edit, _ = FAMILIES[name]
    edited = edit(replace(picture, parameters={}), rng, severity, context)
    return replace(edited, steps=(*picture.steps, Step(name, severity, edited.parameters)), parameters={})


def apply_recipe(pixels: Pixels, recipe: Recipe, rng: np.random.Generator, context: Context, max_side: int) -> Edited:
    """Pixels (H, W, 3) -> after all edits of the recipe; the longer side ends at ``max_side`` at most.

    Between edits a picture may be twice that, so that a crop after a collage does not lose what was there.
    """
    return apply_to(limited(Edited.start(pixels), max_side), recipe, rng, context, max_side)


def apply_to(picture: Edited, recipe: Recipe, rng: np.random.Generator, context: Context, max_side: int) -> Edited:
    """A picture -> after all edits of the recipe as well; sizes as in apply_recipe."""
    for name, severity in recipe:
        picture = limited(apply_edit(picture, name, severity, rng, context), 2 * max_side)
    return limited(picture, max_side)


def limited(picture: Edited, side: int) -> Edited:
    """The picture, shrunk if its longer side exceeds ``side``."""
    return resized(picture, fitting(picture.size_hw, (side, side))) if picture.long_side > side else picture


def is_recognisable(picture: Edited) -> bool:
    """Whether enough of each original is left to be found by someone with good eyes."""
    return all(map(is_enough, picture.each()))


def is_enough(alone: Edited) -> bool:
    """The same for a picture of one original."""
    seen = alone.seen_share() >= SEEN_SHARE and int(alone.visible.sum()) >= SEEN_PIXELS
    return seen and alone.kept_share() >= KEPT_SHARE and alone.contrast() >= CONTRAST


def edit_at_random(pixels: Pixels, rng: np.random.Generator, context: Context, mix: Mixture, max_side: int) -> Edited:
    """Pixels (H, W, 3) -> a random copy that can still be recognised; the untouched picture if no draw gives one."""
    return draw_until_recognisable(lambda recipe: apply_recipe(pixels, recipe, rng, context, max_side), rng, mix)


def gather_at_random(originals: Sequence[Pixels], rng: np.random.Generator, context: Context, mix: Mixture, max_side: int) -> Edited:
    """Two to four pictures (H, W, 3) -> a random picture of them all, each still recognisable; only gathered if no draw gives one.

    Gathering takes the place of the recipe's first edit, with its severity.
    """

    def make(recipe: Recipe) -> Edited:
        gathered = limited(gather(originals, rng, recipe[0][1] if recipe else 1, context), max_side)
        return apply_to(gathered, recipe[1:], rng, context, max_side)

    return draw_until_recognisable(make, rng, mix)


def draw_until_recognisable(make: Callable[[Recipe], Edited], rng: np.random.Generator, mix: Mixture) -> Edited:
    """What ``make`` makes of a recipe -> the first picture that is recognisable; that of the empty recipe if none is.

    A recipe is made several times before another one is drawn, so that the mixture stays nearly what it was.
    """
    for _ in range(RECIPES):
        recipe = draw_recipe(rng, mix)
        for _ in range(TRIES):
            picture = make(recipe)
            if not recipe or is_recognisable(picture):
                return picture
    return make(())
