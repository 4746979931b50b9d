"""Losses against versions with loops, in double precision."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from matcher.training.losses import info_nce, koleo, overlap_of
from matcher.training.objectives import InfoNCE
from matcher.training.settings import LossSettings


def slow_info_nce(z, overlap, temperature, *, anchors=None, memory=(), related=None):
    """SSCD's loss, one view at a time: positives share a photo, negatives and remembered views do not."""
    losses = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        positives = [j for j in others if overlap[i, j] > 0]
        if not positives or (anchors is not None and not anchors[i]):
            continue
        against = sum(math.exp(float(z[i] @ z[k]) / temperature) for k in others if overlap[i, k] == 0)
        against += sum(math.exp(float(z[i] @ row) / temperature) for m, row in enumerate(memory) if not related[i, m])
        total = 0.0
        for j in positives:
            own = math.exp(float(z[i] @ z[j]) / temperature)
            total -= float(overlap[i, j]) * math.log(own / (own + against))
        losses.append(total / sum(float(overlap[i, j]) for j in positives))
    return sum(losses) / len(losses) if losses else 0.0


def slow_koleo(z, overlap):
    total = 0.0
    for i in range(len(z)):
        distances = [math.dist(z[i].tolist(), z[k].tolist()) for k in range(len(z)) if k != i and overlap[i, k] == 0]
        total -= math.log(max(min(distances), 1e-3)) if distances else 0.0
    return total / len(z)


def make_rows(count, dim=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(count, dim, generator=generator, dtype=torch.float64), dim=-1)


def two_views(sources):
    return torch.eye(sources, dtype=torch.float64).repeat(2, 1)


def mixed_views():
    """Six edited views of six photos, the first three of them mixed, and the six references."""
    shares = two_views(6)
    shares[0, 0], shares[0, 4] = 0.7, 0.3
    shares[1, 1], shares[1, 0] = 0.5, 0.5
    shares[2, 2], shares[2, 1] = 0.1, 0.9
    return shares


@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.0])
@pytest.mark.parametrize("shares", [two_views(6), mixed_views()], ids=["plain", "mixed"])
@pytest.mark.parametrize("one_way", [False, True])
def test_info_nce_equals_the_version_with_loops(temperature, shares, one_way):
    z, overlap = make_rows(12), overlap_of(shares)
    anchors = torch.arange(12) < 6 if one_way else None
    expected = slow_info_nce(z, overlap, temperature, anchors=anchors)
    assert float(info_nce(z, overlap, temperature=temperature, anchors=anchors)) == pytest.approx(expected, abs=1e-6)


def test_info_nce_with_remembered_views_equals_the_version_with_loops():
    z, overlap, memory = make_rows(8), overlap_of(two_views(4)), make_rows(5, seed=1)
    related = torch.zeros(8, 5, dtype=torch.bool)
    related[0, 2] = related[4, 2] = related[3, 0] = True
    expected = slow_info_nce(z, overlap, 0.1, memory=memory, related=related)
    assert float(info_nce(z, overlap, temperature=0.1, memory=memory, related=related)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("both_ways", [False, True])
def test_references_look_for_their_copies_only_if_both_ways_are_wanted(both_ways):
    z, shares = make_rows(12), mixed_views()
    contrast, entropy = InfoNCE(LossSettings(both_ways=both_ways, temperature=0.2)).compare(z, shares, torch.arange(6))
    anchors = torch.arange(12) < (12 if both_ways else 6)
    assert float(contrast) == pytest.approx(slow_info_nce(z, overlap_of(shares), 0.2, anchors=anchors), abs=1e-6)
    assert float(entropy) == pytest.approx(slow_koleo(z, overlap_of(shares)), abs=1e-6)


def test_info_nce_in_single_precision_and_at_extremes():
    z, overlap = make_rows(12).float(), overlap_of(two_views(6)).float()
    expected = slow_info_nce(z.double(), overlap, 0.05)
    assert float(info_nce(z, overlap, temperature=0.05)) == pytest.approx(expected, rel=1e-6)
    assert info_nce(z, overlap, temperature=0.001).isfinite()


def test_info_nce_of_perfect_and_of_collapsed_descriptors():
    overlap = overlap_of(two_views(4))
    perfect = torch.eye(4, dtype=torch.float64).repeat(2, 1)
    collapsed = torch.ones(8, 1, dtype=torch.float64)
    assert float(info_nce(perfect, overlap, temperature=0.05)) == pytest.approx(6 * math.exp(-20), rel=1e-3)
    assert float(info_nce(collapsed, overlap, temperature=0.05)) == pytest.approx(math.log(1 + 6))


def test_info_nce_does_not_depend_on_the_order_of_the_photos():
    z, shares = make_rows(12), two_views(6)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    ordered = info_nce(z[order], overlap_of(shares[order]), temperature=0.1)
    assert float(ordered) == pytest.approx(float(info_nce(z, overlap_of(shares), temperature=0.1)))


def test_a_view_without_positive_does_not_count():
    z, alone = make_rows(3), torch.eye(3, dtype=torch.float64)
    assert float(info_nce(z, alone, temperature=0.1)) == 0.0


@pytest.mark.parametrize("shares", [two_views(6), mixed_views()], ids=["plain", "mixed"])
def test_koleo_equals_the_version_with_loops(shares):
    z, overlap = make_rows(12), overlap_of(shares)
    assert float(koleo(z, overlap)) == pytest.approx(slow_koleo(z, overlap), abs=1e-6)


def test_koleo_of_one_photo_is_nothing_and_of_equal_descriptors_is_finite():
    assert float(koleo(make_rows(2), overlap_of(two_views(1)))) == 0.0
    equal = torch.ones(4, 1, dtype=torch.float64)
    assert float(koleo(equal, overlap_of(two_views(2)))) == pytest.approx(-math.log(1e-3))


def test_gradients_pull_copies_together_and_push_strangers_apart():
    z = make_rows(4).requires_grad_()
    overlap = overlap_of(two_views(2))
    info_nce(normalize(z, dim=-1), overlap, temperature=0.5).backward()
    moved = normalize(z.detach() - 0.01 * z.grad, dim=-1)
    before = make_rows(4)
    assert (moved[0] @ moved[2]) > (before[0] @ before[2])
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("loss", [lambda z, o: info_nce(z, o, temperature=0.2), koleo])
def test_gradients_are_those_of_small_differences(loss):
    z, overlap = make_rows(8, dim=4).requires_grad_(), overlap_of(two_views(4))
    assert torch.autograd.gradcheck(lambda rows: loss(rows, overlap), (z,))
