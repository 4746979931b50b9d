"""A pair model without weights, whose patches find each other by their colours, and pictures in files for it."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import avg_pool2d

from matcher.images.decode import content_key
from matcher.models.pair_model import Judgement, PairModel

SIDE = 8  # patches


class Colours(PairModel):
    """Patches are their mean colours; a patch lies where the nearest colour is, or nowhere if that is far. Counts what it is asked."""

    stored = np.uint8
    size = 8 * SIDE

    def __init__(self):
        super().__init__()
        self.sharpness = torch.nn.Parameter(torch.tensor(4000.0), requires_grad=False)
        self.encoded, self.judged = [], []

    @property
    def arguments(self):
        return {}

    def encode(self, pictures):
        self.encoded.append(len(pictures))
        return avg_pool2d(pictures, self.size // SIDE).flatten(2).mT

    def pack(self, encoded):
        return (encoded * 255).round().to(torch.uint8).numpy()

    def unpack(self, cached):
        return torch.from_numpy(np.ascontiguousarray(cached)).float() / 255

    def judge(self, query, reference):
        self.judged.append(len(query))
        alike = -self.sharpness * torch.cdist(query, reference) ** 2
        tables = [torch.cat([table, torch.full_like(table[..., :1], -8.0)], dim=2) for table in (alike, alike.mT)]
        return Judgement(2 - alike.amax(2).abs().mean(1), *tables)


class Mute(Colours):
    """The same, but it does not tell where patches lie."""

    def judge(self, query, reference):
        return Judgement(super().judge(query, reference).logit)


@pytest.fixture
def colours():
    return Colours()


@pytest.fixture
def mute():
    return Mute()


@pytest.fixture(scope="session")
def painted(tmp_path_factory):
    """Name -> (path, key) of PNG files of smooth colours, 128 pixels a side; "flipped" is the mirror of "a"."""
    folder = tmp_path_factory.mktemp("painted")
    made = {}
    for seed, name in enumerate("abcd"):
        coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (5, 5, 3), dtype=np.uint8))
        made[name] = np.asarray(coarse.resize((128, 128), Image.Resampling.BICUBIC))
    made["flipped"] = made["a"][:, ::-1]
    for name, pixels in made.items():
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"{name}.png")
    paths = {name: folder / f"{name}.png" for name in made}
    return {name: (str(path), content_key(path.read_bytes())) for name, path in paths.items()}
