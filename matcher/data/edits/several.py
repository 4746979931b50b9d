"""Several originals in one picture: in cells of a collage, or one laid on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from matcher.data.edits.edited import Context, Edited, Pixels, Severity, Step, strength
from matcher.data.edits.pasting import draw_grid, filled, grid_shape
from matcher.data.edits.placing import fitting, placed, resized

SEVERAL = "several"  # the family's name
LAID_SHARE = 0.4  # of the pairs of originals: one is laid on the other; the rest are in a collage


def gather(originals: Sequence[Pixels], rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Two to four pictures (H, W, 3) -> one that shows them all, with a frame and a mask for each in their order; its first step."""
    if len(originals) < 2:
        raise ValueError(f"several originals are at least 2, not {len(originals)}")
    pictures = [Edited.start(pixels) for pixels in originals]
    if len(pictures) == 2 and rng.random() < LAID_SHARE:
        gathered = lay_on(pictures[0], pictures[1], rng, severity)
    else:
        gathered = fill_cells(pictures, rng, severity, context)
    return replace(gathered, steps=(Step(SEVERAL, severity, gathered.parameters),), parameters={})


def lay_on(below: Edited, above: Edited, rng: np.random.Generator, severity: Severity) -> Edited:
    """The second picture inside the first one: 60 % (mild) down to 25 % (strong) of its height, three times in four opaque."""
    height, width = below.size_hw
    share, opacity = strength(rng, severity, 0.6, 0.25), 1.0 if rng.random() < 0.75 else float(rng.uniform(0.7, 1.0))
    small = resized(above, fitting(above.size_hw, (max(8, round(height * share)), max(8, round(width * min(1.0, share * 1.4))))))
    left, top = int(rng.integers(0, width - small.size_hw[1] + 1)), int(rng.integers(0, height - small.size_hw[0] + 1))
    laid = placed(small, below.pixels, left, top, opacity)
    return below.joined(laid).noted(kind="laid on", share=share, opacity=opacity)


def fill_cells(pictures: Sequence[Edited], rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Each picture in a cell of its own of a grid as `collage` draws it; the cells that are left show strangers."""
    columns, rows = grid_shape(rng, severity)
    while columns * rows < len(pictures):
        columns, rows = grid_shape(rng, severity)
    grid = draw_grid(rng, columns, rows, context.canvas_side)
    cells = rng.permutation(columns * rows).tolist()
    stretches = bool(rng.random() < 0.6)
    canvas = grid.canvas
    for cell in cells[len(pictures) :]:
        canvas = placed(filled(Edited.start(context.foreign(rng)), grid.cell_hw, stretches), canvas, *grid.places[cell]).pixels
    tiles = [filled(picture, grid.cell_hw, stretches) for picture in pictures]
    gathered = placed(tiles[0], canvas, *grid.places[cells[0]])
    for tile, cell in zip(tiles[1:], cells[1:], strict=False):
        gathered = gathered.joined(placed(tile, gathered.pixels, *grid.places[cell]))
    return gathered.noted(kind="cells", grid=[columns, rows], cells=cells[: len(pictures)], stretches=stretches)
