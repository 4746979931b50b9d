"""Descriptors of earlier steps as more negatives (cross-batch memory, arXiv 1912.06798; the queue of MoCo without its second encoder)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

NOBODY = -1  # source of a place that was never written


class Memory(nn.Module):
    """The last ``places`` descriptors and the photos that they came from; a part of the training state."""

    rows: Tensor
    source: Tensor
    written: Tensor

    def __init__(self, places: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(places, dim))
        self.register_buffer("source", torch.full((places,), NOBODY))
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))

    def related(self, shares: Tensor, source: Tensor) -> Tensor:
        """Views (A, S) of the photos ``source`` (S,) -> (A, M) bool: that place is empty, or shows a photo that the view shows."""
        same = (source[:, None] == self.source).to(shares.dtype)
        return (shares @ same > 0) | (self.source == NOBODY)

    @torch.no_grad()
    def add(self, rows: Tensor, source: Tensor) -> None:
        """Rows (B, D) of photos (B,) -> written over the oldest; of more than there are places, the last."""
        count = min(len(rows), len(self.rows))
        place = (self.written + torch.arange(count, device=self.rows.device)) % len(self.rows)
        self.rows[place], self.source[place] = rows[-count:].to(self.rows), source[-count:]
        self.written += count
