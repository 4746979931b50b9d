"""Points warped with the frame are found again in the pixels; masks and boxes say what is there."""

import pytest
import torch

from matcher.data.augmentations import Recipe
from matcher.data.augmentations import homography as h

MOVES = ("crop", "hflip", "vflip", "turn", "aspect", "rotate", "perspective", "pad", "meme", "onto", "collage", "screenshot")
OVERLAYS = ("under", "stripes", "occlude", "emoji", "text", "scribble")
SIDE, COUNT = 96, 12


def run(pictures, others, generator, *, count=COUNT, **edits):
    recipe = Recipe(edits={name: (chance, chance) for name, chance in edits.items()}, untouched=0.0, resaved=0.0)
    aspect = torch.linspace(0.5, 2.0, count)
    return recipe(pictures.expand(count, -1, -1, -1), aspect, generator=generator, side=SIDE, hardness=1.0, others=others)


def shrunk(masks):
    """Masks (B, S, S) without their outermost pixels, and those beside other things."""
    out = torch.nn.functional.max_pool2d((~masks).float()[:, None], 5, stride=1, padding=2)[:, 0] > 0
    return masks & ~out


def place_errors(out):
    """How far the place that each visible pixel's colour tells is from the place that the frame tells."""
    x, y = h.raster(h.inverse(out.frame), SIDE)
    red, green, blue = out.pixels.unbind(1)
    told = torch.stack([red, green]) / blue.clamp(min=1e-3) * 0.9
    error = ((told - 0.1) / 0.8 - torch.stack([x, y])).abs().amax(0)
    seen = shrunk(out.visible[:, 0])
    assert seen.float().mean() > 0.02
    return error[seen]


@pytest.mark.parametrize("edit", [*MOVES, *OVERLAYS, "everything"])
def test_pixels_are_where_the_frame_says(edit, places, black, generator):
    chances = dict.fromkeys((*MOVES, *OVERLAYS), 0.3) if edit == "everything" else {edit: 1.0}
    errors = place_errors(run(places, black, generator, **chances))
    # ink thinner than half a pixel, and semi-transparent ink, is no cover: some pixels are tinted
    assert errors.median() < 0.012
    assert (errors < 0.04).float().mean() > (0.97 if edit in MOVES else 0.85)


@pytest.mark.parametrize("edit", MOVES)
def test_coloured_dots_are_found_at_the_warped_points(edit, black, generator):
    points = torch.tensor([[0.3, 0.35], [0.7, 0.3], [0.45, 0.75]])
    line = (torch.arange(64) + 0.5) / 64
    y, x = torch.meshgrid(line, line, indexing="ij")
    dots = torch.stack([((x - px) ** 2 + (y - py) ** 2).sqrt() < 0.06 for px, py in points.tolist()])
    out = run((dots * 255).to(torch.uint8), black, generator, **{edit: 1.0})
    warped = h.apply(out.frame, points)
    found = 0
    axis = (torch.arange(SIDE) + 0.5) / SIDE
    for row in range(COUNT):
        for dot in range(3):
            if not ((warped[row, dot] > 0.2) & (warped[row, dot] < 0.8)).all():
                continue
            weight = out.pixels[row, dot] * out.visible[row, 0] * (out.pixels[row].sum(0) - out.pixels[row, dot] < 0.3)
            centre = torch.stack([(weight.sum(0) * axis).sum(), (weight.sum(1) * axis).sum()]) / weight.sum()
            assert (centre - warped[row, dot]).abs().max() < 0.025, (row, dot)
            found += 1
    assert found >= 4


def test_visible_is_what_is_not_pasted_over(black, generator):
    white = torch.full_like(black, 255)
    out = run(black[0], white, generator, under=1.0)
    assert torch.equal(out.visible[:, 0], out.pixels.mean(1) < 0.5)
    assert 0 < (~out.visible).float().mean() < 0.7


def test_visible_is_the_source_on_another_picture(black, generator):
    out = run(torch.full_like(black[0], 255), black, generator, onto=1.0)
    assert torch.equal(out.visible[:, 0], out.pixels.mean(1) > 0.5)


def test_a_box_encloses_what_was_pasted(black, generator):
    out = run(black[0], torch.full_like(black, 255), generator, count=24, under=1.0)
    for row in range(24):
        assert (out.classes[row] >= 0).sum() == 1
        y, x = (out.pixels[row, 0] > 0.2).nonzero().unbind(1)
        slow = torch.tensor([x.min(), y.min(), x.max() + 1, y.max() + 1]) / SIDE
        assert torch.allclose(out.boxes[row, 0], slow, atol=1.01 / SIDE)


@pytest.mark.parametrize(("edit", "label"), [("emoji", 1), ("text", 2)])
def test_boxes_enclose_stickers_and_text(edit, label, black, generator):
    ground = torch.tensor([128, 20, 230], dtype=torch.uint8)[:, None, None]
    out = run(ground.expand_as(black[0]), black, generator, count=24, **{edit: 1.0})
    assert set(out.classes.unique().tolist()) <= {-1, label}
    axis = (torch.arange(SIDE) + 0.5) / SIDE
    lost = total = 0
    for row in range(24):
        change = (out.pixels[row] - ground / 255).abs().amax(0)
        drawn = change > 0.3
        covered = torch.zeros_like(drawn)
        for box, name in zip(out.boxes[row], out.classes[row].tolist(), strict=True):
            if name >= 0:
                inside = ((axis >= box[1]) & (axis <= box[3]))[:, None] & ((axis >= box[0]) & (axis <= box[2]))
                covered |= inside
                assert (change[inside] > 0.1).any(), "a box without anything in it"
        lost, total = lost + int((drawn & ~covered).sum()), total + int(drawn.sum())
    assert total > 1000 and lost < 0.03 * total


def test_every_tile_of_a_collage_has_its_box(black, generator):
    out = run(torch.full_like(black[0], 255), black, generator, count=40, collage=1.0)
    counts = (out.classes == 0).sum(1)
    assert set(counts.tolist()) <= {2, 3, 4, 6, 9} and len(counts.unique()) >= 3
    for row in range(40):
        boxes = out.boxes[row][out.classes[row] == 0]
        size = boxes[:, 2:] - boxes[:, :2]
        assert 0.6 < size.prod(1).sum() < 1.06
        y, x = out.visible[row, 0].nonzero().unbind(1)
        own = torch.tensor([x.min(), y.min(), x.max() + 1, y.max() + 1]) / SIDE
        assert ((boxes - own).abs().amax(1) < 1e-6).sum() == 1


@pytest.mark.parametrize("edit", ["pad", "crop", "rotate", "perspective", "scribble", "stripes", "occlude"])
def test_what_is_not_pasted_has_no_box(edit, places, black, generator):
    assert (run(places, black, generator, **{edit: 1.0}).classes == -1).all()


def test_a_meme_has_text_and_no_picture(places, black, generator):
    assert set(run(places, black, generator, meme=1.0).classes.unique().tolist()) <= {-1, 2}


def test_what_is_pasted_over_loses_its_box(black, generator):
    """Boxes of stickers below an opaque picture are gone; at least a third of each remaining one is free."""
    sparse = run(black[0], black, generator, count=64, emoji=1.0)
    covered = run(black[0], black, torch.Generator().manual_seed(7), count=64, emoji=1.0, occlude=1.0, stripes=1.0)
    assert (covered.classes == 1).sum() < (sparse.classes == 1).sum()
