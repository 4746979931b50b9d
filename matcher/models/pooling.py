"""Features of places -> one row a picture: class token, mean, or generalised mean (GeM, its power learned or 3)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from matcher.errors import UsageError

PoolingKind = Literal["cls", "mean", "gem", "gem3"]
SMALLEST = 1e-6  # GeM takes powers, so features are clamped to this from below


class Pooling(nn.Module):
    """Tokens (B, T, C), of which the first ``prefix`` are no places (class token, registers) -> (B, C).

    UsageError if the kind is unknown, or "cls" is asked of a network without a class token.
    """

    def __init__(self, kind: str, *, prefix: int, has_class: bool) -> None:
        super().__init__()
        if kind not in get_args(PoolingKind):
            raise UsageError(f"there is no pooling {kind!r}; there are: backbone, {', '.join(get_args(PoolingKind))}")
        if kind == "cls" and not has_class:
            raise UsageError("pooling cls needs a backbone with a class token, and this one has none; take mean or gem")
        self.kind, self.prefix = kind, prefix
        self.gem = GeM(learned=kind == "gem") if kind in ("gem", "gem3") else None

    def forward(self, tokens: Tensor) -> Tensor:
        if self.kind == "cls":
            return tokens[:, 0]
        places = tokens[:, self.prefix :]
        return places.mean(dim=1) if self.gem is None else self.gem(places)


class GeM(nn.Module):
    """Places (B, N, C) -> (B, C) float32: mean of the p-th powers, p-th root (Radenovic et al. 2018, eq. 3); p is learned, or stays."""

    power: Tensor

    def __init__(self, power: float = 3.0, *, learned: bool = True) -> None:
        super().__init__()
        start = torch.full((1,), power)
        if learned:
            self.power = nn.Parameter(start)
        else:
            self.register_buffer("power", start)

    def forward(self, places: Tensor) -> Tensor:
        powers = places.float().clamp(min=SMALLEST) ** self.power
        return powers.mean(dim=1) ** (1 / self.power)
