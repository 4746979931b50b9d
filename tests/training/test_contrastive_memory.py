"""The contrastive memory against a version with loops and a plain list, in double precision."""

import math

import pytest
import torch
from pytorch_metric_learning.losses import ContrastiveLoss
from torch.nn.functional import normalize

from matcher.errors import UsageError
from matcher.models.descriptor import Descriptor
from matcher.training.objectives import ContrastiveMemory
from matcher.training.objectives.contrastive_memory import ResumableMemory

pytestmark = pytest.mark.filterwarnings("ignore:Converting a tensor")


def make_rows(step, count=6, dim=4):
    rows = torch.randn(count, dim, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    return normalize(rows + 1.0, dim=-1).requires_grad_()  # on one side of the sphere: negatives within the margin


def make_memory(places, dim=4, margins=(0.0, 1.0)):
    return ResumableMemory(ContrastiveLoss(*margins), embedding_size=dim, memory_size=places)


class SlowMemory:
    """The published order with a list: write, compare with all that is kept, drop only the row's own copy."""

    def __init__(self, places, margins=(0.0, 1.0)):
        self.places, self.margins, self.kept = places, margins, []

    def __call__(self, rows, labels):
        added = [(row.detach().clone(), label, number) for number, (row, label) in enumerate(zip(rows, labels.tolist(), strict=True))]
        self.kept = [(row, label, None) for row, label, _ in self.kept] + added
        self.kept = self.kept[-self.places :]
        positive, negative = [], []
        for i, label in enumerate(labels.tolist()):
            for row, other, number in self.kept:
                distance = (rows[i] - row).square().sum().sqrt()
                if label == other and number != i and distance - self.margins[0] > 0:
                    positive.append(distance - self.margins[0])
                if label != other and self.margins[1] - distance > 0:
                    negative.append(self.margins[1] - distance)
        return sum(sum(terms) / len(terms) for terms in (positive, negative) if terms)


@pytest.mark.parametrize(("places", "margins"), [(8, (0.0, 1.0)), (20, (0.0, 1.0)), (20, (0.2, 1.1)), (7, (0.1, 0.6))])
def test_value_and_gradient_equal_the_slow_version_at_every_step(places, margins):
    memory, slow = make_memory(places, margins=margins), SlowMemory(places, margins)
    for step in range(8):  # before, at and after the first wrap
        rows = make_rows(step)
        labels = torch.tensor([0, 1, 2, 0, 1, 2]) + step // 2  # photos come again: their old copies are positives
        found, expected = memory(rows, labels), slow(rows, labels)
        assert float(found) == pytest.approx(float(expected), abs=1e-6)
        (found_gradient,), (expected_gradient,) = (torch.autograd.grad(loss, rows) for loss in (found, expected))
        # the library scales rows to length 1 once more, so its gradient has no part along the row
        along = (expected_gradient * rows).sum(dim=1, keepdim=True) * rows
        assert torch.allclose(found_gradient, (expected_gradient - along).detach(), atol=1e-6)


def test_gradient_reaches_the_anchor_only():
    rows = make_rows(0, count=2)
    (gradient,) = torch.autograd.grad(make_memory(10)(rows, torch.tensor([5, 5])), rows)
    apart = (rows[0] - rows[1]).detach() / 2 / (rows[0] - rows[1]).detach().norm()  # half: two anchors share the mean
    assert torch.allclose(gradient[0], apart - (apart @ rows[0]) * rows[0], atol=1e-6)


def test_empty_places_do_not_count():
    rows = make_rows(1)
    labels = torch.arange(6)
    assert float(make_memory(100)(rows, labels)) == pytest.approx(float(make_memory(6)(rows, labels)))


def test_a_term_without_an_active_pair_is_nothing():
    rows = torch.eye(4, dtype=torch.float64).requires_grad_()
    assert float(make_memory(10)(rows, torch.arange(4))) == 0.0
    assert float(make_memory(10)(rows, torch.tensor([0, 0, 0, 0]))) == pytest.approx(math.sqrt(2))


def test_where_it_stands_is_part_of_the_state():
    first, second = make_memory(8).double(), make_memory(8).double()
    for step in range(3):
        first(make_rows(step), torch.arange(6))
    second.load_state_dict(first.state_dict())
    rows = make_rows(7)
    assert float(first(rows, torch.arange(6))) == float(second(rows, torch.arange(6)))
    assert first.queue_idx == second.queue_idx


def test_published_constants_are_the_defaults():
    objective = ContrastiveMemory()
    assert objective.places == 20_000 and objective.margins == (0.0, 1.0)


def test_margins_that_cannot_be_are_told():
    wrong = ContrastiveMemory(positive_margin=1.0, negative_margin=0.5)
    with pytest.raises(UsageError, match="margins must be 0 to 2"):
        wrong.prepare(Descriptor.build("timm:test_resnet", size=32), photos=9, compiled=False)
