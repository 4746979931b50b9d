"""Names of views -> frames. A name is one view or a group; parts joined by "+" are taken one inside the other.

    whole                   the picture
    turn90 turn180 turn270  turned clockwise; "turns" = these three, "quarters" = whole and these three
    turn45 ... turn315      the same in steps of 45 degrees; "turns45" = all seven
    flip                    mirrored left to right
    centre                  the middle half of both sides; "two_thirds" = the middle two thirds of both sides
    halves                  left, middle_column, right (half as wide) and top, middle_row, bottom (half as high)
    corners                 2x2 windows of half the area in the corners: corners_1_1 ... corners_2_2
    grid2, grid3            2x2 and 3x3 cells side by side:              grid2_1_1 ... grid3_3_3; "quadrants" = grid2
    half_grid               3x3 windows of half the side, step 1/4:      half_grid_1_1 ... half_grid_3_3
    third_grid              5x5 windows of a third of the side, step 1/6
    tiles                   2x2 tiles of the central two thirds:         tiles_1_1 ... tiles_2_2
    half_tiles              2x2 windows of half the side, step 1/4, in the central three quarters

Cells are named by row and column, counted from 1 at the top left. "left+turn90+flip" is the left half, turned, then
mirrored; "halves+flip" is the six halves mirrored. A view that is named twice is planned once.

An odd multiple of 45 degrees shows all of what it turns, in a view sqrt(2) as wide and as high, with the corners beside the
picture grey. Like quarter turns it turns the unit square, whatever the picture's aspect: what is seen is the squared
picture that "whole" shows, turned. Inside a crop such a view reaches past the crop and shows the picture around it.

What the published systems look at:

    separate           queries (41): whole, halves, half_grid, third_grid              references (10): whole, half_grid
    separate, verdict  queries (8): whole, turn90, left, middle_column, right,         references (1): whole
                       and top, middle_row, bottom, each turned by 90 degrees
    D2LV               queries: whole, turns, centre, tiles, proposals, overlays       references (19): whole, grid2, centre, grid3, tiles
    CopyNCE            queries (45): whole; halves, corners; half_grid; third_grid     references (9): whole, two_thirds, half_tiles, turns
    CopyNCE, verdict   queries (25): whole, tiles, quadrants, grid3, turns45           references (10): whole, grid3_2_2, tiles, quadrants
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from matcher.errors import UsageError
from matcher.faults import suggest
from matcher.geometry import Array, compose, flip, from_box, identity, turn
from matcher.types import Views


def plan(image_ids: Sequence[str] | np.ndarray, names: Sequence[str]) -> Views:
    """Ids (N,) and names of views -> N x V views, all views of one image side by side, in the order of the names."""
    frames = expand(names)
    count, views = len(image_ids), len(frames)
    return Views(
        image_id=np.repeat(np.asarray(image_ids, dtype=np.str_), views),
        frame=np.tile(np.stack(list(frames.values())), (count, 1, 1)) if count else np.empty((0, 3, 3)),
        kind=np.tile(np.array(list(frames)), count),
        confidence=np.ones(count * views, dtype=np.float32),
    )


def expand(names: Sequence[str]) -> dict[str, Array]:
    """Names of views and groups -> the frame (3, 3) of every single view, in order. UsageError if a name is unknown or none is given."""
    if isinstance(names, str):
        raise UsageError(f"views must be a list of names, got the text {names!r}: write [{names}]")
    if not names:
        raise UsageError("no views are named: give at least [whole]")
    frames: dict[str, Array] = {}
    for name in names:
        for chain in itertools.product(*(members(part, name) for part in name.split("+"))):
            parts = [part for part in chain if part != "whole"] or ["whole"]
            frames.setdefault("+".join(parts), nested(parts))
    return frames


def nested(parts: Sequence[str]) -> Array:
    """Names of single views, outermost first -> the frame of the last one inside the others."""
    frame = identity()
    for part in parts:
        frame = compose(frame, single_views()[part])
    return frame


def members(part: str, name: str) -> list[str]:
    """One part of a name -> the single views it stands for."""
    if part in groups():
        return groups()[part]
    if part in single_views():
        return [part]
    known = sorted({*groups(), *(view for view in single_views() if not view[-1].isdigit() or view.startswith("turn"))})
    names = f"{', '.join(known)}, cells like half_grid_1_2, and any of them joined by +"
    raise UsageError(f"there is no view named {part!r} (in {name!r}); the names are {names}{suggest(part, known)}")


@cache
def groups() -> dict[str, list[str]]:
    turns = ["turn90", "turn180", "turn270"]
    named = {"turns": turns, "quarters": ["whole", *turns], "turns45": [f"turn{angle}" for angle in range(45, 360, 45)]}
    named["halves"] = ["left", "middle_column", "right", "top", "middle_row", "bottom"]
    return named | {grid: list(cells(grid)) for grid in GRIDS} | {"quadrants": list(cells("grid2"))}


@cache
def single_views() -> dict[str, Array]:
    """Every single view's name -> its frame (3, 3)."""
    frames = {"whole": identity(), "flip": flip(), "centre": from_box(0.25, 0.25, 0.75, 0.75)}
    frames["two_thirds"] = from_box(1 / 6, 1 / 6, 5 / 6, 5 / 6)
    frames |= {f"turn{90 * quarters}": turn(quarters) for quarters in (1, 2, 3)}
    frames |= {f"turn{90 * quarters + 45}": compose(turn(quarters), EIGHTH) for quarters in range(4)}
    for start, column, row in ((0.0, "left", "top"), (0.25, "middle_column", "middle_row"), (0.5, "right", "bottom")):
        frames[column] = from_box(start, 0.0, start + 0.5, 1.0)
        frames[row] = from_box(0.0, start, 1.0, start + 0.5)
    for grid in GRIDS:
        frames |= cells(grid)
    return frames


EIGHTH: Array = np.array([[1.0, 1.0, -0.5], [-1.0, 1.0, 0.5], [0.0, 0.0, 1.0]])  # 45 degrees clockwise about the middle, sqrt(2) larger
GRIDS: dict[str, tuple[int, float, float, float, float]] = {
    # name: cells a side, start of the first, step and side of a cell in units of 1 / the last number
    "grid2": (2, 0, 1, 1, 2),
    "grid3": (3, 0, 1, 1, 3),
    "half_grid": (3, 0, 1, 2, 4),
    "third_grid": (5, 0, 1, 2, 6),
    "tiles": (2, 1, 2, 2, 6),
    "half_tiles": (2, 1, 2, 4, 8),
    "corners": (2, 0, math.sqrt(2) - 1, 1, math.sqrt(2)),
}


def cells(grid: str) -> dict[str, Array]:
    """Name of a grid -> its cells' names and frames, row by row."""
    count, first, step, side, unit = GRIDS[grid]
    spans = [((first + i * step) / unit, (first + i * step + side) / unit) for i in range(count)]
    return {
        f"{grid}_{row}_{column}": from_box(x0, y0, x1, y1)
        for row, (y0, y1) in enumerate(spans, start=1)
        for column, (x0, x1) in enumerate(spans, start=1)
    }
