"""Thumbnails and content keys -> pairs that show the same whole picture: untouched, re-saved or resized."""

from __future__ import annotations

from itertools import groupby, islice
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from matcher.types import Pictures

CHUNK = 16_384  # references compared at a time
ROUNDING = 1.0  # what single precision may get wrong, in squared levels
CLOSE = 6.0  # root mean square difference of thumbnails, in levels of 255; re-saving at quality 30 stays below 3


def same_content(queries: Pictures, references: Pictures) -> list[tuple[int, int]]:
    """Pairs (row of queries, row of references) whose files or decoded pixels are equal."""
    pairs: set[tuple[int, int]] = set()
    for name in ("file_key", "pixel_key"):
        owners: dict[str, list[int]] = {}
        for row, key in enumerate(getattr(queries, name).tolist()):
            owners.setdefault(key, []).append(row)
        for reference, key in enumerate(getattr(references, name).tolist()):  # there are more of these
            for row in owners.get(key, ()):
                pairs.add((row, reference))
    return sorted(pairs)


def near_thumbnails(queries: Pictures, references: Pictures, *, most: int = 3) -> list[tuple[int, int]]:
    """Pairs whose thumbnails differ by less than CLOSE, at most ``most`` references for a query, the closest first.

    Equally close ones come in the order of the references, however many there are: what single precision finds is counted again.
    """
    rows, found = queries.thumbnail.astype(np.float32), []
    for start in range(0, len(references), CHUNK):
        columns = references.thumbnail[start : start + CHUNK].astype(np.float32)
        lengths = [np.einsum("nd,nd->n", side, side) for side in (rows, columns)]
        squared = (lengths[0][:, None] + lengths[1] - 2 * (rows @ columns.T)) / rows.shape[1]
        near = np.stack(np.nonzero(squared < CLOSE**2 + ROUNDING), axis=1)
        found += [(n, apart(queries.thumbnail[n], references.thumbnail[start + r]), start + r) for n, r in near.tolist()]
    close = [(n, r) for n, squared, r in sorted(found) if squared < CLOSE**2]
    return [pair for _, pairs in groupby(close, key=itemgetter(0)) for pair in islice(pairs, most)]


def apart(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Two thumbnails -> their mean squared difference, exact."""
    return float((np.subtract(first, second, dtype=np.int64) ** 2).mean())
