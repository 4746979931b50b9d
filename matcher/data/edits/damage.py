"""Edits that cost detail: blur, mosaic, noise, swapped pixels, sharpening, recompression."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image, ImageFilter

from matcher.data.edits.edited import Context, Edited, Pixels, Severity, strength
from matcher.data.edits.placing import resize

LAPLACE = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]) / 4
EMBOSS = np.array([[-2, -1, 0], [-1, 0, 1], [0, 1, 2]]) / 3


def blur(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Gaussian, box or motion blur: 0.2 % (mild) to 2.6 % (strong) of the short side as sigma."""
    kind = ("gauss", "box", "motion")[int(rng.choice(3, p=(0.6, 0.2, 0.2)))]
    sigma = max(0.6, strength(rng, severity, 0.002, 0.026) * picture.short_side)
    if kind == "gauss":
        pixels = cv2.GaussianBlur(picture.pixels, (0, 0), sigma)
    elif kind == "box":
        width = 2 * round(sigma * 1.7) + 1
        pixels = cv2.blur(picture.pixels, (width, width))
    else:
        pixels = cv2.filter2D(picture.pixels, -1, streak(2 * round(sigma * 2.5) + 1, float(rng.uniform(0, 180))))
    return picture.recoloured(np.asarray(pixels), kind=kind, sigma=sigma)


def streak(length: int, degrees: float) -> np.ndarray:
    """Kernel of a straight motion: (length, length), sums to 1."""
    line = np.zeros((length, length), dtype=np.float32)
    line[length // 2] = 1
    middle = (length - 1) / 2
    turned = cv2.warpAffine(line, cv2.getRotationMatrix2D((middle, middle), degrees, 1.0), (length, length))
    return np.asarray(turned / turned.sum())


def pixel(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """A mosaic: 200 (mild) down to 30 (strong) cells along the longer side, square or smoothed."""
    height, width = picture.size_hw
    cells = min(strength(rng, severity, 5.3, 3.4), np.log(picture.long_side * 0.7))  # logarithm of the number
    factor = float(np.exp(cells)) / picture.long_side
    small = resize(picture.pixels, (max(1, round(height * factor)), max(1, round(width * factor))))
    smooth = bool(rng.random() < 0.3)
    pixels = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST)
    return picture.recoloured(np.asarray(pixels), cells=max(small.shape[:2]), smooth=smooth)


def noise(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Gaussian noise (sigma 8 to 65), grain that is the same in all channels, or pixels gone black and white."""
    kind = ("gauss", "grain", "salt")[int(rng.choice(3, p=(0.6, 0.2, 0.2)))]
    sigma = strength(rng, severity, 8, 65)
    if kind == "salt":
        hit = rng.random(picture.size_hw, dtype=np.float32)
        pixels = picture.pixels.copy()
        pixels[hit < sigma / 400] = 0
        pixels[hit > 1 - sigma / 400] = 255
    else:
        shape = (*picture.size_hw, 3 if kind == "gauss" else 1)
        pixels = np.clip(picture.pixels + rng.standard_normal(shape, dtype=np.float32) * sigma, 0, 255).astype(np.uint8)
    return picture.recoloured(pixels, kind=kind, sigma=sigma)


def shuffle(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """A share of the pixels, 4 % (mild) to 45 % (strong), swapped among themselves."""
    share = strength(rng, severity, 0.04, 0.45)
    flat = picture.pixels.reshape(-1, 3).copy()
    chosen = np.flatnonzero(rng.random(len(flat), dtype=np.float32) < share)
    flat[chosen] = flat[rng.permutation(chosen)]
    return picture.recoloured(flat.reshape(picture.pixels.shape), share=share)


def sharpen(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Unsharp mask of 150 % (mild) to 1,800 % (strong)."""
    radius, percent = float(rng.uniform(0.8, 3.0)), round(float(np.exp(strength(rng, severity, 5.0, 7.5))))
    filtered = Image.fromarray(picture.pixels).filter(ImageFilter.UnsharpMask(radius, percent, threshold=1))
    return picture.recoloured(np.asarray(filtered), radius=radius, percent=percent)


def edges(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Edges drawn out by a Laplacian, one time in five embossed: added with a weight of 0.4 (mild) to 3 (strong)."""
    weight, kind = strength(rng, severity, 0.4, 3.0), ("laplace", "emboss")[int(rng.random() < 0.2)]
    kernel = weight * (LAPLACE if kind == "laplace" else EMBOSS)
    kernel[1, 1] += 1
    return picture.recoloured(np.asarray(cv2.filter2D(picture.pixels, -1, kernel)), kind=kind, weight=weight)


def jpeg(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """Saved as JPEG (or WebP, one in five) of quality 60 (mild) down to 4 (strong), once or a few times."""
    quality, kind = round(strength(rng, severity, 60, 4)), ("JPEG", "WEBP")[int(rng.random() < 0.2)]
    times = int(rng.integers(1, 4)) if severity > 1 else 1
    pixels = picture.pixels
    for _ in range(times):
        pixels = saved(pixels, kind, quality)
    return picture.recoloured(pixels, kind=kind, quality=quality, times=times)


def saved(pixels: Pixels, kind: str, quality: int) -> Pixels:
    """Pixels as they come back from a lossy file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind, quality=quality)
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB"))
