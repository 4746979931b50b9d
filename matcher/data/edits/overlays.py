"""Edits that draw on the picture: text, stickers, scribbles, stripes, watermarks, blocks."""

from __future__ import annotations

import cv2
import numpy as np

from matcher.data.edits.edited import Context, Edited, Pixels, Severity, colour, strength
from matcher.data.edits.lettering import ink, outline, phrase
from matcher.data.edits.placing import covered, resize
from matcher.data.edits.stickers import sticker


def flat(alpha: np.ndarray, paint: tuple[int, int, int]) -> Pixels:
    """One colour in the shape of ``alpha`` (h, w): (h, w, 3)."""
    return np.broadcast_to(np.array(paint, dtype=np.uint8), (*alpha.shape, 3))


def somewhere(rng: np.random.Generator, picture: Edited, shape: tuple[int, ...], overhang: float = 0.0) -> tuple[int, int]:
    """Left and top of something of ``shape`` (h, w, ...) on the picture; at most a share ``overhang`` of it sticks out."""
    (height, width), (h, w) = picture.size_hw, shape[:2]
    out_x, out_y = overhang * w, overhang * h
    left = rng.uniform(-out_x, max(width - w + out_x, -out_x + 1))
    top = rng.uniform(-out_y, max(height - h + out_y, -out_y + 1))
    return round(left), round(top)


def text(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """One to four lines of text in random styles, sizes and colours, some with an outline."""
    lines = int(rng.integers(1, 2 + severity))
    texts, opacity = [phrase(rng, int(rng.integers(1, 4))) for _ in range(lines)], float(rng.choice([1.0, 1.0, 0.7]))
    for line in texts:
        height = picture.short_side * strength(rng, severity, 0.08, 0.26) * float(rng.uniform(0.7, 1.2))
        drawn = ink(line, height, rng)
        if drawn.shape[1] > 1.3 * picture.size_hw[1]:
            drawn = shrunk(drawn, 1.3 * picture.size_hw[1] / drawn.shape[1])
        left, top = somewhere(rng, picture, drawn.shape, 0.25)
        if rng.random() < 0.3:
            width = max(1, round(height / 14))
            ring = outline(drawn, width)
            picture = covered(picture, flat(ring, colour(rng)), ring * opacity, left - width, top - width)
        picture = covered(picture, flat(drawn, colour(rng)), drawn * opacity, left, top)
    return picture.noted(texts=texts, opacity=opacity)


def shrunk(drawn: np.ndarray, factor: float) -> np.ndarray:
    """Ink at a smaller size: (h, w) float32."""
    return resize(drawn, (max(1, round(drawn.shape[0] * factor)), max(1, round(drawn.shape[1] * factor))))


def emoji(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """One to four stickers, each 12 % (mild) to 45 % (strong) of the short side."""
    names = []
    for _ in range(int(rng.integers(1, 2 + severity))):
        side = max(6, round(picture.short_side * strength(rng, severity, 0.12, 0.45)))
        degrees = float(rng.uniform(-180, 180)) if rng.random() < 0.3 else float(rng.uniform(-20, 20))
        drawn, name = sticker(rng, side, degrees)
        left, top = somewhere(rng, picture, drawn.shape, 0.2)
        picture = covered(picture, drawn[..., :3], drawn[..., 3].astype(np.float32) / 255, left, top)
        names.append(name)
    return picture.noted(stickers=names)


def scribble(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Two to a dozen strokes of a pen: jagged, curved, or circles drawn by hand."""
    strokes, reach = round(strength(rng, severity, 2, 12)), picture.short_side
    pixels = picture.pixels.copy()
    hidden = np.zeros(picture.size_hw, dtype=np.uint8)
    for _ in range(strokes):
        path = np.rint(stroke_path(rng, picture.size_hw) * 8).astype(np.int32)[None]
        width = max(1, round(reach * rng.uniform(0.006, 0.022)))
        cv2.polylines(pixels, path, False, colour(rng), width, cv2.LINE_AA, shift=3)
        cv2.polylines(hidden, path, False, 255, width, cv2.LINE_8, shift=3)
    return picture.painted(pixels, hidden > 0, strokes=strokes)


def stroke_path(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    """Points (N, 2) of one stroke, x and y in pixels."""
    height, width = size_hw
    start, reach = rng.uniform(0, 1, 2) * (width, height), min(height, width) * rng.uniform(0.05, 0.22)
    kind = rng.random()
    if kind < 0.45:
        return start + np.cumsum(rng.uniform(-reach, reach, (int(rng.integers(3, 10)), 2)), axis=0)
    if kind < 0.8:
        turns = np.cumsum(rng.normal(0, 0.35, 40)) + rng.uniform(0, 2 * np.pi)
        return start + np.cumsum(np.stack([np.cos(turns), np.sin(turns)], axis=-1) * reach / 6, axis=0)
    angle = np.linspace(0, 2 * np.pi * 1.05, 40)
    radii = rng.uniform(0.5, 1.5, 2) * reach
    return start + np.stack([np.cos(angle), np.sin(angle)], axis=-1) * radii


def stripes(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Parallel stripes of one colour across the picture, hiding 10 % (mild) to 50 % (strong) of it; some let it through."""
    count, share = int(rng.integers(1, 6)), strength(rng, severity, 0.1, 0.5)
    opacity, paint, direction = float(rng.choice([1.0, 1.0, 0.6])), colour(rng), float(rng.uniform(0, np.pi))
    y, x = np.arange(picture.size_hw[0], dtype=np.float32)[:, None], np.arange(picture.size_hw[1], dtype=np.float32)[None]
    across = x * float(np.cos(direction)) + y * float(np.sin(direction))
    period = max(2.0, (abs(np.cos(direction)) * picture.size_hw[1] + abs(np.sin(direction)) * picture.size_hw[0]) / count)
    alpha = ((across / period + rng.random()) % 1.0 < share).astype(np.float32) * opacity
    return covered(picture, flat(alpha, paint), alpha, count=count, share=share, opacity=opacity, paint=paint, direction=direction)


def watermark(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """One text again and again in rows over the whole picture, slanted and half transparent; or large, once."""
    words, once = phrase(rng, int(rng.integers(1, 3))), bool(rng.random() < 0.25)
    opacity, degrees = strength(rng, severity, 0.2, 0.75), float(rng.uniform(-45, 45))
    height = picture.short_side * float(rng.uniform(0.15, 0.3) if once else rng.uniform(0.05, 0.1))
    drawn = ink(words, height, rng)
    side = int(np.ceil(np.hypot(*picture.size_hw)))
    sheet = np.zeros((side, side), dtype=np.float32)
    if once:
        drawn = shrunk(drawn, min(1.0, 0.9 * side / drawn.shape[1], 0.9 * side / drawn.shape[0]))
        place = (side - drawn.shape[0]) // 2, (side - drawn.shape[1]) // 2
        sheet[place[0] : place[0] + drawn.shape[0], place[1] : place[1] + drawn.shape[1]] = drawn
    else:
        cell = np.pad(drawn, ((0, round(drawn.shape[0] * rng.uniform(1, 3)) + 1), (0, round(drawn.shape[0] * rng.uniform(1, 4)) + 1)))
        sheet = np.tile(cell, (side // cell.shape[0] + 1, side // cell.shape[1] + 1))[:side, :side]
    middle = (side - 1) / 2
    turned = np.asarray(cv2.warpAffine(sheet, cv2.getRotationMatrix2D((middle, middle), degrees, 1.0), (side, side)))
    top, left = (side - picture.size_hw[0]) // 2, (side - picture.size_hw[1]) // 2
    alpha = opacity * turned[top : top + picture.size_hw[0], left : left + picture.size_hw[1]]
    return covered(picture, flat(alpha, colour(rng)), alpha, text=words, once=once, opacity=opacity, degrees=degrees)


def occlude(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """One to five blocks of colour or noise, together 8 % (mild) to 55 % (strong) of the picture."""
    blocks, total = int(rng.integers(1, 6)), strength(rng, severity, 0.08, 0.55)
    height, width = picture.size_hw
    for _ in range(blocks):
        slant = float(np.exp(rng.normal(0, 0.5)))
        share = total / blocks
        w = max(1, round(width * min(1.0, np.sqrt(share * slant))))
        h = max(1, round(height * min(1.0, np.sqrt(share / slant))))
        alpha = np.ones((h, w), dtype=np.float32)
        paint = rng.integers(0, 256, (h, w, 3), dtype=np.uint8) if rng.random() < 0.15 else flat(alpha, colour(rng))
        picture = covered(picture, paint, alpha, *somewhere(rng, picture, alpha.shape, 0.1))
    return picture.noted(blocks=blocks, share=total)
