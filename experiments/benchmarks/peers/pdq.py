"""Peer: PDQ of 256 bits (package pdqhash, MIT), nearest references by Hamming distance."""

from __future__ import annotations

import numpy as np
import pdqhash
from hamming import Bits, write_nearest
from jsonargparse import auto_cli
from PIL import Image


def hash_picture(picture: Image.Image) -> Bits:
    """A picture -> the 256 bits of its PDQ hash."""
    bits, _quality = pdqhash.compute(np.asarray(picture.convert("RGB")))
    return np.asarray(bits, dtype=bool)


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
