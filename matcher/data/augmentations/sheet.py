"""What a recipe does, as one picture to look at."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from matcher import geometry
from matcher.data.augmentations.augmented import Augmented
from matcher.data.augmentations.recipe import Recipe
from matcher.data.photo_bank import PhotoBank
from matcher.errors import UsageError
from matcher.storage.aside import check_output, write_aside

COLUMNS, SIDE = 8, 160
FRAME_COLOUR, BOX_COLOURS = (255, 0, 0), ((255, 220, 0), (0, 220, 255), (255, 0, 255))  # picture, sticker, text


def contact_sheet(recipe: Recipe, bank: PhotoBank, *, rows: int, seed: int, hardness: float) -> NDArray[np.uint8]:
    """Rows of eight photos, each above its edit -> (H, W, 3) uint8 RGB.

    In red the outline of the source; what is visible of it is tinted green; boxes in yellow (pasted picture), cyan (emoji
    or sticker) and magenta (text block).
    """
    if rows < 1:
        raise UsageError(f"rows must be at least 1, not {rows}")
    generator = torch.Generator().manual_seed(seed)
    count = rows * COLUMNS
    drawn = torch.multinomial(bank.weight.cpu(), 2 * count, replacement=True, generator=generator)
    pixels, aspect = bank.pixels[drawn.to(bank.pixels.device)].cpu(), bank.aspect.cpu()[drawn]
    edited = recipe(
        pixels[:count],
        aspect[:count],
        generator=generator,
        side=SIDE,
        hardness=hardness,
        others=pixels[count:],
        other_aspect=aspect[count:],
    )
    cells = [np.concatenate([before(pixels[row]), after(edited, row)]) for row in range(count)]
    lines = [np.concatenate(cells[start : start + COLUMNS], axis=1) for start in range(0, count, COLUMNS)]
    return np.concatenate(lines)


def before(picture: torch.Tensor) -> NDArray[np.uint8]:
    """A picture (3, P, P) uint8 at the size of the sheet."""
    return np.asarray(cv2.resize(picture.permute(1, 2, 0).numpy(), (SIDE, SIDE), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def after(edited: Augmented, row: int) -> NDArray[np.uint8]:
    """One edited picture with the marks of what is known about it."""
    picture = (edited.pixels[row].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    tint = np.where(edited.visible[row, 0].numpy()[..., None], np.array([0.0, 255.0, 0.0]), picture)
    marked = np.ascontiguousarray(np.rint(0.85 * picture + 0.15 * tint).astype(np.uint8))
    corners = geometry.corners(edited.frame[row].double().numpy())
    cv2.polylines(marked, [np.rint(corners * SIDE * 16 - 8).clip(-(2**20), 2**20).astype(np.int32)], True, FRAME_COLOUR, 1, cv2.LINE_AA, 4)
    for box, label in zip((edited.boxes[row] * SIDE).round().int().tolist(), edited.classes[row].tolist(), strict=True):
        if label >= 0:
            cv2.rectangle(marked, (box[0], box[1]), (box[2] - 1, box[3] - 1), BOX_COLOURS[label], 1)
    return marked


def contact_sheet_verb(
    photos: str | PathLike[str],
    output: str | PathLike[str],
    *,
    recipe: str = "benchmark",
    rows: int = 4,
    seed: int = 0,
    hardness: float = 1.0,
    cache: str | PathLike[str] | None = None,
) -> Path:
    """Photos -> a PNG that shows what a recipe does to them.

    Args:
        photos: a folder of pictures, or of .tar files of them
        output: the PNG to write
        recipe: a YAML file, or a bare name: mild, benchmark, overlay
        rows: rows of eight photos
        seed: another seed, another draw
        hardness: 0 to 1
        cache: folder in which decoded photos are kept for the next time
    """
    check_output(output, ".png")
    if Path(output).exists() and Path(photos).resolve() in Path(output).resolve().parents:
        raise UsageError(f"--output {output} is there, among the photos, and would be replaced: choose another --output")
    sheet = contact_sheet(Recipe.load(recipe), PhotoBank.load(photos, side=SIDE, cache=cache), rows=rows, seed=seed, hardness=hardness)
    with write_aside(output) as file:
        Image.fromarray(sheet).save(file, format="PNG")
    return Path(output)
