"""Heads of a descriptor: pooled rows -> its numbers, before they are scaled to the unit sphere."""

from __future__ import annotations

from torch import nn

SLOPE = 0.2  # of LeakyReLU below zero
NECK_LAYERS = 5  # of the head with a neck: so many give the neck's row, the others the descriptor


def make_head(width: int, dim: int, neck: int | None = None) -> nn.Sequential:
    """Numbers of a pooled row, of a descriptor and of the neck (null = none) -> (B, width) to (B, dim).

    Without a neck: a linear map and batch norm. With one, as VisionForce (arXiv 2111.08004, as in its published test code; there the neck
    has 8192 numbers and the descriptor 256): two linear maps and a batch norm give the neck's row, batch norm, LeakyReLU and a
    linear map with batch norm bring it down to the descriptor.
    """
    last = [nn.Linear(neck or width, dim, bias=False), nn.BatchNorm1d(dim)]
    if neck is None:
        return nn.Sequential(*last)
    half = max(1, neck // 2)
    widen = [nn.Linear(width, half), nn.BatchNorm1d(half), nn.LeakyReLU(SLOPE), nn.Linear(half, neck), nn.BatchNorm1d(neck)]
    return nn.Sequential(*widen, nn.BatchNorm1d(neck), nn.LeakyReLU(SLOPE), *last)
