"""Small drawn pictures and a context for the tests of edits."""

from __future__ import annotations

import numpy as np
import pytest

from matcher.data.edits import Context


@pytest.fixture
def context() -> Context:
    """Foreign pictures are plain grey with a darker corner; canvases are small."""

    def foreign(rng: np.random.Generator) -> np.ndarray:
        pixels = np.full((90, 120, 3), int(rng.integers(100, 140)), dtype=np.uint8)
        pixels[:20, :20] = 30
        return pixels

    return Context(foreign, canvas_side=240)


@pytest.fixture
def waves() -> np.ndarray:
    """(150, 200, 3) slow waves of colour: they hardly change when they are resampled."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:150, 0:200] / 200
    channels = [np.sin(2 * np.pi * (rng.uniform(0.4, 1.1) * x + rng.uniform(0.4, 1.1) * y + rng.random())) for _ in range(3)]
    return np.rint(128 + 90 * np.stack(channels, axis=-1)).astype(np.uint8)
