"""Pictures with something pasted, made on the device, and the boxes of what was pasted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from matcher.data.photo_bank import PhotoBank
from matcher.errors import MatcherError, UsageError
from matcher.models.overlay_yolo import STRIDE, letterbox
from matcher.shipped import shipped
from matcher.training.photo_pairs import PhotoPairs
from matcher.training.sampling import Draw
from matcher.training.schedule import Growth

LONGEST = 1.9  # aspects of pictures lie between this and its inverse


@dataclass(frozen=True, eq=False)
class SceneBatch:
    """What a training step of the overlay detector sees, letterboxed as it sees pictures later."""

    pixels: Tensor  # (B, 3, h, w) float32, 0 to 1
    boxes: Tensor  # (B, M, 4) float32, x0, y0, x1, y1 on the unit square of ``pixels``
    classes: Tensor  # (B, M) int64, -1 = no box
    filled: tuple[float, float]  # share of ``pixels``, across and down, that is picture
    source: Tensor  # (B,) int64, row of the photo in the bank


class OverlayScenes(PhotoPairs):
    """Photos with pictures, stickers and text pasted in, as a recipe says; one aspect for each batch.

    Args:
        photos: folder of photos, or of .tar files with photos (see data.photo_bank)
        recipe: the edits: a name in experiments/augmentations or a YAML file
        hardness: how hard the edits are during the training
        batch_size: pictures a step
        others: photos a step that are pasted, or lie under what is
        smallest: longer side in pixels of the smallest scenes that are learnt from, a multiple of 32: each step draws one between it and
            the model's, which validation has throughout; null = the model's. Photos of few pixels are blurred in scenes as large as they
            are, what is pasted into them is not, and edges that are sharp by nature are then taken for pasted ones
        leave_out: a text file with the name of a photo a line, or one that comes with matcher ("overlay/figures.txt"): photos that are
            themselves made of several pictures, whose boxes nobody knows. They are neither pasted nor pasted onto
        bank_side: side in pixels at which photos are kept
        cache: folder of the decoded photos; null = decode each time
        held_out: share of the photos that validation uses, and training never sees
        held_out_batches: batches of them that recall is measured on
        seed: of the split and of every draw
        past: steps of this seed that the weights which it begins from have seen: other draws than theirs
        ahead: make the scenes of the next steps in a process of its own, where the training runs on the CPU
    """

    several_devices = False

    def __init__(
        self,
        photos: str,
        *,
        recipe: str = "overlay",
        hardness: Growth = Growth(),
        batch_size: int = 32,
        others: int = 64,
        smallest: int | None = None,
        leave_out: str | None = None,
        bank_side: int = 224,
        cache: str | None = None,
        held_out: float = 0.05,
        held_out_batches: int = 16,
        seed: int = 0,
        past: int = 0,
        ahead: bool = False,
    ) -> None:
        super().__init__(
            photos,
            recipe=recipe,
            hardness=hardness,
            batch_size=batch_size,
            others=others,
            bank_side=bank_side,
            cache=cache,
            held_out=held_out,
            held_out_batches=held_out_batches,
            seed=seed,
            past=past,
            ahead=ahead,
        )
        if smallest is not None and (smallest < STRIDE or smallest % STRIDE):
            raise UsageError(f"data.smallest must be a multiple of {STRIDE}, not {smallest}")
        self.smallest = smallest
        self.left_out = read_names(leave_out) if leave_out else frozenset()

    def setup(self, stage: str) -> None:
        """As for all; those left out are never drawn."""
        begun = hasattr(self, "bank")
        super().setup(stage)
        if self.left_out and not begun:
            self.bank, self.held_out = self.bank.without(self.left_out), self.held_out.without(self.left_out)

    def make_pairs(self, bank: PhotoBank, draw: Draw, *, hardness: float) -> SceneBatch:  # type: ignore[override]
        """Rows of a bank -> scenes; the same seed gives the same ones."""
        generator, dice = torch.Generator(bank.pixels.device).manual_seed(draw.seed), np.random.default_rng(draw.seed)
        aspect = math.exp(dice.uniform(-1, 1) * math.log(LONGEST))
        smallest = self.side if self.smallest is None or bank is self.held_out else min(self.smallest, self.side)
        side = int(dice.integers(smallest // STRIDE, self.side // STRIDE, endpoint=True)) * STRIDE
        made = self.recipe(
            bank.pixels[draw.rows],
            bank.aspect[draw.rows],
            generator=generator,
            side=side,
            hardness=hardness,
            others=bank.pixels[draw.others],
        )
        pixels, boxes, filled = letterbox(made.pixels, made.boxes, aspect=aspect, size=side)
        return SceneBatch(pixels, boxes, made.classes, filled, draw.rows)


def read_names(file: str) -> frozenset[str]:
    """A text file, or one in experiments/ -> its lines, but for empty ones and remarks (#). MatcherError if there is none."""
    path = Path(file) if Path(file).is_file() else shipped("experiments", file)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MatcherError(f"cannot read data.leave_out {path}: {error}") from error
    return frozenset(line for line in lines if line and not line.startswith("#"))
