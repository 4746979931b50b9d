"""Photographs -> checkpoints/descriptor/vlad.safetensors: python experiments/descriptor/learn_vlad.py PHOTOS OUTPUT [PICTURES]"""

import sys
from pathlib import Path

import numpy as np

from matcher.images.decode import load
from matcher.images.table import read_images
from matcher.models import checkpoint
from matcher.models.vlad import Vlad, learn_vlad
from matcher.settings import ImageSettings
from matcher.training.card import describe_sources, read_commit
from matcher.views.render import render_many


def main(photos: str, output: str, pictures: int = 3000) -> None:
    """Draws pictures from the photographs (seed 0), squashed to squares."""
    images, _ = read_images(photos, "photos", on_error="skip")
    size = Vlad().size
    drawn = np.sort(np.random.default_rng(0).permutation(len(images))[:pictures])
    squares = [
        render_many(load(path, settings=ImageSettings(), at_least=size), np.eye(3)[None], (size, size))[0] for path in images.path[drawn]
    ]
    sources = describe_sources(Path(images.path[0]).parent, [Path(path).name for path in images.path.tolist()])
    card = {
        "training": {"pictures": len(squares), "seed": 0, "by": "experiments/descriptor/learn_vlad.py"},
        "data": {"photos": len(images), "sources": sources},
        "licences": sorted({source["licence"] for source in sources.values()}),
        "commit": read_commit(),
    }
    print(*checkpoint.save(output, learn_vlad(squares), card, half=True))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
