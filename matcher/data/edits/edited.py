"""A picture on its way through edits: its pixels, where the original went (or several), and what of it can still be seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from matcher import geometry

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB
Mask = NDArray[np.bool_]  # (H, W)
Severity = Literal[1, 2, 3]


@dataclass(frozen=True)
class Step:
    """One edit as it was made: its name, how strong, and what was drawn for it."""

    name: str
    severity: int
    parameters: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Trace:
    """What is left of a further original in a picture: ``frame`` and ``visible`` as in Edited."""

    frame: geometry.Array
    visible: Mask


@dataclass(frozen=True, eq=False)
class Edited:
    """A picture after some edits.

    Attributes:
        pixels: (H, W, 3) uint8 RGB
        frame: (3, 3) float64, from the original's unit square to this picture's
        visible: (H, W) bool, True where the original is at least half of what is seen: not padding, not pasted over
        steps: the edits made, in order
        parameters: what the edit under way has drawn so far
        others: further originals that were put into the picture; every edit moves and hides them as it does the first
    """

    pixels: Pixels
    frame: geometry.Array
    visible: Mask
    steps: tuple[Step, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    others: tuple[Trace, ...] = ()

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 3 or self.pixels.shape[2] != 3 or self.pixels.size == 0:
            raise ValueError(f"Edited.pixels must be (H, W, 3) uint8, got {self.pixels.shape} {self.pixels.dtype}")
        for left in (Trace(self.frame, self.visible), *self.others):
            if left.visible.dtype != np.bool_ or left.visible.shape != self.pixels.shape[:2]:
                raise ValueError(f"Edited.visible must be {self.pixels.shape[:2]} bool, got {left.visible.shape} {left.visible.dtype}")
            if left.frame.shape != (3, 3) or not np.isfinite(left.frame).all():
                raise ValueError("Edited.frame must be (3, 3) and finite")

    @classmethod
    def start(cls, pixels: Pixels) -> Edited:
        """An untouched picture."""
        return cls(pixels=pixels, frame=geometry.identity(), visible=np.ones(pixels.shape[:2], dtype=bool))

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def short_side(self) -> int:
        return min(self.size_hw)

    @property
    def long_side(self) -> int:
        return max(self.size_hw)

    def noted(self, **parameters: Any) -> Edited:
        """The same picture; ``parameters`` are kept for the record of the edit under way."""
        return replace(self, parameters={**self.parameters, **parameters})

    def recoloured(self, pixels: Pixels, **parameters: Any) -> Edited:
        """New values on the same grid; nothing moved, nothing hidden."""
        return replace(self.noted(**parameters), pixels=pixels)

    def painted(self, pixels: Pixels, hidden: Mask, **parameters: Any) -> Edited:
        """New values on the same grid; the originals are gone where ``hidden`` (H, W) is True."""
        others = tuple(Trace(other.frame, other.visible & ~hidden) for other in self.others)
        return replace(self.noted(**parameters), pixels=pixels, visible=self.visible & ~hidden, others=others)

    def moved(self, pixels: Pixels, carry: Callable[[Mask], Mask], move: geometry.Array, **parameters: Any) -> Edited:
        """A new grid; ``carry`` takes a mask of this picture there, ``move`` (3, 3) maps its unit square to the new one's."""
        others = tuple(Trace(geometry.compose(move, other.frame), carry(other.visible)) for other in self.others)
        frame = geometry.compose(move, self.frame)
        return replace(self.noted(**parameters), pixels=pixels, visible=carry(self.visible), frame=frame, others=others)

    def joined(self, above: Edited) -> Edited:
        """This picture after ``above``, a picture of one original on the same grid, was laid on it: the originals of both."""
        below = self.painted(above.pixels, above.visible)
        return replace(below, others=(*below.others, Trace(above.frame, above.visible)))

    def each(self) -> Iterator[Edited]:
        """The picture as that of each of its originals alone, the first one first."""
        for left in (Trace(self.frame, self.visible), *self.others):
            yield replace(self, frame=left.frame, visible=left.visible, others=())

    def seen_share(self) -> float:
        """Share of this picture, 0 to 1, that still shows the original."""
        return float(self.visible.mean())

    def kept_share(self, grid: int = 48) -> float:
        """Share of the original, 0 to 1, that can still be seen, by ``grid`` x ``grid`` sample points."""
        ticks = (np.arange(grid) + 0.5) / grid
        points = geometry.apply(self.frame, np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2))
        inside = ((points >= 0) & (points < 1)).all(axis=1)
        height, width = self.size_hw
        columns, rows = (points[inside] * (width, height)).astype(int).T
        return float(self.visible[rows, columns].sum() / grid**2)

    def contrast(self) -> float:
        """Standard deviation of the grey values, 0 to 255, where the original is seen; 0 if it is not."""
        grey = cv2.cvtColor(self.pixels, cv2.COLOR_RGB2GRAY)[self.visible]
        return float(grey.std()) if grey.size else 0.0


@dataclass(frozen=True)
class Context:
    """What edits need beside the picture.

    Args:
        foreign: gives another picture (H, W, 3) uint8 RGB for pasting, drawn with the generator
        canvas_side: longer side, in pixels, of canvases that are made from nothing (screens, collages, backgrounds)
    """

    foreign: Callable[[np.random.Generator], Pixels]
    canvas_side: int = 600


Edit = Callable[[Edited, np.random.Generator, Severity, Context], Edited]


def strength(rng: np.random.Generator, severity: Severity, mild: float, strong: float) -> float:
    """A number from the severity's third of the way from ``mild`` to ``strong`` (which may be the smaller one)."""
    return float(mild + (strong - mild) * (severity - 1 + rng.random()) / 3)


def colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """A random RGB colour: any, or black, or white."""
    kind = rng.random()
    if kind < 0.12:
        return (0, 0, 0)
    if kind < 0.24:
        return (255, 255, 255)
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return (red, green, blue)
