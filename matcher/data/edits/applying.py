"""Edits put to work: one by name, a whole recipe, and draws repeated until a copy can be recognised."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from matcher.data.edits.edited import Context, Edited, Pixels, Severity, Step
from matcher.data.edits.placing import fitting, resized
from matcher.data.edits.recipe import FAMILIES, Mixture, Recipe, draw_recipe

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
    picture = limited(Edited.start(pixels), max_side)
    for name, severity in recipe:
        picture = limited(apply_edit(picture, name, severity, rng, context), 2 * max_side)
    return limited(picture, max_side)


def limited(picture: Edited, side: int) -> Edited:
    """The picture, shrunk if its longer side exceeds ``side``."""
    return resized(picture, fitting(picture.size_hw, (side, side))) if picture.long_side > side else picture


def is_recognisable(picture: Edited) -> bool:
    """Whether enough of the original is left to be found by someone with good eyes."""
    seen = picture.seen_share() >= SEEN_SHARE and int(picture.visible.sum()) >= SEEN_PIXELS
    return seen and picture.kept_share() >= KEPT_SHARE and picture.contrast() >= CONTRAST


def edit_at_random(pixels: Pixels, rng: np.random.Generator, context: Context, mix: Mixture, max_side: int) -> Edited:
    """Pixels (H, W, 3) -> a random copy that can still be recognised; the untouched picture if no draw gives one.

    A recipe is made several times before another one is drawn, so that the mixture stays nearly what it was.
    """
    for _ in range(RECIPES):
        recipe = draw_recipe(rng, mix)
        for _ in range(TRIES):
            picture = apply_recipe(pixels, recipe, rng, context, max_side)
            if not recipe or is_recognisable(picture):
                return picture
    return limited(Edited.start(pixels), max_side)
