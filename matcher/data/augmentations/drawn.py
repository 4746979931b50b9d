"""Stickers, text blocks, scribbles and screens, drawn once with a fixed seed and then only sampled: RGBA pictures on a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Self

import cv2
import numpy as np
import torch
from torch import Tensor

from matcher.data.edits.edited import Context, Edited, colour
from matcher.data.edits.lettering import ink, outline, phrase
from matcher.data.edits.overlays import stroke_path
from matcher.data.edits.screens import SCREENS, draw_screen
from matcher.data.edits.stickers import sticker

SEED = 20_261_121
COUNTS = {"sticker": 224, "text": 256, "scribble": 48, "screen": 30}
PLAIN_TEXTS = 224  # the others stand on panels and have their colours
SIZES = {"sticker": (96, 96), "text": (64, 256), "scribble": (128, 128), "screen": (256, 256)}  # height, width
Item = tuple[np.ndarray, float, float, tuple[float, ...]]  # RGBA (h, w, 4) float32 in 0..1, aspect, lines of text, place of the picture


@dataclass(frozen=True, eq=False)
class Drawn:
    """What can be laid on a picture beside other pictures.

    Attributes:
        textures: by kind, (K, 4, h, w) uint8 RGBA, colours multiplied by alpha; the first PLAIN_TEXTS texts are white, to be coloured
        aspects: by kind, (K,) float32 width / height of the thing that fills the texture
        lines: (K,) float32, lines of each text block
        places: (K, 4) float32, the box for the picture on each screen
    """

    textures: dict[str, Tensor]
    aspects: dict[str, Tensor]
    lines: Tensor
    places: Tensor

    def to(self, device: torch.device) -> Self:
        """The same on a device."""
        textures, aspects = ({kind: value.to(device) for kind, value in group.items()} for group in (self.textures, self.aspects))
        return type(self)(textures, aspects, self.lines.to(device), self.places.to(device))


@cache
def drawn_on(device: torch.device) -> Drawn:
    """Everything on a device; drawn (about two seconds) on the first call, the same in every process."""
    return draw_all() if device.type == "cpu" else drawn_on(torch.device("cpu")).to(device)


def draw_all() -> Drawn:
    """Everything, on the CPU."""
    rng = np.random.default_rng(SEED)
    makers: dict[str, Callable[[np.random.Generator, int], Item]] = {
        "sticker": draw_sticker,
        "text": draw_text,
        "scribble": draw_scribbles,
        "screen": draw_screens,
    }
    textures, aspects, items = {}, {}, {}
    for kind, make in makers.items():
        items[kind] = [make(rng, number) for number in range(COUNTS[kind])]
        textures[kind] = torch.from_numpy(np.stack([packed(item[0], SIZES[kind]) for item in items[kind]]))
        aspects[kind] = torch.tensor([item[1] for item in items[kind]], dtype=torch.float32)
    lines = torch.tensor([item[2] for item in items["text"]], dtype=torch.float32)
    return Drawn(textures, aspects, lines, torch.tensor([item[3] for item in items["screen"]], dtype=torch.float32))


def packed(picture: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """RGBA (h, w, 4) float32 -> (4, *size_hw) uint8, colours multiplied by alpha."""
    ready = np.concatenate([picture[..., :3] * picture[..., 3:], picture[..., 3:]], axis=-1)
    shrinks = picture.shape[0] >= size_hw[0] and picture.shape[1] >= size_hw[1]
    ready = cv2.resize(ready, size_hw[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.rint(np.clip(ready, 0, 1) * 255).astype(np.uint8).transpose(2, 0, 1)


def draw_sticker(rng: np.random.Generator, number: int) -> Item:
    """One sticker, upright."""
    return sticker(rng, 96, 0.0)[0].astype(np.float32) / 255, 1.0, 0.0, ()


def draw_text(rng: np.random.Generator, number: int) -> Item:
    """One to three lines in white, bare or with a black outline; from PLAIN_TEXTS on in colour on a panel."""
    lines = [ink(phrase(rng, int(rng.integers(1, 5))), 42.0, rng) for _ in range(int(rng.choice([1, 1, 1, 2, 3])))]
    width, margin = max(line.shape[1] for line in lines), int(rng.integers(4, 11))
    rows = [np.pad(line, ((margin, margin), (margin, width - line.shape[1] + margin))) for line in lines]
    letters = np.concatenate(rows)
    drawn = np.ones((*letters.shape, 4), dtype=np.float32)
    drawn[..., 3] = letters
    if number >= PLAIN_TEXTS:
        panel, pen = rng.random(3), rng.random(3)
        pen = pen if abs(panel.mean() - pen.mean()) > 0.35 else np.round(1 - panel.mean())
        drawn[..., :3] = panel + letters[..., None] * (pen - panel)
        drawn[..., 3] = 1
    elif rng.random() < 0.35:
        drawn[..., :3] = letters[..., None]
        drawn[..., 3] = outline(letters, 2)[2:-2, 2:-2]
    return drawn, letters.shape[1] / letters.shape[0], len(lines), ()


def draw_scribbles(rng: np.random.Generator, number: int) -> Item:
    """One to a dozen strokes, more with each ``number``."""
    canvas = np.zeros((256, 256, 4), dtype=np.uint8)
    for _ in range(1 + round(11 * number / COUNTS["scribble"])):
        path = np.rint(stroke_path(rng, (256, 256)) * 8).astype(np.int32)[None]
        cv2.polylines(canvas, path, False, (*colour(rng), 255), max(2, round(256 * rng.uniform(0.008, 0.024))), cv2.LINE_8, shift=3)
    return canvas.astype(np.float32) / 255, 1.0, 0.0, ()


def draw_screens(rng: np.random.Generator, number: int) -> Item:
    """A screen, its place made for a wide, a square or a tall picture; its small pictures are colour gradients."""
    name = list(SCREENS)[number % len(SCREENS)]
    square = Edited.start(np.zeros((120, (90, 120, 170)[number % 3], 3), dtype=np.uint8))
    screen = draw_screen(name, square, rng, Context(foreign=gradient, canvas_side=512), 512)
    height, width = screen.pixels.shape[:2]
    left, top, right, bottom = screen.box
    picture = np.concatenate([screen.pixels.astype(np.float32) / 255, np.ones((height, width, 1), dtype=np.float32)], axis=-1)
    return picture, width / height, 0.0, (left / width, top / height, right / width, bottom / height)


def gradient(rng: np.random.Generator) -> np.ndarray:
    """A small picture of four colours melting into each other: (32, 32, 3) uint8."""
    corners = rng.integers(0, 256, (2, 2, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(corners, (32, 32), interpolation=cv2.INTER_CUBIC))
