"""A folder of photos as the raw material of a benchmark: which become references, which stay outside, and how they load."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from matcher.data.edits.edited import Pixels
from matcher.data.edits.placing import limit
from matcher.errors import ImageError, MatcherError, UsageError
from matcher.images.decode import content_key, load, read_bytes
from matcher.images.table import ImageSet, read_images
from matcher.settings import ImageSettings
from matcher.types import Errors

LEAST_PHOTOS = 4
TRIES = 50  # outsiders drawn in a row that cannot be decoded before giving up
SHAPE_LIMIT = 6.0  # a picture longer than this many times its width is left out: edits would have nothing to hold on to
LEAST_SIDE = 32  # pixels


@dataclass(frozen=True)
class Photos:
    """Photos that load at a limited size.

    Attributes:
        ids, paths: of every photo
        references: rows that become references, in random order
        outsiders: rows that never do
        side: longer side, in pixels, at which photos are loaded
    """

    ids: list[str]
    paths: list[str]
    references: list[int]
    outsiders: list[int]
    side: int

    def load(self, row: int) -> Pixels:
        """Row -> (H, W, 3) uint8 RGB. ImageError if the photo is bad, or too small or too narrow to edit."""
        pixels = load(self.paths[row], settings=ImageSettings(), at_least=self.side)
        height, width = pixels.shape[:2]
        if min(height, width) < LEAST_SIDE or max(height, width) > SHAPE_LIMIT * min(height, width):
            raise ImageError("unsupported", f"{self.paths[row]}: {width} x {height} pixels are too small or too narrow to edit")
        return limit(pixels, self.side)

    def draw_outsider(self, rng: np.random.Generator) -> tuple[str, Pixels]:
        """A random photo that is no reference: its id and pixels; those that cannot be decoded are passed over."""
        for _ in range(TRIES):
            row = self.outsiders[int(rng.integers(len(self.outsiders)))]
            try:
                return self.ids[row], self.load(row)
            except ImageError:
                continue
        raise MatcherError(f"of {len(self.outsiders)} photos that are kept apart from the references hardly any can be decoded")

    def draw_foreign(self, rng: np.random.Generator) -> Pixels:
        """A random photo that is no reference, for pasting."""
        return self.draw_outsider(rng)[1]


def split_photos(path: str, *, references: int | None, side: int, seed: int) -> tuple[Photos, Errors]:
    """PATH of photos -> the photos split by a seeded permutation, and what cannot be used.

    Files with the same bytes count once: else a copy of nothing could be a copy of something.
    Without ``references``, two photos in three become references.
    """
    images, errors = read_images(path, "references")
    images = distinct(images)
    count = len(images)
    if count < LEAST_PHOTOS:
        raise MatcherError(f"{path}: {count} different photos are too few to make a benchmark; give at least {LEAST_PHOTOS}")
    wanted = math.floor(count * 2 / 3) if references is None else references
    if not 1 <= wanted <= count - 1:
        raise UsageError(f"references must be 1 to {count - 1} with {count} different photos (one must stay outside), not {wanted}")
    order = np.random.default_rng([seed, 0]).permutation(count).tolist()
    photos = Photos(images.id.tolist(), images.path.tolist(), order[:wanted], order[wanted:], side)
    return photos, errors


def distinct(images: ImageSet) -> ImageSet:
    """The set without files whose bytes came before. Only files of equal size are read for it."""
    repeated = {size for size, times in Counter(images.bytes.tolist()).items() if times > 1}
    seen, kept = set(), []
    for row, (path, size) in enumerate(zip(images.path.tolist(), images.bytes.tolist(), strict=True)):
        key = key_of(path) if size in repeated else path
        if key not in seen:
            seen.add(key)
            kept.append(row)
    return images.take(np.array(kept, dtype=np.int64))


def key_of(path: str) -> str:
    """A key of the file's bytes; the path where it cannot be read."""
    try:
        return content_key(read_bytes(path, settings=ImageSettings()))
    except ImageError:
        return path
