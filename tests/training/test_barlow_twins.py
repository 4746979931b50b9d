"""Barlow Twins against a version with loops, in double precision."""

import pytest
import torch

from matcher.training.objectives import BarlowTwins
from matcher.training.objectives.barlow_twins import barlow_twins, make_projector

pytestmark = pytest.mark.filterwarnings("ignore:Converting a tensor")


def slow_barlow_twins(first, second, redundancy):
    def scaled(rows):
        columns = []
        for column in rows.T:
            mean = sum(column) / len(column)
            variance = sum((value - mean) ** 2 for value in column) / len(column)
            columns.append([(value - mean) / (variance + 1e-5).sqrt() for value in column])
        return columns

    a, b = scaled(first), scaled(second)
    total = 0.0
    for i in range(len(a)):
        for j in range(len(b)):
            c = sum(x * y for x, y in zip(a[i], b[j], strict=True)) / len(first)
            total = total + ((1 - c) ** 2 if i == j else redundancy * c**2)
    return total


@pytest.mark.parametrize("redundancy", [0.0051, 0.5])
def test_it_equals_the_version_with_loops(redundancy):
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(6, 4, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    found, expected = barlow_twins(first, second, redundancy=redundancy), slow_barlow_twins(first, second, redundancy)
    assert float(found) == pytest.approx(float(expected), abs=1e-6)
    for leaf in (first, second):
        gradients = [torch.autograd.grad(loss, leaf, retain_graph=True)[0] for loss in (found, expected)]
        assert torch.allclose(*gradients, atol=1e-6)


def test_equal_views_of_independent_numbers_cost_nothing():
    rows = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    assert float(barlow_twins(rows, rows, redundancy=0.0051)) == pytest.approx(0.0, abs=1e-8)


def test_published_constants_are_the_defaults():
    objective = BarlowTwins()
    assert (objective.redundancy, objective.width) == (0.0051, 8192)
    assert [layer.out_features for layer in make_projector(5, 7) if isinstance(layer, torch.nn.Linear)] == [7, 7, 7]
