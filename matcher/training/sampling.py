"""Which photos a step sees. Every draw depends on the seed and the number of the step alone, so a run can stop and go on anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from matcher.errors import MatcherError

TRAINING, HELD_OUT, MODEL = 0, 1, 2  # streams of random numbers


class Draw(NamedTuple):
    """Rows of the photo bank for one step."""

    rows: Tensor  # (B,) int64, different
    others: Tensor  # (K,) int64, different, none of them in rows: what edits paste
    seed: int  # of everything else that is random in this step


class Draws(IterableDataset[Draw]):
    """Weights (N,) -> an endless stream of draws, from the step that ``first`` tells when it begins (or ``count`` of them)."""

    def __init__(
        self,
        weight: Tensor,
        *,
        batch: int,
        others: int,
        seed: int,
        stream: int = TRAINING,
        first: Callable[[], int] = lambda: 0,
        count: int | None = None,
    ) -> None:
        usable = int((weight > 0).sum())
        if usable < batch + others:
            raise MatcherError(f"a step takes {batch} photos and {others} others to paste, there are only {usable}: lower data.batch_size")
        self.weight, self.batch, self.others, self.seed, self.stream = weight.double().cpu(), batch, others, seed, stream
        self.first, self.count = first, count

    def __iter__(self) -> Iterator[Draw]:
        step = self.first()
        while self.count is None or step < self.count:
            yield self.draw(step)
            step += 1

    def draw(self, step: int) -> Draw:
        """The photos of a step, likelier where they weigh more."""
        seed = step_seed(self.seed, self.stream, step)
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.multinomial(self.weight, self.batch + self.others, generator=generator)
        chosen = chosen[torch.randperm(len(chosen), generator=generator)]
        return Draw(chosen[: self.batch], chosen[self.batch :], seed)


def step_seed(seed: int, stream: int, step: int) -> int:
    """A seed for a step of a stream, 0 to 2^63 - 1: as good as independent for different ones."""
    return int(np.random.SeedSequence([seed, stream, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
