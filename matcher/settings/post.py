"""What is done with descriptors before they are compared."""

from __future__ import annotations

from dataclasses import dataclass

from matcher.errors import UsageError
from matcher.settings.least import at_least


@dataclass(frozen=True)
class WhitenSettings:
    """PCA of the background, unit norm.

    Args:
        dim: numbers that are kept; null = all
        power: eigenvalues to the power of minus this: 0.5 = whitening, 0 = PCA alone
    """

    dim: int | None = None
    power: float = 0.5

    def __post_init__(self) -> None:
        at_least(self, dim=1, power=0)


@dataclass(frozen=True)
class SubtractSettings:
    """Negative embedding subtraction, as the first of the descriptor track of 2021 submitted it.

    Args:
        nearest: strangers whose mean is taken off a row
        weight: how much of that mean
        iterations: how often
        smooth_nearest: strangers that each stranger is averaged with before, itself among them
        smooth_power: they weigh by this power of their cosine
    """

    nearest: int = 10
    weight: float = 0.35
    iterations: int = 1
    smooth_nearest: int = 10
    smooth_power: float = 3.0

    def __post_init__(self) -> None:
        at_least(self, nearest=1, weight=0, iterations=1, smooth_nearest=1, smooth_power=0)


@dataclass(frozen=True)
class SampleSettings:
    """Sample normalisation of queries, as the second of the descriptor track of 2021 submitted it.

    Args:
        neighbours: strangers that a query is moved away from
        nearest: those whose mean cosine says how far
        weight: how far
        by_dimension: differences are normalised dimension by dimension over the neighbours, as submitted; false = each difference alone
    """

    neighbours: int = 100
    nearest: int = 3
    weight: float = 1.8
    by_dimension: bool = True

    def __post_init__(self) -> None:
        at_least(self, neighbours=1, nearest=1, weight=0)
        if self.nearest > self.neighbours:
            raise UsageError(f"nearest ({self.nearest}) must be at most neighbours ({self.neighbours})")


@dataclass(frozen=True)
class StretchSettings:
    """Descriptor stretching of queries, as the third of the descriptor track of 2021 submitted it.

    Args:
        nearest: strangers whose mean inner product with a query stretches it
        factor: by this many times that
    """

    nearest: int = 5
    factor: float = 2.5

    def __post_init__(self) -> None:
        at_least(self, nearest=1)
        if not self.factor > 0:
            raise UsageError(f"factor must be above 0, not {self.factor}")


@dataclass(frozen=True)
class PostSettings:
    """What is done with descriptors before they are compared, in this order, by the background set (postprocessing.py).

    Args:
        whiten: both sides; null = not done, as below
        subtract: both sides
        sample: queries
        stretch: queries
    """

    whiten: WhitenSettings | None = None
    subtract: SubtractSettings | None = None
    sample: SampleSettings | None = None
    stretch: StretchSettings | None = None
