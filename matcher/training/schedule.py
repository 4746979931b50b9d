"""What changes with the steps: learning rate and hardness."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Growth:
    """How hard the edits are at each share of the training.

    Args:
        start: hardness at the first step, 0 to 1
        end: hardness at the end, 0 to 1
        until: share of the steps after which ``end`` is reached
    """

    start: float = 0.1
    end: float = 1.0
    until: float = 0.5

    def at(self, share: float) -> float:
        """Share of the steps done, 0 to 1 -> hardness, 0 to 1."""
        grown = min(1.0, share / self.until) if self.until > 0 else 1.0
        return self.start + (self.end - self.start) * grown


def learning_rate_share(step: int, *, steps: int, warm_up: int, final: float) -> float:
    """Step from 0 -> share of the learning rate: a straight line up, then half a cosine down to ``final``."""
    if step < warm_up:
        return (step + 1) / warm_up
    done = min(1.0, (step - warm_up) / max(1, steps - warm_up))
    return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2
