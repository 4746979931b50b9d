"""Recipes: what they refuse, how often they do what, and what they never do."""

import pytest
import torch

from matcher.data.augmentations import Recipe
from matcher.data.augmentations.damage import DAMAGES
from matcher.data.augmentations.dice import Dice
from matcher.data.augmentations.planning import EDITS, draw_edits, draw_good_plan, draw_plan, shows_too_little
from matcher.errors import MatcherError, UsageError

NAMES = ("mild", "benchmark", "overlay")


def noise_pictures(count, generator):
    return torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=generator).repeat_interleave(8, 2).repeat_interleave(8, 3)


def edited(recipe, generator, pictures=None, *, count=12, hardness=1.0, side=64):
    pictures = noise_pictures(count, torch.Generator().manual_seed(1)) if pictures is None else pictures
    others = noise_pictures(5, torch.Generator().manual_seed(2))
    return recipe(pictures, torch.linspace(0.6, 1.8, len(pictures)), generator=generator, side=side, hardness=hardness, others=others)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("hardness", [0.0, 1.0])
def test_each_edit_fires_as_often_as_it_says(name, hardness, generator):
    recipe, rows = Recipe.load(name), 6000
    chances = recipe.chances(hardness)
    fired = draw_edits(chances, recipe.untouched, recipe.resaved, Dice(generator, rows, torch.ones(rows)))
    edited_rows = rows * (1 - recipe.untouched - recipe.resaved)
    for edit, chance in chances.items():
        assert abs(int(fired[edit].sum()) / edited_rows - chance) <= 4.5 * (chance * (1 - chance) / edited_rows) ** 0.5, edit
    kept = ~torch.stack(list(fired.values())).any(0)
    assert int((kept | fired["resave"]).sum()) >= 0.9 * rows * (recipe.untouched + recipe.resaved)


def test_a_plan_does_what_fired(generator):
    plan = draw_plan(
        dict.fromkeys(EDITS, 0.3), torch.zeros(400), 0.0, torch.ones(400), Dice(generator, 400, torch.ones(400)), torch.ones(3)
    )
    on = {kind: torch.stack([layer.on for layer in plan.layers if layer.kind == kind]).any(0) for kind in ("sticker", "scribble", "screen")}
    assert torch.equal(on["sticker"], plan.fired["emoji"])
    assert torch.equal(on["scribble"], plan.fired["scribble"])
    assert torch.equal(on["screen"], plan.fired["screenshot"])
    assert torch.equal(plan.nested, plan.fired["onto"] | plan.fired["collage"] | plan.fired["screenshot"])
    moves = [
        name
        for name in ("crop", "hflip", "vflip", "turn", "rotate", "perspective", "pad", "meme", "onto", "collage", "screenshot", "recapture")
    ]
    moved = torch.stack([plan.fired[name] for name in moves]).any(0)
    still = (plan.sheet - torch.eye(3)).abs().amax((1, 2)) < 1e-5
    assert not (~moved & ~still).any() and int((moved & still).sum()) <= 4  # a turn and two flips undo each other


def test_scenes_exclude_each_other(generator):
    chances = dict.fromkeys(EDITS, 0.0) | {"onto": 0.4, "collage": 0.3, "screenshot": 0.3}
    fired = draw_edits(chances, 0.0, 0.0, Dice(generator, 500, torch.ones(500)))
    assert (torch.stack([fired[name] for name in ("onto", "collage", "screenshot")]).sum(0) == 1).all()


def test_a_copy_shows_enough_of_its_source(generator):
    recipe = Recipe.load("benchmark")
    raw = draw_plan(recipe.chances(1.0), torch.zeros(500), 0.0, torch.ones(500), Dice(generator, 500, torch.ones(500)), torch.ones(3))
    assert shows_too_little(raw).sum() > 3
    good = draw_good_plan(recipe.chances(1.0), (0.0, 0.0), torch.ones(500), generator, 1.0, torch.ones(3))
    assert not shows_too_little(good).any()
    assert sum(int(fired.sum()) for fired in good.fired.values()) > 500
    visible = edited(recipe, generator, count=48).visible.float().mean((1, 2, 3))
    assert visible.min() > 0.025


def test_nothing_is_done_without_edits(generator, places):
    pictures = places.expand(3, -1, -1, -1)
    out = edited(Recipe(edits={}, untouched=0.0, resaved=0.0), generator, pictures, hardness=0.0)
    assert torch.allclose(out.pixels, pictures / 255, atol=1e-5)
    assert torch.allclose(out.frame, torch.eye(3).expand(3, 3, 3), atol=1e-6)
    assert out.visible.all() and (out.classes == -1).all() and (out.boxes == 0).all()


def test_untouched_rows_stay_as_they_are(generator, places):
    pictures = places.expand(3, -1, -1, -1)
    out = edited(Recipe(edits=dict.fromkeys(EDITS, (0.3, 0.3)), untouched=1.0, resaved=0.0), generator, pictures)
    assert torch.allclose(out.pixels, pictures / 255, atol=1e-5)


def test_resaved_rows_are_nearly_as_they_were(generator, places):
    out = edited(Recipe(edits={}, untouched=0.0, resaved=1.0), generator, places.expand(3, -1, -1, -1))
    assert 0 < (out.pixels - places / 255).abs().mean() < 0.03
    assert out.visible.all()


def test_same_seed_same_bytes():
    first, second, third = (edited(Recipe.load("overlay"), torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    for name in ("pixels", "frame", "visible", "boxes", "classes"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    assert not torch.equal(first.pixels, third.pixels)


def test_what_comes_out_keeps_its_promises(generator):
    out = edited(Recipe(edits=dict.fromkeys(EDITS, (0.25, 0.25))), generator, count=40, side=48)
    assert out.pixels.shape == (40, 3, 48, 48) and out.pixels.dtype == torch.float32
    assert out.pixels.isfinite().all() and out.pixels.min() >= 0 and out.pixels.max() <= 1
    assert out.frame.isfinite().all() and torch.allclose(out.frame[:, 2, 2], torch.ones(40))
    assert out.visible.shape == (40, 1, 48, 48) and out.visible.dtype == torch.bool
    real = out.classes >= 0
    assert out.boxes.shape == (*out.classes.shape, 4) and ((out.boxes >= 0) & (out.boxes <= 1)).all()
    assert (out.boxes[real][:, 2:] > out.boxes[real][:, :2]).all() and (out.boxes[~real] == 0).all()
    assert set(out.classes.unique().tolist()) == {-1, 0, 1, 2}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("edits: {crap: 0.1}", "no edit 'crap'"),
        ("edits: {crop: 1.5}", "crop must be 0 to 1"),
        ("edits: {crop: [0.1, 0.2, 0.3]}", "is no recipe"),
        ("edits: {onto: 0.5, collage: 0.4, screenshot: 0.3}", "exclude each other"),
        ("edits: {}\nuntuched: 0.1", "untuched"),
        ("untouched: 0.1", "edits"),
        ("", "is no recipe"),
        ("edits: [", "is no recipe"),
        ("edits: " + "[" * 5000, "nests more than"),
    ],
)
def test_a_wrong_recipe_is_one_clear_line(tmp_path, text, words):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(MatcherError, match=words) as caught:
        Recipe.load(path)
    assert "mine.yaml" in str(caught.value)


def test_unknown_names_and_files():
    with pytest.raises(UsageError, match="benchmark, mild, overlay"):
        Recipe.load("wild")
    with pytest.raises(MatcherError, match="cannot read"):
        Recipe.load("/nowhere/wild.yaml")


def test_bad_arguments(generator):
    with pytest.raises(UsageError, match="hardness"):
        edited(Recipe.load("mild"), generator, hardness=1.2)
    with pytest.raises(UsageError, match="other pictures"):
        Recipe.load("mild")(
            torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
            torch.ones(1),
            generator=generator,
            side=8,
            hardness=0.5,
            others=torch.zeros(0, 3, 8, 8, dtype=torch.uint8),
        )


def test_every_damage_has_a_chance_in_the_benchmark_recipe():
    chances = Recipe.load("benchmark").chances(1.0)
    assert all(chances[name] > 0 for name in DAMAGES if name != "resave")


def test_rows_that_share_an_edit_differ_only_in_their_content():
    recipe = Recipe.load("benchmark")
    pictures, others = noise_pictures(6, torch.Generator().manual_seed(1)), noise_pictures(5, torch.Generator().manual_seed(2))
    same = pictures[:1].expand(6, -1, -1, -1).contiguous()
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        made = recipe(pictures, torch.ones(6), generator=generator, side=64, hardness=1.0, others=others, shared=3)
        for rows in (slice(0, 3), slice(3, 6)):
            for part in (made.frame, made.visible, made.boxes, made.classes):
                assert torch.equal(part[rows], part[rows][:1].expand_as(part[rows]))
    assert not torch.equal(made.frame[0], made.frame[3])
    plain = Recipe(edits={"crop": (1.0, 1.0), "emoji": (1.0, 1.0)}, untouched=0.0, resaved=0.0)
    made = plain(same, torch.ones(6), generator=torch.Generator().manual_seed(9), side=64, hardness=1.0, others=others, shared=3)
    assert torch.equal(made.pixels[0], made.pixels[2]) and not torch.equal(made.pixels[0], made.pixels[3])
    with pytest.raises(UsageError, match="groups of 4"):
        plain(same, torch.ones(6), generator=torch.Generator(), side=64, hardness=1.0, others=others, shared=4)
