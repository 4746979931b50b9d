"""What an edited batch is: pixels, where the source went, what of it is seen, and what was pasted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

PICTURE, STICKER, TEXT = 0, 1, 2  # classes of boxes; -1 = no box
CLASS_NAMES = ("pasted picture", "emoji or sticker", "text block")


@dataclass(frozen=True, eq=False)
class Augmented:
    """A batch after its edits, all on one device.

    Attributes:
        pixels: (B, 3, S, S) float32 RGB in 0..1
        frame: (B, 3, 3) float32, source unit square -> output unit square
        visible: (B, 1, S, S) bool, output pixels that show the source
        boxes: (B, M, 4) float32, x0, y0, x1, y1 on the output's unit square; 0 where there is none
        classes: (B, M) int64, PICTURE (each tile of a collage too), STICKER, TEXT, or -1 = no box
    """

    pixels: Tensor
    frame: Tensor
    visible: Tensor
    boxes: Tensor
    classes: Tensor

    def to(self, device: str | torch.device) -> Self:
        """The same batch on a device."""
        return type(self)(*(getattr(self, name).to(device) for name in ("pixels", "frame", "visible", "boxes", "classes")))
