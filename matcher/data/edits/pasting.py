"""Edits with other pictures: pasted onto one, under one, among several."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matcher.data.edits.edited import Context, Edited, Pixels, Severity, colour, strength
from matcher.data.edits.placing import covered, cut, fitting, placed, resize, resized


def onto(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Laid on another picture: 78 % (mild) down to 15 % (strong) of its height, often opaque, inside or over its edge."""
    background = whole_canvas(context.foreign(rng), context.canvas_side)
    height, width = background.shape[:2]
    share, opacity = strength(rng, severity, 0.78, 0.15), 1.0 if rng.random() < 0.7 else float(rng.uniform(0.6, 1.0))
    small = resized(picture, fitting(picture.size_hw, (max(8, round(height * share)), max(8, round(width * min(1.0, share * 1.4))))))
    over = 0.25 if rng.random() < 0.15 else 0.0
    out_y, out_x = over * small.size_hw[0], over * small.size_hw[1]
    left = round(rng.uniform(-out_x, width - small.size_hw[1] + out_x))
    top = round(rng.uniform(-out_y, height - small.size_hw[0] + out_y))
    return placed(small, background, left, top, opacity, share=share, opacity=opacity)


def whole_canvas(pixels: Pixels, side: int) -> Pixels:
    """A picture at the size of a canvas: its longer side is ``side``."""
    return resize(pixels, fitting(pixels.shape[:2], (side, side)))


def under(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Another picture laid over it, hiding 8 % (mild) to 62 % (strong); some let it through."""
    share, opacity = strength(rng, severity, 0.08, 0.62), 1.0 if rng.random() < 0.75 else float(rng.uniform(0.4, 0.9))
    above = context.foreign(rng)
    height, width = picture.size_hw
    factor = float(np.sqrt(share * height * width / (above.shape[0] * above.shape[1])))
    size = min(height, max(1, round(above.shape[0] * factor))), min(width, max(1, round(above.shape[1] * factor)))
    left, top = int(rng.integers(0, width - size[1] + 1)), int(rng.integers(0, height - size[0] + 1))
    alpha = np.full(size, opacity, dtype=np.float32)
    return covered(picture, resize(above, size), alpha, left, top, share=share, opacity=opacity)


def collage(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """One cell of a grid of pictures: two to four (mild and medium), or six to nine (strong), with a gap between them."""
    columns, rows = grid_shape(rng, severity)
    grid = draw_grid(rng, columns, rows, context.canvas_side)
    (cell_h, cell_w), canvas = grid.cell_hw, grid.canvas
    own, stretches = int(rng.integers(rows * columns)), bool(rng.random() < 0.6)
    for cell, (left, top) in enumerate(grid.places):
        if cell != own:
            other = Edited.start(context.foreign(rng))
            canvas[top : top + cell_h, left : left + cell_w] = filled(other, grid.cell_hw, stretches).pixels
    tile = filled(picture, grid.cell_hw, stretches)
    return placed(tile, canvas, *grid.places[own], grid=[columns, rows], cell=own, stretches=stretches)


@dataclass(frozen=True, eq=False)
class Grid:
    """An empty collage of one colour: its canvas (H, W, 3), left and top of each cell, row by row, and their size."""

    canvas: Pixels
    places: list[tuple[int, int]]
    cell_hw: tuple[int, int]


def draw_grid(rng: np.random.Generator, columns: int, rows: int, side: int) -> Grid:
    """A collage of ``columns`` x ``rows`` cells without pictures, at most about ``side`` pixels wide."""
    gap = int(rng.choice([0, 2, 4, 10]))
    cell_w = (side - gap * (columns + 1)) // max(columns, rows)
    cell_h = round(cell_w * float(rng.choice([0.75, 0.8, 1.0, 1.25])))
    canvas = np.empty((rows * (cell_h + gap) + gap, columns * (cell_w + gap) + gap, 3), dtype=np.uint8)
    canvas[:] = colour(rng)
    places = [(gap + column * (cell_w + gap), gap + row * (cell_h + gap)) for row in range(rows) for column in range(columns)]
    return Grid(canvas, places, (cell_h, cell_w))


def grid_shape(rng: np.random.Generator, severity: Severity) -> tuple[int, int]:
    """Columns and rows of a collage."""
    choices = {1: ((2, 2), (2, 1), (1, 2)), 2: ((2, 2), (3, 1), (1, 3)), 3: ((3, 2), (2, 3), (3, 3))}[severity]
    return choices[int(rng.choice(3, p=(0.5, 0.25, 0.25)))]


def filled(picture: Edited, size_hw: tuple[int, int], stretches: bool) -> Edited:
    """The picture made to fill ``size_hw``: stretched, or cut in the middle to the same shape first."""
    if not stretches:
        h, w = fitting(size_hw, picture.size_hw)
        left, top = (picture.size_hw[1] - w) // 2, (picture.size_hw[0] - h) // 2
        picture = cut(picture, (left, top, left + w, top + h))
    return resized(picture, size_hw)
