"""Thumbnails and content keys -> pairs that show the same whole picture: untouched, re-saved or resized."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from matcher.types import Pictures

CLOSE = 6.0  # root mean square difference of thumbnails, in levels of 255; re-saving at quality 30 stays below 3


def same_content(queries: Pictures, references: Pictures) -> list[tuple[int, int]]:
    """Pairs (row of queries, row of references) whose files or decoded pixels are equal."""
    pairs: set[tuple[int, int]] = set()
    for name in ("file_key", "pixel_key"):
        owners: dict[str, list[int]] = {}
        for row, key in enumerate(getattr(references, name).tolist()):
            owners.setdefault(key, []).append(row)
        for row, key in enumerate(getattr(queries, name).tolist()):
            pairs.update((row, reference) for reference in owners.get(key, []))
    return sorted(pairs)


def near_thumbnails(queries: Pictures, references: Pictures, *, most: int = 3) -> list[tuple[int, int]]:
    """Pairs whose thumbnails differ by less than CLOSE, at most ``most`` references for a query, the closest first."""
    if not len(queries) or not len(references):
        return []
    rows, columns = as_rows(queries), as_rows(references)
    squared = (rows**2).mean(1)[:, None] + (columns**2).mean(1) - (2 / rows.shape[1]) * (rows @ columns.T)
    nearest = np.argsort(squared, axis=1, kind="stable")[:, :most]
    return [(n, int(r)) for n, chosen in enumerate(nearest) for r in chosen if squared[n, r] < CLOSE**2]


def as_rows(pictures: Pictures) -> NDArray[np.float32]:
    return pictures.thumbnail.astype(np.float32)
