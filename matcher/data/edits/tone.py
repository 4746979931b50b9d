"""Edits of colour and light; nothing moves, nothing is hidden."""

from __future__ import annotations

import cv2
import numpy as np

from matcher.data.edits.edited import Context, Edited, Pixels, Severity, strength

LUMA = np.array([0.299, 0.587, 0.114])
SEPIA = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])


def mix_channels(pixels: Pixels, matrix: np.ndarray, offset: float = 0.0) -> Pixels:
    """RGB (H, W, 3) -> matrix (3, 3) @ RGB + offset, rounded and clipped."""
    affine = np.concatenate([matrix, np.full((3, 1), offset)], axis=1)
    return np.clip(np.rint(cv2.transform(pixels.astype(np.float32), affine.astype(np.float32))), 0, 255).astype(np.uint8)


def hue_matrix(degrees: float) -> np.ndarray:
    """Rotation of the colours around the grey axis: (3, 3)."""
    axis, angle = np.full(3, 1 / np.sqrt(3)), np.deg2rad(degrees)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * np.outer(axis, axis)


def jitter(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Brightness, contrast, saturation and hue, each changed a little (mild) or a lot (strong)."""
    reach = strength(rng, severity, 0.1, 0.7)
    brightness, contrast, saturation = (float(v) for v in 1 + rng.uniform(-reach, reach, 3))
    hue = float(rng.uniform(-reach, reach) * 140)
    matrix = (saturation * np.eye(3) + (1 - saturation) * np.tile(LUMA, (3, 1))) @ hue_matrix(hue)
    mean = float(picture.pixels.mean())
    pixels = mix_channels(picture.pixels, brightness * contrast * matrix, brightness * (1 - contrast) * mean)
    return picture.recoloured(pixels, brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)


def gray(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Greyscale; with more contrast if strong."""
    contrast = 1.0 if severity == 1 else strength(rng, severity, 0.8, 1.6)
    pixels = mix_channels(picture.pixels, contrast * np.tile(LUMA, (3, 1)), (1 - contrast) * 128)
    return picture.recoloured(pixels, contrast=contrast)


def dark(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Darkened to 60 % (mild) down to 12 % (strong) of its brightness, evenly."""
    factor = strength(rng, severity, 0.6, 0.12)
    return picture.recoloured(mix_channels(picture.pixels, factor * np.eye(3)), factor=factor)


def bright(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Overexposed by 1.3 (mild) to 2.6 (strong), or washed out towards white."""
    factor, washed = strength(rng, severity, 1.3, 2.6), bool(rng.random() < 0.5)
    gain, offset = (1 / factor, 255 * (1 - 1 / factor)) if washed else (factor, 0.0)
    return picture.recoloured(mix_channels(picture.pixels, gain * np.eye(3), offset), factor=factor, washed=washed)


def tint(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """A colour filter: sepia, grey values on a ramp of two or three colours, or a colour gradient laid over it."""
    kind = ("sepia", "ramp", "gradient")[int(rng.integers(3))]
    share = strength(rng, severity, 0.35, 1.0)
    if kind == "sepia":
        coloured = mix_channels(picture.pixels, SEPIA)
    elif kind == "ramp":
        coloured = on_ramp(picture.pixels, rng)
    else:
        coloured, share = colour_gradient(picture.size_hw, rng), 0.6 * share
    pixels = cv2.addWeighted(picture.pixels, 1 - share, coloured, share, 0.0)
    return picture.recoloured(np.asarray(pixels), kind=kind, share=share)


def on_ramp(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Grey values looked up on a ramp from a dark over a middle to a light colour."""
    stops = np.stack([rng.integers(0, 90, 3), rng.integers(60, 200, 3), rng.integers(170, 256, 3)])
    at = np.array([0.0, rng.uniform(90, 165), 255.0])
    table = np.stack([np.interp(np.arange(256), at, stops[:, c]) for c in range(3)], axis=-1)
    return np.rint(table).astype(np.uint8)[cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)]


def colour_gradient(size_hw: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """Two colours melting into each other in a random direction: (H, W, 3)."""
    place = slope(size_hw, float(rng.uniform(0, 2 * np.pi)))[..., None]
    first, second = rng.integers(0, 256, (2, 3))
    return np.rint(first * (1 - place) + second * place).astype(np.uint8)


def slope(size_hw: tuple[int, int], direction: float) -> np.ndarray:
    """A ramp from 0 to 1 across the picture, along ``direction`` (radians, clockwise from the x axis): (H, W) float32."""
    y, x = np.arange(size_hw[0], dtype=np.float32)[:, None], np.arange(size_hw[1], dtype=np.float32)[None]
    ramp = x * float(np.cos(direction)) + y * float(np.sin(direction))
    return np.asarray((ramp - ramp.min()) / max(float(np.ptp(ramp)), 1e-6), dtype=np.float32)


def solarise(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Values above a threshold are turned round: 230 (mild) down to 90 (strong)."""
    threshold = round(strength(rng, severity, 230, 90))
    return picture.recoloured(np.where(picture.pixels >= threshold, 255 - picture.pixels, picture.pixels), threshold=threshold)


def invert(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """The negative."""
    return picture.recoloured(255 - picture.pixels)


def posterise(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Fewer values in each channel: 12 (mild) down to 3 (strong)."""
    levels = round(strength(rng, severity, 12, 3))
    table = np.rint(np.rint(np.arange(256) / 255 * (levels - 1)) * 255 / (levels - 1)).astype(np.uint8)
    return picture.recoloured(table[picture.pixels], levels=levels)
