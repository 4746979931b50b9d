"""Neighbours are the nearest other photos, never the same one twice, and are remembered."""

import numpy as np
import torch

from matcher.models.descriptor import Descriptor
from matcher.training.mining import mine, remember


def test_neighbours_are_those_of_a_full_table_without_twins():
    model = Descriptor.build("timm:test_efficientnet", size=32, dim=8).eval()
    pictures = torch.rand(9, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    pictures[5] = pictures[2]
    found = mine(lambda rows: pictures[rows], 9, model, nearest=3, same=0.99999)
    small = torch.nn.functional.interpolate(pictures, size=(32, 32), mode="bilinear", antialias=True).clamp(0, 1)
    with torch.inference_mode():
        rows = model(small).numpy()
    for photo, near in enumerate(found.tolist()):
        twins = {photo} | ({2, 5} if photo in (2, 5) else set())
        others = [other for other in np.argsort(-(rows @ rows[photo]), kind="stable") if other not in twins]
        similarity = rows @ rows[photo]
        assert len(set(near)) == 3 and not twins & set(near)
        np.testing.assert_allclose(similarity[near], similarity[others[:3]], atol=1e-6)


def test_twins_are_never_strangers_in_a_small_bank():
    model = Descriptor.build("timm:test_efficientnet", size=32, dim=8).eval()
    pictures = torch.rand(6, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    pictures[5] = pictures[2]
    found = mine(lambda rows: pictures[rows], 6, model, nearest=24, same=0.99999)
    assert found.shape == (6, 4) and 5 not in found[2] and 2 not in found[5]


def test_what_was_found_is_kept_and_read_again(tmp_path):
    made = []

    def make():
        made.append(1)
        return torch.tensor([[1, 2], [0, 2], [0, 1]])

    first = remember(make, tmp_path / "cache", photos="a", turn=0)
    again = remember(make, tmp_path / "cache", photos="a", turn=0)
    assert len(made) == 1 and torch.equal(first, again)
    remember(make, tmp_path / "cache", photos="a", turn=1)
    remember(make, None, photos="a", turn=1)
    assert len(made) == 3
