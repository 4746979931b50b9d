"""A sheet to draw made-up screens on, in units of a screen of 640: bars, labels, lines of text, avatars, pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from matcher.data.edits.edited import Pixels
from matcher.data.edits.lettering import WORDS, font
from matcher.data.edits.stickers import vivid

Paint = tuple[int, int, int]
NAMES = ("Sam Rivera", "mila.k", "the_daily_cat", "Anna & Ben", "news24", "travelgram", "Uncle Bob", "K. Tanaka", "zoe__", "Old Town Cafe")


@dataclass(frozen=True)
class Palette:
    """Colours of a screen."""

    page: Paint
    panel: Paint
    ink: Paint
    faint: Paint
    accent: Paint

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Palette:
        """Light three times in four, else dark."""
        if rng.random() < 0.75:
            shade = int(rng.integers(232, 256))
            return cls((shade, shade, min(255, shade + 3)), (255, 255, 255), (30, 32, 38), (150, 155, 165), vivid(rng))
        shade = int(rng.integers(8, 40))
        return cls((shade, shade, shade + 4), (shade + 18, shade + 18, shade + 24), (235, 235, 240), (130, 134, 145), vivid(rng))


class Sheet:
    """A canvas of ``width`` x ``height`` units with ``unit`` pixels each, and what screens are made of."""

    def __init__(self, width: float, height: float, unit: float, palette: Palette, rng: np.random.Generator) -> None:
        self.width, self.height, self.unit, self.palette, self.rng = width, height, unit, palette, rng
        self.image = Image.new("RGB", (max(16, round(width * unit)), max(16, round(height * unit))), palette.page)
        self.pen = ImageDraw.Draw(self.image)

    def box(self, left: float, top: float, right: float, bottom: float) -> tuple[int, int, int, int]:
        """Units -> pixels."""
        x0, y0, x1, y1 = (round(v * self.unit) for v in (left, top, right, bottom))
        return x0, y0, x1, y1

    def bar(self, left: float, top: float, right: float, bottom: float, fill: Paint, radius: float = 0.0) -> None:
        """A filled rectangle, its corners rounded by ``radius``."""
        self.pen.rounded_rectangle(self.box(left, top, right, bottom), radius=radius * self.unit, fill=fill)

    def disc(self, x: float, y: float, radius: float, fill: Paint) -> None:
        """A filled circle."""
        self.pen.ellipse(self.box(x - radius, y - radius, x + radius, y + radius), fill=fill)

    def label(self, x: float, y: float, height: float, words: str, fill: Paint | None = None, anchor: str = "lm") -> None:
        """One line of text, ``anchor`` as in Pillow."""
        face = font(height * self.unit)
        self.pen.text((x * self.unit, y * self.unit), words, fill=fill or self.palette.ink, font=face, anchor=anchor)

    def prose(self, left: float, top: float, right: float, lines: int, height: float, fill: Paint | None = None) -> float:
        """``lines`` lines of made-up text between ``left`` and ``right``; where they end (units)."""
        for line in range(lines):
            room = (right - left) / (height * 0.52) * (0.55 if line == lines - 1 else 0.95)
            words, used = [], 0
            while True:
                word = WORDS[int(self.rng.integers(len(WORDS)))]
                if used + len(word) > room:
                    break
                words.append(word)
                used += len(word) + 1
            self.label(left, top + (line + 0.5) * height * 1.35, height, " ".join(words), fill)
        return top + lines * height * 1.35

    def name(self) -> str:
        """A made-up author."""
        return NAMES[int(self.rng.integers(len(NAMES)))]

    def author(self, left: float, top: float, size: float = 32.0) -> float:
        """An avatar with a name and a time; where it ends (units)."""
        self.disc(left + size / 2, top + size / 2, size / 2, vivid(self.rng))
        self.disc(left + size / 2, top + size * 0.42, size * 0.18, self.palette.panel)
        self.label(left + size * 1.25, top + size * 0.32, size * 0.38, self.name())
        self.label(left + size * 1.25, top + size * 0.74, size * 0.3, f"{int(self.rng.integers(2, 59))} min ago", self.palette.faint)
        return top + size

    def icons(self, left: float, right: float, y: float, size: float, count: int) -> None:
        """A row of simple signs."""
        for x in np.linspace(left, right, count):
            box = self.box(x - size / 2, y - size / 2, x + size / 2, y + size / 2)
            kind, width = int(self.rng.integers(4)), max(1, round(size * self.unit / 9))
            if kind == 0:
                self.pen.ellipse(box, outline=self.palette.ink, width=width)
            elif kind == 1:
                self.pen.rectangle(box, outline=self.palette.ink, width=width)
            elif kind == 2:
                tip = ((box[0] + box[2]) / 2, box[1])
                self.pen.polygon([(box[0], box[3]), tip, (box[2], box[3])], outline=self.palette.ink, width=width)
            else:
                self.pen.line([box[0], box[1], box[2], box[3]], fill=self.palette.ink, width=width)
                self.pen.line([box[0], box[3], box[2], box[1]], fill=self.palette.ink, width=width)

    def picture(self, left: float, top: float, right: float, bottom: float, pixels: Pixels) -> None:
        """A picture stretched into a box."""
        x0, y0, x1, y1 = self.box(left, top, right, bottom)
        self.image.paste(Image.fromarray(pixels).resize((max(1, x1 - x0), max(1, y1 - y0))), (x0, y0))

    def status_bar(self) -> None:
        """The strip at the top of a phone: time and battery."""
        self.label(14, 10, 11, f"{int(self.rng.integers(0, 24)):02d}:{int(self.rng.integers(0, 60)):02d}")
        self.bar(self.width - 36, 5, self.width - 14, 15, self.palette.ink, 2)
        self.disc(self.width - 48, 10, 4, self.palette.ink)

    def pixels(self) -> Pixels:
        """The sheet as (H, W, 3) uint8."""
        return np.asarray(self.image).copy()
