"""Stickers drawn from simple shapes: (S, S, 4) uint8 RGBA, in the manner of emoji. No pictures are shipped or downloaded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from matcher.data.edits.lettering import font

Paint = tuple[int, int, int]
Draw = ImageDraw.ImageDraw
SIDE = 192  # stickers are drawn at this size, then shrunk


def sticker(rng: np.random.Generator, side: int, degrees: float) -> tuple[np.ndarray, str]:
    """A random sticker of about ``side`` pixels, turned by ``degrees`` -> RGBA (h, w, 4) uint8 and its name."""
    name = list(SHAPES)[int(rng.integers(len(SHAPES)))]
    image = Image.new("RGBA", (SIDE, SIDE))
    SHAPES[name](ImageDraw.Draw(image), rng)
    turned = image.rotate(degrees, resample=Image.Resampling.BICUBIC, expand=True)
    size = max(4, round(side * turned.width / SIDE))
    return np.asarray(turned.resize((size, size), resample=Image.Resampling.LANCZOS)), name


def vivid(rng: np.random.Generator) -> Paint:
    """A strong colour."""
    values = np.array([rng.integers(200, 256), rng.integers(60, 200), rng.integers(0, 90)])
    red, green, blue = rng.permutation(values).tolist()
    return red, green, blue


def around(points: int, outer: float, inner: float | None = None, start: float = -90.0) -> list[tuple[float, float]]:
    """Corners of a polygon (of a star, with ``inner``) around the middle; radii as shares of the side."""
    count = points if inner is None else 2 * points
    radii = [outer if inner is None or i % 2 == 0 else inner for i in range(count)]
    angles = np.deg2rad(start + 360 * np.arange(count) / count)
    return [(SIDE * (0.5 + r * np.cos(a)), SIDE * (0.5 + r * np.sin(a))) for r, a in zip(radii, angles, strict=True)]


def boxed(*shares: float) -> list[float]:
    """Shares of the side -> pixels."""
    return [SIDE * share for share in shares]


def spot(x: float, y: float) -> tuple[float, float]:
    """A point in shares of the side -> in pixels."""
    return SIDE * x, SIDE * y


def draw_face(draw: Draw, rng: np.random.Generator) -> None:
    skin = (255, int(rng.integers(190, 225)), int(rng.integers(40, 110))) if rng.random() < 0.75 else vivid(rng)
    draw.ellipse(boxed(0.04, 0.04, 0.96, 0.96), fill=skin, outline=(200, 130, 20), width=4)
    for x in (0.33, 0.67):
        if rng.random() < 0.2:
            draw.line(boxed(x - 0.09, 0.38, x + 0.09, 0.38), fill=(70, 40, 10), width=9)
        else:
            draw.ellipse(boxed(x - 0.06, 0.28, x + 0.06, 0.46), fill=(70, 40, 10))
    mood = rng.random()
    if mood < 0.4:
        draw.arc(boxed(0.22, 0.3, 0.78, 0.8), 20, 160, fill=(90, 40, 10), width=10)
    elif mood < 0.7:
        draw.chord(boxed(0.22, 0.36, 0.78, 0.86), 5, 175, fill=(130, 30, 20))
        draw.chord(boxed(0.3, 0.42, 0.7, 0.66), 5, 175, fill=(255, 255, 255))
    elif mood < 0.85:
        draw.arc(boxed(0.28, 0.62, 0.72, 0.96), 200, 340, fill=(90, 40, 10), width=10)
    else:
        draw.ellipse(boxed(0.42, 0.58, 0.58, 0.82), fill=(90, 40, 10))
    if rng.random() < 0.25:
        draw.ellipse(boxed(0.2, 0.5, 0.3, 0.72), fill=(80, 170, 240))


def draw_heart(draw: Draw, rng: np.random.Generator) -> None:
    paint = (225, 30, 55) if rng.random() < 0.6 else vivid(rng)
    turn = np.linspace(0, 2 * np.pi, 80)
    x = 16 * np.sin(turn) ** 3
    y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
    draw.polygon([(SIDE * (0.5 + px / 36), SIDE * (0.46 - py / 36)) for px, py in zip(x, y, strict=True)], fill=paint)


def draw_star(draw: Draw, rng: np.random.Generator) -> None:
    points = int(rng.integers(5, 13))
    paint = (255, 205, 40) if rng.random() < 0.5 else vivid(rng)
    draw.polygon(around(points, 0.48, float(rng.uniform(0.2, 0.4))), fill=paint, outline=(190, 120, 10), width=3)


def draw_bubble(draw: Draw, rng: np.random.Generator) -> None:
    paint = (255, 255, 255) if rng.random() < 0.5 else vivid(rng)
    draw.polygon([spot(0.25, 0.6), spot(0.2, 0.97), spot(0.55, 0.7)], fill=paint, outline=(0, 0, 0), width=3)
    draw.ellipse(boxed(0.03, 0.08, 0.97, 0.78), fill=paint, outline=(0, 0, 0), width=4)
    word = ("WOW", "LOL", "?!", "NO", "OMG", "hi!", "...")[int(rng.integers(7))]
    draw.text(spot(0.5, 0.43), word, fill=(0, 0, 0), font=font(SIDE * 0.26), anchor="mm", stroke_width=2)


def draw_thumb(draw: Draw, rng: np.random.Generator) -> None:
    skin = ((250, 200, 60), (235, 180, 140), (140, 90, 60))[int(rng.integers(3))]
    draw.rounded_rectangle(boxed(0.3, 0.4, 0.86, 0.9), radius=24, fill=skin)
    draw.polygon([spot(0.34, 0.5), spot(0.5, 0.06), spot(0.66, 0.1), spot(0.6, 0.46)], fill=skin)
    draw.ellipse(boxed(0.47, 0.02, 0.68, 0.2), fill=skin)
    for y in (0.53, 0.66, 0.78):
        draw.line(boxed(0.62, y, 0.86, y), fill=(170, 110, 30), width=4)
    draw.rectangle(boxed(0.08, 0.44, 0.3, 0.92), fill=vivid(rng))


def draw_button(draw: Draw, rng: np.random.Generator) -> None:
    draw.rounded_rectangle(boxed(0.05, 0.05, 0.95, 0.95), radius=int(rng.integers(10, 60)), fill=vivid(rng))
    sign = "ABLOPX?!#&+0189%"[int(rng.integers(16))]
    draw.text(spot(0.5, 0.5), sign, fill=(255, 255, 255), font=font(SIDE * 0.7), anchor="mm", stroke_width=4)


def draw_clock(draw: Draw, rng: np.random.Generator) -> None:
    draw.ellipse(boxed(0.03, 0.03, 0.97, 0.97), fill=(240, 240, 240), outline=vivid(rng), width=14)
    for length, width in ((0.26, 12), (0.38, 7)):
        angle = rng.uniform(0, 2 * np.pi)
        draw.line(boxed(0.5, 0.5, 0.5 + length * np.cos(angle), 0.5 + length * np.sin(angle)), fill=(40, 40, 40), width=width)


def draw_arrow(draw: Draw, rng: np.random.Generator) -> None:
    shape = ((0.05, 0.38), (0.55, 0.38), (0.55, 0.15), (0.95, 0.5), (0.55, 0.85), (0.55, 0.62), (0.05, 0.62))
    draw.polygon([spot(*point) for point in shape], fill=vivid(rng), outline=(255, 255, 255), width=5)


def draw_flower(draw: Draw, rng: np.random.Generator) -> None:
    paint = vivid(rng)
    for x, y in around(int(rng.integers(5, 9)), 0.3):
        draw.ellipse([x - 0.17 * SIDE, y - 0.17 * SIDE, x + 0.17 * SIDE, y + 0.17 * SIDE], fill=paint, outline=(255, 255, 255), width=3)
    draw.ellipse(boxed(0.36, 0.36, 0.64, 0.64), fill=(250, 200, 40))


def draw_sun(draw: Draw, rng: np.random.Generator) -> None:
    draw.polygon(around(12, 0.49, 0.33), fill=(255, 150, 30))
    draw.ellipse(boxed(0.2, 0.2, 0.8, 0.8), fill=(255, 215, 60))


def draw_flag(draw: Draw, rng: np.random.Generator) -> None:
    for band in range(3):
        draw.rectangle(boxed(0.14, 0.15 + 0.18 * band, 0.96, 0.33 + 0.18 * band), fill=vivid(rng))
    draw.rectangle(boxed(0.06, 0.06, 0.14, 0.98), fill=(120, 90, 60))


def draw_train(draw: Draw, rng: np.random.Generator) -> None:
    draw.rounded_rectangle(boxed(0.05, 0.3, 0.95, 0.75), radius=20, fill=vivid(rng))
    for x in (0.14, 0.4, 0.66):
        draw.rectangle(boxed(x, 0.38, x + 0.18, 0.54), fill=(200, 230, 250))
    for x in (0.2, 0.5, 0.78):
        draw.ellipse(boxed(x - 0.09, 0.68, x + 0.09, 0.86), fill=(50, 50, 60), outline=(180, 180, 190), width=5)


def draw_forbidden(draw: Draw, rng: np.random.Generator) -> None:
    draw.ellipse(boxed(0.08, 0.08, 0.92, 0.92), outline=(225, 30, 40), width=26)
    draw.line(boxed(0.22, 0.22, 0.78, 0.78), fill=(225, 30, 40), width=26)


SHAPES: dict[str, Callable[[Draw, np.random.Generator], None]] = {
    "face": draw_face,
    "heart": draw_heart,
    "star": draw_star,
    "bubble": draw_bubble,
    "thumb": draw_thumb,
    "button": draw_button,
    "clock": draw_clock,
    "arrow": draw_arrow,
    "flower": draw_flower,
    "sun": draw_sun,
    "flag": draw_flag,
    "train": draw_train,
    "forbidden": draw_forbidden,
}
