"""Peer: pHash of 256 bits (package imagehash, BSD-2-Clause), nearest references by Hamming distance."""

from __future__ import annotations

import imagehash
import numpy as np
from hamming import Bits, write_nearest
from jsonargparse import auto_cli
from PIL import Image


def hash_picture(picture: Image.Image) -> Bits:
    """A picture -> 256 bits: signs of the 16x16 lowest DCT coefficients against their median."""
    return np.asarray(imagehash.phash(picture, hash_size=16).hash, dtype=bool).ravel()


def main(queries: str, references: str, output: str) -> None:
    """Write the references nearest to every query.

    Args:
        queries: folder of pictures
        references: folder of pictures
        output: CSV with query_id,reference_id,score
    """
    write_nearest(queries, references, output, hash_picture)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
