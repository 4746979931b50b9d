"""What a training config may set, with the defaults."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LossSettings:
    """The contrastive loss.

    Args:
        temperature: similarities are divided by it
        entropy: weight of the KoLeo term, which spreads descriptors over the sphere; 0 = none
        both_ways: references look for their copies too; false = copies look for their references only
        mixed: share of the edited views that are blended with another photo (mixup, cutmix)
        memory: descriptors of earlier steps that are kept as negatives; 0 = none
    """

    temperature: float = 0.05
    entropy: float = 5.0
    both_ways: bool = True
    mixed: float = 0.0
    memory: int = 0


@dataclass(frozen=True)
class OptimiserSettings:
    """AdamW, its learning rate over the steps, and the moving average of the weights.

    Args:
        learning_rate: the highest one
        warm_up: steps of a straight line up to it
        final: share of it that the cosine ends at
        weight_decay: of matrices; not of biases and scales
        average: how much of the averaged weights a step keeps; 0 = no average, the last weights are the result
    """

    learning_rate: float = 1e-3
    warm_up: int = 200
    final: float = 0.01
    weight_decay: float = 0.05
    average: float = 0.999


@dataclass(frozen=True)
class AlarmSettings:
    """When a training whose descriptors have collapsed is stopped.

    Args:
        every: steps between two looks
        patience: bad looks in a row that stop the training
        least_spread: standard deviation of the descriptors, of 1 for descriptors all over the sphere
        least_distance: mean distance of copies of different photos, of 1.41 likewise
        least_dimensions: how many numbers of the descriptor vary by themselves
        least_gain: by what share copies of one photo are closer than those of different ones
    """

    every: int = 50
    patience: int = 10
    least_spread: float = 0.1
    least_distance: float = 0.3
    least_dimensions: float = 2.0
    least_gain: float = 0.02
