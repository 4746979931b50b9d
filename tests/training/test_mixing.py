import pytest
import torch

from matcher.training.mixing import draw_beta, draw_boxes, mix_views


def make_pictures(count, side=16):
    """Picture i is i everywhere."""
    return torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1).expand(count, 3, side, side).clone()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_shares_say_what_the_pixels_show():
    pictures = make_pictures(32)
    mixed, shares = mix_views(pictures, share=1.0, generator=seeded())
    assert torch.allclose(shares.sum(dim=1), torch.ones(32))
    assert torch.allclose(mixed.mean(dim=(1, 2, 3)), shares @ torch.arange(32.0), atol=1e-4)


def test_half_are_blends_and_half_hold_a_box():
    mixed, _ = mix_views(make_pictures(400), share=1.0, generator=seeded())
    flat = (mixed.amax(dim=(1, 2, 3)) - mixed.amin(dim=(1, 2, 3))) < 1e-4
    assert 0.4 < flat.float().mean() < 0.6


def test_as_many_are_mixed_as_asked():
    _, shares = mix_views(make_pictures(2000, side=2), share=0.2, generator=seeded())
    assert 0.15 < (shares.diagonal() < 1).float().mean() < 0.22


def test_nothing_is_mixed_at_share_0_and_the_input_stays():
    pictures = make_pictures(8)
    before = pictures.clone()
    mixed, shares = mix_views(pictures, share=0.0, generator=seeded())
    assert torch.equal(mixed, before) and torch.equal(shares, torch.eye(8))
    mix_views(pictures, share=1.0, generator=seeded())
    assert torch.equal(pictures, before)


def test_same_seed_same_mixture():
    first, second = (mix_views(make_pictures(8), share=0.5, generator=seeded(3)) for _ in range(2))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_beta_and_boxes():
    numbers = draw_beta(20_000, seeded())
    assert numbers.mean().item() == pytest.approx(0.5, abs=0.01) and numbers.var().item() == pytest.approx(1 / 20, abs=0.003)
    area = torch.tensor([0.0, 0.25, 1.0])
    assert draw_boxes(area, 8, seeded()).float().mean(dim=(1, 2)).tolist() == [0.0, 0.25, 1.0]
