"""Whole recipes: frames compose, sizes are limited, and copies stay recognisable."""

from __future__ import annotations

import numpy as np
import pytest

from matcher import geometry
from matcher.data.edits import MIXTURES, Context, Edited, Mixture, apply_edit, apply_recipe, edit_at_random, is_recognisable


def test_a_recipe_is_its_edits_one_after_the_other(context: Context, waves: np.ndarray) -> None:
    recipe = (("crop", 2), ("hflip", 1), ("pad", 2), ("jitter", 1))
    whole = apply_recipe(waves, recipe, np.random.default_rng(3), context, 400)
    rng, picture, frame = np.random.default_rng(3), Edited.start(waves), geometry.identity()
    for name, severity in recipe:
        picture = apply_edit(picture, name, severity, rng, context)
        alone = apply_edit(Edited.start(waves), name, severity, np.random.default_rng(0), context)
        assert len(alone.steps) == 1
    assert np.array_equal(whole.pixels, picture.pixels) and [s.name for s in whole.steps] == [name for name, _ in recipe]
    left, top, right, bottom = whole.steps[0].parameters["box"]
    frame = geometry.compose(geometry.flip(), geometry.invert(geometry.from_box(left, top, right, bottom)))
    inner = geometry.to_box(frame)
    assert geometry.is_mirrored(whole.frame) and inner[2] - inner[0] == pytest.approx(1 / (right - left))


def test_what_a_later_edit_hides_or_cuts_off_is_gone_from_the_mask(context: Context, waves: np.ndarray) -> None:
    picture = apply_recipe(waves, (("occlude", 3), ("rotate", 2), ("emoji", 3)), np.random.default_rng(1), context, 400)
    assert picture.seen_share() < geometry.covered_share(picture.frame) - 0.1
    assert picture.kept_share() == pytest.approx(picture.seen_share() / geometry.covered_share(picture.frame), abs=0.03)


def test_the_side_is_limited(context: Context, waves: np.ndarray) -> None:
    for seed in range(10):
        picture = apply_recipe(waves, (("pad", 3), ("collage", 2), ("meme", 3)), np.random.default_rng(seed), context, 100)
        assert max(picture.pixels.shape[:2]) <= 100 and picture.visible.shape == picture.pixels.shape[:2]


def test_random_copies_are_recognisable(context: Context, waves: np.ndarray) -> None:
    for seed in range(25):
        picture = edit_at_random(waves, np.random.default_rng(seed), context, MIXTURES["hard"], 200)
        assert not picture.steps or is_recognisable(picture)


def test_a_draw_that_leaves_nothing_is_drawn_again(context: Context, waves: np.ndarray) -> None:
    only_dark = Mixture(counts=(1.0,), untouched=0.0, resaved=0.0, weights={"dark": 1.0})
    faint = (waves // 40 + 120).astype(np.uint8)  # standard deviation about 2: never recognisable once darkened
    assert edit_at_random(faint, np.random.default_rng(0), context, only_dark, 200).steps == ()
    assert edit_at_random(waves, np.random.default_rng(0), context, only_dark, 200).steps[0].name == "dark"


def test_a_picture_checks_itself(waves: np.ndarray) -> None:
    with pytest.raises(ValueError, match="visible"):
        Edited(waves, geometry.identity(), np.ones((2, 2), dtype=bool))
    with pytest.raises(ValueError, match="uint8"):
        Edited(waves.astype(float), geometry.identity(), np.ones(waves.shape[:2], dtype=bool))
    with pytest.raises(ValueError, match="finite"):
        Edited(waves, np.full((3, 3), np.nan), np.ones(waves.shape[:2], dtype=bool))
