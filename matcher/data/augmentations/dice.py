"""Random numbers for a batch, all from one torch.Generator and on its device: same seed, same plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Dice:
    """Draws for ``count`` rows at once.

    Attributes:
        generator: where all randomness comes from
        count: rows B
        reach: (B,), strengths are drawn from 0 to this
    """

    generator: torch.Generator
    count: int
    reach: Tensor

    @property
    def device(self) -> torch.device:
        return self.generator.device

    def times(self, things: int) -> Dice:
        """Dice for ``things`` things in each row, (things * B) in all: first those of the first thing."""
        return Dice(self.generator, things * self.count, self.reach.repeat(things))

    def uniform(self, low: float = 0.0, high: float = 1.0, *shape: int) -> Tensor:
        """Numbers from low to high: (B, *shape) float32."""
        return torch.empty((self.count, *shape), device=self.device).uniform_(low, high, generator=self.generator)

    def coin(self, chance: float | Tensor) -> Tensor:
        """True as often as ``chance`` says: (B,) bool."""
        return self.uniform() < chance

    def whole(self, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers low <= n < high: (B, *shape) int64."""
        return torch.randint(low, high, (self.count, *shape), generator=self.generator, device=self.device)

    def pick(self, values: Sequence[float], weights: Sequence[float]) -> Tensor:
        """One of the values, as often as its weight says: (B,) float32."""
        table = torch.tensor(values, dtype=torch.float32, device=self.device)
        edges = torch.tensor(weights, dtype=torch.float32, device=self.device).cumsum(0)
        return table[torch.searchsorted(edges, self.uniform() * edges[-1], right=True).clamp(max=len(values) - 1)]

    def strength(self, mild: float, strong: float) -> Tensor:
        """From ``mild`` towards ``strong``, as far as ``reach`` lets it: (B,) float32."""
        return mild + (strong - mild) * self.uniform() * self.reach

    def logarithmic(self, mild: float, strong: float) -> Tensor:
        """The same for positive numbers, evenly on a logarithmic scale."""
        return self.strength(math.log(mild), math.log(strong)).exp()

    def colour(self) -> Tensor:
        """Black, white or grey two times in five, else any colour: (B, 3) in 0..1."""
        grey = self.pick((0.0, 1.0, 0.5), (3, 3, 1))[:, None].expand(-1, 3)
        return torch.where(self.coin(0.4)[:, None], grey, self.uniform(0.0, 1.0, 3))

    def sign(self) -> Tensor:
        """-1 or 1: (B,)."""
        return torch.where(self.coin(0.5), 1.0, -1.0)
