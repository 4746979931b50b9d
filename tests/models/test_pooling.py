import pytest
import torch

from matcher.errors import UsageError
from matcher.models.pooling import SMALLEST, GeM, Pooling


@pytest.fixture
def tokens():
    return torch.randn(3, 2 + 5, 4, generator=torch.Generator().manual_seed(0))


def slow_gem(places, power):
    """(N, C) lists -> (C,): loops over channels and places."""
    channels = range(len(places[0]))
    sums = [sum(max(place[c], SMALLEST) ** power for place in places) for c in channels]
    return [(total / len(places)) ** (1 / power) for total in sums]


@pytest.mark.parametrize("power", [1.0, 3.0, 4.7])
def test_gem_agrees_with_a_slow_loop(tokens, power):
    found = GeM(power)(tokens)
    slow = [slow_gem(picture, power) for picture in tokens.double().tolist()]
    assert torch.allclose(found.double(), torch.tensor(slow, dtype=torch.float64), atol=1e-5)


def test_gem_lies_between_the_mean_and_the_largest_and_its_power_is_learned():
    places = torch.rand(2, 9, 5, generator=torch.Generator().manual_seed(1)) + 0.1
    assert torch.allclose(GeM(1.0)(places), places.mean(dim=1), atol=1e-6)
    gem = GeM()
    rows = gem(places)
    assert (rows > places.mean(dim=1)).all() and (rows < places.amax(dim=1)).all()
    rows.sum().backward()
    assert gem.power.grad is not None and gem.power.grad.item() > 0  # a higher power comes nearer to the largest


def test_a_power_that_stays_has_no_gradient():
    pooling = Pooling("gem3", prefix=0, has_class=False).requires_grad_(True)
    assert not list(pooling.parameters()) and pooling.state_dict()["gem.power"].item() == 3


def test_class_token_and_registers_are_no_places(tokens):
    expected = {"cls": tokens[:, 0], "mean": torch.stack([p[2:].sum(0) / 5 for p in tokens]), "gem": GeM()(tokens[:, 2:])}
    for kind, rows in expected.items():
        assert torch.allclose(Pooling(kind, prefix=2, has_class=True)(tokens), rows, atol=1e-6)


def test_places_may_come_in_any_order(tokens):
    mixed = tokens[:, torch.tensor([0, 1, 5, 3, 6, 2, 4])]
    for kind in ("mean", "gem"):
        pooling = Pooling(kind, prefix=2, has_class=True)
        assert torch.allclose(pooling(tokens), pooling(mixed), atol=1e-6)


def test_what_cannot_be_pooled_is_refused():
    with pytest.raises(UsageError, match="no pooling 'max'"):
        Pooling("max", prefix=0, has_class=False)
    with pytest.raises(UsageError, match="class token"):
        Pooling("cls", prefix=0, has_class=False)
