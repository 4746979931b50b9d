"""Photographs -> names of those that are figures of several pictures: python experiments/overlay/find_figures.py PHOTOS CACHE

Nobody knows the boxes of those pictures, so the overlay detector is neither to learn from them nor to be measured on them
(data.leave_out). A figure is told by a pale band from side to side, with pictures on both sides of it; others are not found.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from matcher.data.photo_bank import PhotoBank

SIDE = 192  # pixels that photographs are squashed to
PALE, FLAT = 240.0, 8.0  # a band's lines have at least this mean and at most this deviation, of grey 0 to 255
LEAST = 2  # lines of a band
SMALL = 0.12  # share of the side below which what lies between bands is no picture
TALL = 0.25  # likewise of the lines across that are more than a caption
WHITE, BUSY = 235.0, 0.6  # of a picture at least this share is darker than white


def main(photos: str, cache: str) -> None:
    """Prints a name a line."""
    bank = PhotoBank.load(Path(photos), side=SIDE, cache=cache)
    for name, pixels in zip(bank.ids, bank.pixels.numpy(), strict=True):
        if is_figure(pixels.mean(axis=0)):
            print(Path(name).name)


def is_figure(grey: NDArray[np.floating]) -> bool:
    """Picture (H, W), grey 0 to 255 -> whether two pictures or more stand side by side in it, or above each other."""
    return any(sum(is_picture(part, way.shape[1]) for part in parts(way)) >= 2 for way in (grey, grey.T))


def parts(grey: NDArray[np.floating]) -> Iterator[NDArray[np.floating]]:
    """Picture (H, W) -> what lies between its pale bands from top to bottom."""
    pale = (grey.mean(axis=0) >= PALE) & (grey.std(axis=0) <= FLAT)
    bands = np.flatnonzero(np.diff(np.concatenate([[0], pale.astype(np.int8), [0]]))).reshape(-1, 2)
    stops = [0, *bands[bands[:, 1] - bands[:, 0] >= LEAST].ravel().tolist(), len(pale)]
    return (grey[:, first:last] for first, last in zip(stops[::2], stops[1::2], strict=True))


def is_picture(part: NDArray[np.floating], whole: int) -> bool:
    """A part (H, w) of something ``whole`` lines wide -> whether it is wide, tall and dark enough; a caption is left out of it."""
    if part.shape[1] < SMALL * whole:
        return False
    rows = part[(part < PALE).mean(axis=1) > TALL]
    return len(rows) >= TALL * len(part) and bool((rows < WHITE).mean() >= BUSY)


if __name__ == "__main__":
    main(*sys.argv[1:])
