"""The photo of a screen: seen at an angle, with the screen's grid, uneven light, a colour cast, a little blur and noise."""

from __future__ import annotations

import cv2
import numpy as np

from matcher.data.edits.edited import Context, Edited, Pixels, Severity, colour, strength
from matcher.data.edits.motion import onto_corners
from matcher.data.edits.pasting import whole_canvas
from matcher.data.edits.placing import placed, soften, warped
from matcher.data.edits.tone import slope


def recapture(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Shown on a screen with a bezel in a room, photographed by hand."""
    force = strength(rng, severity, 0.1, 1.0)
    bezel = max(2, round(picture.short_side * float(rng.uniform(0.01, 0.06))))
    height, width = picture.size_hw
    case = np.empty((height + 2 * bezel, width + 2 * bezel, 3), dtype=np.uint8)
    case[:] = rng.integers(0, 60) if rng.random() < 0.8 else colour(rng)
    lit = placed(picture.recoloured(with_grid(picture.pixels, rng, force)), case, bezel, bezel)
    photo = in_room(lit, rng, force, context)
    return photo.recoloured(as_photographed(photo.pixels, rng, force), force=force, bezel=bezel)


def with_grid(pixels: Pixels, rng: np.random.Generator, force: float) -> Pixels:
    """The pixels of a screen against those of a camera: waves of brightness, a little different in each colour."""
    height, width = pixels.shape[:2]
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None]
    depth = 0.03 + 0.17 * force * float(rng.random())
    waves = np.ones(pixels.shape, dtype=np.float32)
    for _ in range(2):
        period, direction = float(rng.uniform(2.2, 9.0)), float(rng.uniform(0, np.pi))
        bend = float(rng.uniform(-1.5, 1.5)) / max(height, width) ** 2
        along_x, along_y = float(2 * np.pi / period * np.cos(direction)), float(2 * np.pi / period * np.sin(direction))
        phase = x * along_x + y * along_y + bend * (x - y) ** 2
        cos, sin = depth * np.cos(phase), depth * np.sin(phase)
        for channel, lag in enumerate((0.0, 0.7, 1.4)):
            waves[..., channel] += cos * float(np.cos(lag)) - sin * float(np.sin(lag))
    return np.clip(pixels * waves, 0, 255).astype(np.uint8)


def in_room(picture: Edited, rng: np.random.Generator, force: float, context: Context) -> Edited:
    """The screen in front of a dim room (or a plain wall), its corners moved as by a camera held at an angle."""
    height, width = picture.size_hw
    margin = rng.uniform(-0.02, 0.04 + 0.16 * force, 4)
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    inwards = np.array([[margin[0], margin[1]], [-margin[2], margin[1]], [-margin[2], -margin[3]], [margin[0], -margin[3]]])
    goals = corners + inwards + rng.uniform(-0.5, 0.5, (4, 2)) * 0.14 * force
    grown = 1.0 / max(0.5, 1 - 0.12 * force)
    size = round(height * grown), round(width * grown)
    photo = warped(picture, onto_corners(goals), size, (0, 0, 0), corners=goals.ravel().tolist())
    outline = warped(Edited.start(picture.pixels), onto_corners(goals), size, (0, 0, 0)).visible
    room = np.asarray(cv2.resize(whole_canvas(context.foreign(rng), context.canvas_side), (size[1], size[0])), dtype=np.uint8)
    dim = soften(room, 0.015 * max(size)) // 2 if rng.random() < 0.6 else np.full_like(room, colour(rng))
    return photo.recoloured(np.where(outline[..., None], photo.pixels, dim))


def as_photographed(pixels: Pixels, rng: np.random.Generator, force: float) -> Pixels:
    """Uneven light, a reflection, a colour cast, blur, noise."""
    size_hw = pixels.shape[0], pixels.shape[1]
    light = 1 + 0.7 * force * (slope(size_hw, float(rng.uniform(0, 2 * np.pi))) - 0.5)
    cast = 1 + rng.uniform(-0.15, 0.15, 3) * (0.3 + force)
    lit = pixels.astype(np.float32) * (light * float(rng.uniform(0.75, 1.15)))[..., None] * cast.astype(np.float32)
    lit += 60 * force * float(rng.random()) * glare(size_hw, rng)[..., None]
    photo = np.asarray(cv2.GaussianBlur(lit, (0, 0), 0.4 + 0.9 * force))
    photo = photo + rng.standard_normal(photo.shape, dtype=np.float32) * (1 + 7 * force)
    return np.clip(np.rint(photo), 0, 255).astype(np.uint8)


def glare(size_hw: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A soft bright spot: (H, W) float32 in 0..1."""
    middle_x, middle_y = rng.uniform(0, 1, 2) * (size_hw[1], size_hw[0])
    reach = float(rng.uniform(0.1, 0.35)) * max(size_hw)
    down = np.exp(-((np.arange(size_hw[0]) - middle_y) ** 2) / (2 * reach**2))
    across = np.exp(-((np.arange(size_hw[1]) - middle_x) ** 2) / (2 * reach**2))
    return np.outer(down, across).astype(np.float32)
