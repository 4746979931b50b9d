"""GIST: the energy of oriented filters in the cells of a coarse grid (Oliva and Torralba 2001); a floor for learned descriptors.

The organisers' baseline of the Image Similarity Challenge 2021: pictures of 32 x 32 pixels, 8, 8 and 4 orientations on three scales, 4 x 4
cells, each of three colours: 960 numbers, which a PCA brings to 256 (`descriptor.post.whiten: {dim: 256, power: 0}`).
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

SIDE, CELLS = 32, 4  # pixels; cells along a side
ORIENTATIONS = (8, 8, 4)  # by scale, fine ones first
PAD = 5  # pixels mirrored around the picture, so that its borders are no edges
CONTRAST = 4  # cycles a picture below which contrast is evened out
NUMBERS = 3 * sum(ORIENTATIONS) * CELLS**2
NOISE = 1e-9  # energies of a picture of one colour are below it


class Gist:
    """Pictures (B, 32, 32, 3) uint8 RGB -> (B, 960) float32 of length 1. ``describe`` as a Descriptor's."""

    size, dim = SIDE, NUMBERS

    def describe(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        planes = np.moveaxis(pixels, 3, 1).reshape(-1, SIDE, SIDE).astype(np.float64)  # colours side by side
        spectra = np.fft.fft2(mirror_around(even_contrast(planes)))
        energies = [cell_means(np.abs(np.fft.ifft2(spectra * band))[:, PAD:-PAD, PAD:-PAD]) for band in filters()]
        rows = np.stack(energies, axis=1).reshape(len(pixels), NUMBERS)
        rows[np.linalg.norm(rows, axis=1) < NOISE] = 1.0  # of one colour
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def even_contrast(planes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Planes (P, 32, 32), 0 to 255 -> their logarithms without what varies slowly, divided by the local contrast."""
    smooth = low_pass()
    wide = mirror_around(np.log1p(planes))
    wide -= np.fft.ifft2(np.fft.fft2(wide) * smooth).real
    contrast = np.sqrt(np.abs(np.fft.ifft2(np.fft.fft2(wide**2) * smooth)))
    return (wide / (0.2 + contrast))[:, PAD:-PAD, PAD:-PAD]


def mirror_around(planes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.pad(planes, ((0, 0), (PAD, PAD), (PAD, PAD)), mode="symmetric")


def cell_means(planes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Planes (P, 32, 32) -> means of the cells of a grid (P, 16)."""
    step = SIDE // CELLS
    return planes.reshape(len(planes), CELLS, step, CELLS, step).mean(axis=(2, 4)).reshape(len(planes), CELLS**2)


@cache
def frequencies() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cycles a (padded) picture, and direction in radians, of every place of a spectrum."""
    along = np.fft.fftfreq(SIDE + 2 * PAD) * (SIDE + 2 * PAD)
    x, y = np.meshgrid(along, along)
    return np.hypot(x, y), np.arctan2(y, x)


@cache
def low_pass() -> NDArray[np.float64]:
    """A Gaussian that halves the amplitude at CONTRAST cycles."""
    return 2.0 ** -((frequencies()[0] / CONTRAST) ** 2)


@cache
def filters() -> tuple[NDArray[np.float64], ...]:
    """Gabor filters in the frequency domain: a ring of 0.3 / 1.85^scale cycles a pixel, in one direction."""
    radius, direction = frequencies()
    bands = []
    for scale, count in enumerate(ORIENTATIONS):
        ring = np.exp(-3.5 * (radius / (SIDE + 2 * PAD) / (0.3 / 1.85**scale) - 1) ** 2)
        for number in range(count):
            turned = (direction + np.pi * number / count + np.pi) % (2 * np.pi) - np.pi  # one of the two halves of the plane
            bands.append(ring * np.exp(-2 * np.pi * 16 * count**2 / 32**2 * turned**2))
    return tuple(bands)
