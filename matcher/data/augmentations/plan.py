"""What will be done to a batch, before any pixel is touched: layers with frames on a canvas, and marks for colour and damage.

A canvas is a unit square of some aspect. Layers lie on it, the source among them; when the canvas is cut, turned or laid on
another one, all that is on it moves by one matrix, so each layer is sampled once in the end however many moves there were.
Everything is dense, (B, ...), with a mask of the rows that it concerns: so a plan can be made for many rows, and the good ones taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from matcher.data.augmentations import homography
from matcher.data.augmentations.dice import Dice

Kind = Literal["source", "other", "paper", "sticker", "text", "scribble", "screen"]
INNER, OUTER = 0, 1  # which canvases a layer is cut off at: inner and outer, or outer only


@dataclass(frozen=True, eq=False)
class Layer:
    """One thing on the canvas of each row.

    Attributes:
        kind: where its pixels come from
        depth: which canvases it is cut off at
        label: the class of its box; -1 = no box
        on: (B,) bool, rows that have it
        frame: (B, 3, 3), its unit square -> the plan's sheet
        window: (B, 4), the part of its unit square that is shown
        index: (B,) int64, which picture of its kind
        colour: (B, 3), of paper; else its pixels are multiplied by it
        opacity: (B,) 0..1
    """

    kind: Kind
    depth: int
    label: int
    on: Tensor
    frame: Tensor
    window: Tensor
    index: Tensor
    colour: Tensor
    opacity: Tensor


@dataclass(eq=False)
class Plan:
    """The state of a batch while edits are planned.

    Frames of layers and canvases are kept on a sheet that never moves; ``sheet`` is what moves. ``placed`` gives them on the canvas.

    Attributes:
        layers: bottom first
        aspect: (B,) width / height of the canvas
        sheet: (B, 3, 3), the sheet -> canvas: the product of all moves so far
        inner: (B, 3, 3), the canvas as it was before it was laid on another, or not -> sheet
        outer: (B, 3, 3), the canvas as it was before the last moves -> sheet
        nested: (B,) bool, rows whose inner canvas was laid on another
        plain: a layer whose columns the others share where they say nothing else
        fired: rows in which an edit happens, by its name
        numbers: (B, ...) numbers that an edit of colour or damage needs, by its name
    """

    layers: list[Layer]
    aspect: Tensor
    sheet: Tensor
    inner: Tensor
    outer: Tensor
    nested: Tensor
    plain: Layer
    fired: dict[str, Tensor] = field(default_factory=dict)
    numbers: dict[str, Tensor] = field(default_factory=dict)
    _back: Tensor | None = None

    @classmethod
    def start(cls, aspect: Tensor) -> Plan:
        """Each source fills its canvas; aspect (B,)."""
        count, device = len(aspect), aspect.device
        whole = homography.identity(count, device)
        box = torch.tensor([0.0, 0.0, 1.0, 1.0], device=device).expand(count, -1)
        none, ones = torch.zeros(count, dtype=torch.int64, device=device), torch.ones(count, 3, device=device)
        source = Layer("source", INNER, -1, none == 0, whole, box, none, ones, ones[:, 0])
        return cls([source], aspect, whole, whole, whole, none > 0, source)

    @property
    def back(self) -> Tensor:
        """(B, 3, 3), canvas -> sheet."""
        if self._back is None:
            self._back = homography.inverse(self.sheet)
        return self._back

    @property
    def source(self) -> Layer:
        return next(layer for layer in self.layers if layer.kind == "source")

    def add(
        self,
        kind: Kind,
        on: Tensor,
        frame: Tensor,
        *,
        depth: int = INNER,
        label: int = -1,
        index: Tensor | None = None,
        window: Tensor | None = None,
        colour: Tensor | None = None,
        opacity: Tensor | None = None,
        below: bool = False,
    ) -> None:
        """Lay something on the canvas, with ``frame`` from its unit square to the canvas, above all layers or below them."""
        layer = Layer(
            kind,
            depth,
            label,
            on,
            self.back @ frame,
            window=self.plain.window if window is None else window,
            index=self.plain.index if index is None else index,
            colour=self.plain.colour if colour is None else colour,
            opacity=self.plain.opacity if opacity is None else opacity,
        )
        self.layers.insert(0 if below else len(self.layers), layer)

    def add_each(self, kind: Kind, on: Tensor, frames: Tensor, *, depth: int, label: int = -1, **columns: Tensor) -> None:
        """Lay several things on each row: ``on`` (T * B,), ``frames`` (T * B, 3, 3) and columns, drawn by ``Dice.times(T)``."""
        names, values = ["frame", *columns], [frames, *columns.values()]
        for here, *each in zip(*(value.split(len(self.aspect)) for value in (on, *values)), strict=True):
            self.add(kind, here, depth=depth, label=label, **dict(zip(names, each, strict=True)))

    def move(self, on: Tensor, frame: Tensor, aspect: Tensor | None = None) -> None:
        """In the rows ``on`` the canvas goes to ``frame`` (B, 3, 3) of a new canvas of ``aspect`` (B,)."""
        self.sheet = choose(on, frame @ self.sheet, self.sheet)
        self._back = None
        if aspect is not None:
            self.aspect = torch.where(on, aspect, self.aspect)

    def cut(self, on: Tensor, box: Tensor) -> None:
        """In the rows ``on`` the canvas becomes what lies in ``box`` (B, 4)."""
        size = box[:, 2:] - box[:, :2]
        self.move(on, homography.inverse(homography.from_box(box)), self.aspect * size[:, 0] / size[:, 1])

    def nest(self, on: Tensor, frame: Tensor, aspect: Tensor, opacity: Tensor | None = None) -> None:
        """The canvas, with all that is on it, becomes a picture laid at ``frame`` of a new canvas."""
        self.nested, self.inner = self.nested | on, choose(on, self.back, self.inner)
        if opacity is not None:
            dim = torch.where(on, opacity, 1.0)
            self.layers = [replace(layer, opacity=layer.opacity * dim) if layer.depth == INNER else layer for layer in self.layers]
        self.move(on, frame, aspect)

    def close_inner(self) -> None:
        """What follows may lay the canvas on another: INNER layers are cut off at the canvas as it is now."""
        self.inner = self.back

    def close_outer(self) -> None:
        """What follows moves the whole: all layers are cut off at the canvas as it is now."""
        self.outer = self.back

    def placed(self, layer: Layer) -> Tensor:
        """A layer's unit square -> canvas, (B, 3, 3)."""
        return self.sheet @ layer.frame

    def to(self, device: torch.device) -> Plan:
        """The same plan on a device."""
        return self if self.aspect.device == device else self.each(lambda value: value.to(device))

    def take(self, rows: Tensor) -> Plan:
        """The plan of these rows (R,) int64."""
        return self.each(lambda value: value[rows])

    def each(self, change: Callable[[Tensor], Tensor]) -> Plan:
        """The plan with something done to every tensor."""
        done: dict[int, Tensor] = {}  # layers share columns: each is changed once
        for layer in [self.plain, *self.layers]:
            done |= {id(value): change(value) for name in COLUMNS if id(value := getattr(layer, name)) not in done}
        plain, *layers = (
            replace(layer, **{name: done[id(getattr(layer, name))] for name in COLUMNS}) for layer in (self.plain, *self.layers)
        )
        aspect, sheet, inner, outer, nested = (change(value) for value in (self.aspect, self.sheet, self.inner, self.outer, self.nested))
        fired = {name: change(value) for name, value in self.fired.items()}
        return Plan(
            layers, aspect, sheet, inner, outer, nested, plain, fired, {name: change(value) for name, value in self.numbers.items()}
        )


COLUMNS = ("on", "frame", "window", "index", "colour", "opacity")  # the tensors of a layer


def choose(rows: Tensor, chosen: Tensor, other: Tensor) -> Tensor:
    """Rows (B,) bool of ``chosen`` (B, ...), the rest of ``other``."""
    return torch.where(rows.reshape(-1, *[1] * (chosen.ndim - 1)), chosen, other)


def somewhere(dice: Dice, width: Tensor, height: Tensor, overhang: float = 0.0) -> Tensor:
    """Boxes (B, 4) of ``width`` and ``height`` (B,) at random on the canvas; a share ``overhang`` of them may stick out."""
    x = dice.uniform() * (1 - width + 2 * overhang * width) - overhang * width
    y = dice.uniform() * (1 - height + 2 * overhang * height) - overhang * height
    return torch.stack([x, y, x + width, y + height], dim=-1)
