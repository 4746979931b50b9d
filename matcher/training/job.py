"""How a training works, not what it learns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingJob:
    """Where a training keeps what it writes, and for how long it works at a time.

    Args:
        output: folder of config.yaml, curves, last.ckpt and model.safetensors; the same command goes on from last.ckpt
        minutes: stop after this time, to go on later; null = at the last step
        every_minutes: between two saves of last.ckpt
        fresh: begin anew even if there is a last.ckpt; of predict, throw earlier scores of pairs away
    """

    output: str
    minutes: float | None = None
    every_minutes: float = 5.0
    fresh: bool = False
