"""Which boxes enclose what was pasted and can still be seen."""

from __future__ import annotations

import torch
from torch import Tensor

from matcher.data.augmentations.augmented import PICTURE
from matcher.data.augmentations.jobs import Band

LEAST_FREE, LEAST_AREA, MOST_AREA = 0.35, 0.0008, 0.9  # of a box: share not pasted over; share of the output


class Finds:
    """Boxes of what was pasted, collected layer by layer."""

    def __init__(self, inner: Tensor) -> None:
        self.inner, self.free = inner, inner.clone()  # (B, S, S) bool: the inner canvas, and what of it is not pasted over
        self.top = torch.full(inner.shape, -1, dtype=torch.int16, device=inner.device)  # the topmost layer that has a box
        self.found: list[tuple[int, int, Tensor, Tensor, Tensor]] = []  # layer, label, rows, boxes, pixels

    def find(self, number: int, label: int, band: Band, seen: Tensor) -> None:
        """A layer with a box is seen at ``seen`` (R, L, S) bool."""
        band.put(self.top, torch.where(seen, number, band.of(self.top)))
        self.found.append((number, label, band.rows, *enclose(seen, band.lines[:, 0])))

    def cover(self, band: Band, opaque: Tensor, *, hides_boxes: bool, hides_canvas: bool) -> None:
        """Something opaque (R, L, S) bool lies over boxes, or over the inner canvas, so far."""
        if hides_boxes:
            band.put(self.top, torch.where(opaque, -1, band.of(self.top)))
        if hides_canvas:
            band.put(self.free, band.of(self.free) & ~opaque)

    def boxes(self, nested: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (B, M, 4) and classes (B, M), those of a row first and then -1; the inner canvas of ``nested`` rows (B,) has one too."""
        count, device = len(nested), nested.device
        boxes, labels = [torch.zeros((count, 1, 4), device=device)], [torch.full((count, 1), -1, device=device)]
        freedom = [(self.top[rows] == number).sum((1, 2)) for number, _, rows, _, _ in self.found]
        rows = nested.nonzero()[:, 0]
        whole = (-1, PICTURE, rows, *enclose(self.inner[rows], torch.zeros_like(rows)))
        for (_, label, at, box, size), free in zip([*self.found, whole], [*freedom, self.free[rows].sum((1, 2))], strict=True):
            good = is_good(box, size, free, label)
            boxes.append(torch.zeros((count, 1, 4), device=device))
            boxes[-1][at, 0] = box * good[:, None]
            labels.append(torch.full((count, 1), -1, device=device))
            labels[-1][at, 0] = torch.where(good, label, -1)
        every, classes = torch.cat(boxes, dim=1), torch.cat(labels, dim=1)
        most = max(1, int((classes >= 0).sum(1).max())) if count else 1
        order = (classes < 0).int().sort(dim=1, stable=True).indices[:, :most]
        return every.gather(1, order[..., None].expand(-1, -1, 4)), classes.gather(1, order)


def is_good(box: Tensor, size: Tensor, free: Tensor, label: int) -> Tensor:
    """Which boxes (R, 4) are worth keeping, by their pixels ``size`` (R,) and how many of them lie free: (R,) bool."""
    area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    return (size > 0) & (free >= LEAST_FREE * size) & (area >= LEAST_AREA) & ((area <= MOST_AREA) | (label != PICTURE))


def enclose(masks: Tensor, first_line: Tensor) -> tuple[Tensor, Tensor]:
    """Masks (R, L, S) that start at a line (R,) -> the boxes around them (R, 4) on the unit square, and how many pixels they have (R,)."""
    ones, side = masks.float(), masks.shape[2]
    lines, columns = ones.sum(2), (ones.new_ones(1, 1, masks.shape[1]) @ ones)[:, 0]
    (left, right), (top, bottom) = extent(columns), extent(lines)
    box = torch.stack([left, top + first_line, right, bottom + first_line], dim=-1) / side
    size = lines.sum(1)
    return box * (size > 0)[:, None], size


def extent(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Counts (R, N) -> the first place that is not 0, and one behind the last: (R,), (R,)."""
    there = (counts > 0).int()
    return there.argmax(1), counts.shape[1] - there.flip(1).argmax(1)
