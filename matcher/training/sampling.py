"""Which photos a step sees. Every draw depends on the seed and the number of the step alone, so a run can stop and go on anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from matcher.errors import MatcherError

TRAINING, HELD_OUT, MODEL, CLASSES = 0, 1, 2, 3  # streams of random numbers


class Draw(NamedTuple):
    """Rows of the photo bank for one step."""

    rows: Tensor  # (B,) int64, different
    others: Tensor  # (K,) int64, different, none of them in rows: what edits paste
    seed: int  # of everything else that is random in this step
    negatives: Tensor = torch.empty(0, dtype=torch.int64)  # (E,) different, none of them in rows or others


class Draws(IterableDataset[Draw]):
    """Weights (N,) -> an endless stream of draws, from the step that ``first`` tells when it begins (or ``count`` of them).

    ``negatives``: photos beside rows and others; ``known``: step -> how many photos, from the first on, may be rows (None = all);
    ``past``: so many draws are passed over before that of step 0.
    """

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
        negatives: int = 0,
        known: Callable[[int], int] | None = None,
        past: int = 0,
    ) -> None:
        usable = int((weight > 0).sum())
        if usable < batch + others + negatives:
            more = f", {others} others to paste and {negatives} negatives" if negatives else f" and {others} others to paste"
            raise MatcherError(f"a step takes {batch} photos{more}, there are only {usable}: lower data.batch_size or data.groups")
        if known is not None and (fewest := int((weight[: known(0)] > 0).sum())) < batch:
            raise MatcherError(f"a step takes {batch} photos, and only {fewest} are known at first: raise the first of data.known")
        self.weight, self.batch, self.others, self.seed, self.stream = weight.double().cpu(), batch, others, seed, stream
        self.first, self.count, self.negatives, self.known, self.past = first, count, negatives, known, past

    def __iter__(self) -> Iterator[Draw]:
        step = self.first()
        while self.count is None or step < self.count:
            yield self.draw(step)
            step += 1

    def draw(self, step: int) -> Draw:
        """The photos of a step, likelier where they weigh more."""
        seed = step_seed(self.seed, self.stream, self.past + step)
        generator = torch.Generator().manual_seed(seed)
        if self.known is None:
            chosen = torch.multinomial(self.weight, self.batch + self.others + self.negatives, generator=generator)
            chosen = chosen[torch.randperm(len(chosen), generator=generator)]
        else:
            rows = torch.multinomial(self.weight[: self.known(step)], self.batch, generator=generator)
            rest = self.weight.index_fill(0, rows, 0.0)
            chosen = torch.cat([rows, torch.multinomial(rest, self.others + self.negatives, generator=generator)])
        rows, others, negatives = chosen.split([self.batch, self.others, self.negatives])
        return Draw(rows, others, seed, negatives)


def step_seed(seed: int, stream: int, step: int) -> int:
    """A seed for a step of a stream, 0 to 2^63 - 1: as good as independent for different ones."""
    return int(np.random.SeedSequence([seed, stream, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
