"""What the two perceptual hashes share: list pictures, compare bits, write the nearest references."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NEAREST = 10  # references kept for a query

Bits = NDArray[np.bool_]


def hash_folder(folder: str, hash_picture: Callable[[Image.Image], Bits]) -> tuple[list[str], NDArray[np.uint8]]:
    """A folder of pictures -> their ids (file names without suffix) and packed hashes (N, bits / 8)."""
    paths = sorted(path for path in Path(folder).iterdir() if path.is_file())
    hashes = []
    for path in paths:
        with Image.open(path) as picture:
            hashes.append(np.packbits(hash_picture(picture)))
    return [path.stem for path in paths], np.stack(hashes)


def write_nearest(queries: str, references: str, output: str, hash_picture: Callable[[Image.Image], Bits]) -> None:
    """Two folders and a hash -> CSV with query_id,reference_id,score; score is the share of equal bits, 0 to 1."""
    reference_ids, reference_hashes = hash_folder(references, hash_picture)
    query_ids, query_hashes = hash_folder(queries, hash_picture)
    bits = 8 * reference_hashes.shape[1]
    with open(output, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["query_id", "reference_id", "score"])
        for query_id, query_hash in zip(query_ids, query_hashes, strict=True):
            distances = np.bitwise_count(reference_hashes ^ query_hash).sum(axis=1, dtype=np.int64)
            for row in np.argsort(distances, kind="stable")[:NEAREST].tolist():
                writer.writerow([query_id, reference_ids[row], 1 - distances[row] / bits])
