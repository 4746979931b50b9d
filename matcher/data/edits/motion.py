"""Edits that move the picture: crop, flips, turns, rotation, perspective, scale, aspect, padding."""

from __future__ import annotations

import cv2
import numpy as np

from matcher import geometry
from matcher.data.edits.edited import Context, Edited, Pixels, Severity, colour, strength
from matcher.data.edits.placing import cut, placed, resized, soften, warped


def crop(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """A rectangle of the picture: 80 % of its area (mild) down to 12 % (strong), in any shape."""
    height, width = picture.size_hw
    area, slant = strength(rng, severity, 0.8, 0.12), float(np.exp(rng.normal(0.0, 0.7)))
    kept_w = float(np.clip(np.sqrt(area * slant), area, 1.0))
    w, h = max(1, round(width * kept_w)), max(1, round(height * area / kept_w))
    left, top = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
    return cut(picture, (left, top, left + w, top + h), box=[left / width, top / height, (left + w) / width, (top + h) / height])


def hflip(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Mirrored left to right."""
    return picture.moved(np.ascontiguousarray(picture.pixels[:, ::-1]), lambda mask: mask[:, ::-1].copy(), geometry.flip())


def vflip(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Mirrored top to bottom."""
    move = np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 1.0], [0.0, 0.0, 1.0]])
    return picture.moved(np.ascontiguousarray(picture.pixels[::-1]), lambda mask: mask[::-1].copy(), move)


def turn(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Turned by 90, 180 or 270 degrees."""
    quarters = int(rng.integers(1, 4))
    pixels = np.ascontiguousarray(np.rot90(picture.pixels, -quarters))
    # geometry.turn says where the turned view's points lie in the picture; here the picture's points go to the view.
    move = geometry.invert(geometry.turn(quarters))
    return picture.moved(pixels, lambda mask: np.rot90(mask, -quarters).copy(), move, quarters=quarters)


def rotate(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Rotated by some degrees: up to 12 (mild), 35 (medium), anything (strong), on a canvas that holds it, or cut to the old size."""
    bounds = {1: (3.0, 12.0), 2: (12.0, 35.0), 3: (35.0, 180.0)}[severity]
    degrees = float(rng.uniform(*bounds)) * (1 if rng.random() < 0.5 else -1)
    grows, fill = bool(rng.random() < 0.85), colour(rng)
    (height, width), angle = picture.size_hw, np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    out_w = round(abs(width * cos) + abs(height * sin)) if grows else width
    out_h = round(abs(width * sin) + abs(height * cos)) if grows else height
    spin = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    about = shift(out_w / 2, out_h / 2) @ spin @ shift(-width / 2, -height / 2)
    move = geometry.from_pixels(about, picture.size_hw, (out_h, out_w))
    return warped(picture, move, (out_h, out_w), fill, degrees=degrees, grows=grows, fill=fill)


def shift(x: float, y: float) -> geometry.Array:
    """Translation: (3, 3)."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def perspective(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Every corner pulled inwards by up to 9 % (mild) to 27 % (strong) of the sides; the rest filled with one colour."""
    pull = strength(rng, severity, 0.03, 0.27)
    fill = colour(rng)
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    goals = corners + (1 - 2 * corners) * rng.uniform(0.0, pull, (4, 2))
    return warped(picture, onto_corners(goals), picture.size_hw, fill, corners=goals.ravel().tolist(), fill=fill)


def onto_corners(goals: np.ndarray) -> geometry.Array:
    """The frame that sends the unit square's corners (clockwise from the top left) to ``goals`` (4, 2)."""
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float32)
    return geometry.normalise(cv2.getPerspectiveTransform(corners, np.asarray(goals, dtype=np.float32)))


def scale(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Shrunk to 80 % (mild) down to 20 % (strong) of its size; some are blown up again afterwards."""
    factor, back = strength(rng, severity, 0.8, 0.2), bool(rng.random() < 0.2)
    height, width = picture.size_hw
    small = resized(picture, (max(8, round(height * factor)), max(8, round(width * factor))), factor=factor, back=back)
    return resized(small, (height, width)) if back else small


def aspect(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Stretched: the ratio of the sides changes by 1.15 (mild) to 2.2 (strong), either way, at about the same area."""
    ratio = strength(rng, severity, 1.15, 2.2) ** (1 if rng.random() < 0.5 else -1)
    height, width = picture.size_hw
    return resized(picture, (max(8, round(height / np.sqrt(ratio))), max(8, round(width * np.sqrt(ratio)))), ratio=ratio)


def pad(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Margins of one colour, each its own width: together 4 % (mild) to 50 % (strong) of the side."""
    left, top, right, bottom = margins(picture, rng, severity)
    fill = colour(rng)
    height, width = picture.size_hw
    canvas = np.empty((height + top + bottom, width + left + right, 3), dtype=np.uint8)
    canvas[:] = fill
    return placed(picture, canvas, left, top, margins=[left, top, right, bottom], fill=fill)


def margins(picture: Edited, rng: np.random.Generator, severity: Severity) -> tuple[int, int, int, int]:
    """Widths of margins in pixels: left, top, right, bottom."""
    height, width = picture.size_hw
    shares = rng.uniform(0.2, 1.0, 4) * strength(rng, severity, 0.04, 0.5) / 1.2
    left, top, right, bottom = np.rint(shares * (width, height, width, height)).astype(int).tolist()
    return left, top, right, bottom


def border(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """A frame around the picture, the same on all sides, one to three lines of colour, 1 % (mild) to 18 % (strong) of the side."""
    lines = int(rng.integers(1, 4))
    thickness = max(1, round(picture.short_side * strength(rng, severity, 0.01, 0.18) / lines))
    height, width = picture.size_hw
    margin = thickness * lines
    canvas = np.empty((height + 2 * margin, width + 2 * margin, 3), dtype=np.uint8)
    for line in range(lines):
        inset = line * thickness
        canvas[inset : canvas.shape[0] - inset, inset : canvas.shape[1] - inset] = colour(rng)
    return placed(picture, canvas, margin, margin, lines=lines, thickness=thickness)


def mirror(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """The picture continued over its edges by its own reflection (sharp, blurred, or a blown-up copy of itself behind)."""
    left, top, right, bottom = margins(picture, rng, severity)
    canvas = cv2.copyMakeBorder(picture.pixels, top, bottom, left, right, cv2.BORDER_REFLECT)
    finish = ("sharp", "blurred", "zoomed")[int(rng.choice(3, p=(0.4, 0.3, 0.3)))]
    return placed(picture, behind(np.asarray(canvas), picture, finish), left, top, margins=[left, top, right, bottom], finish=finish)


def behind(canvas: Pixels, picture: Edited, finish: str) -> Pixels:
    """The background of :func:`mirror` in one of its finishes, (H, W, 3)."""
    if finish == "zoomed":
        canvas = np.asarray(cv2.resize(picture.pixels, (canvas.shape[1], canvas.shape[0]), interpolation=cv2.INTER_LINEAR))
    return canvas if finish == "sharp" else soften(canvas, max(1.0, min(canvas.shape[:2]) * 0.03))
