"""Pictures whose colours say where their pixels come from."""

import pytest
import torch

SIDE = 64


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


@pytest.fixture
def places():
    """(3, 64, 64) uint8: red grows to the right, green downwards, blue stays: colours / blue give the place."""
    line = (torch.arange(SIDE) + 0.5) / SIDE
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([0.1 + 0.8 * x, 0.1 + 0.8 * y, torch.full_like(x, 0.9)]).mul(255).round().to(torch.uint8)


@pytest.fixture
def black():
    return torch.zeros(4, 3, SIDE, SIDE, dtype=torch.uint8)
