"""Each term of the loss against a version with loops, in double precision."""

import math

import pytest
import torch

from matcher.errors import UsageError
from matcher.models.descriptor import Descriptor
from matcher.training.objectives import ClassesAndTriplet
from matcher.training.objectives.classes_and_triplet import distill, hardest_triplets
from matcher.training.objectives.reading import Rows, read_rows

pytestmark = pytest.mark.filterwarnings("ignore:Converting a tensor")


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def slow_triplets(rows, labels):
    terms = []
    for i, label in enumerate(labels.tolist()):
        distances = [(rows[i] - row).square().sum().sqrt() for row in rows]
        positives = [distances[j] for j, other in enumerate(labels.tolist()) if other == label and j != i]
        negatives = [distances[j] for j, other in enumerate(labels.tolist()) if other != label]
        if positives:
            terms.append((1 + (max(positives) - min(negatives)).exp()).log())
    return sum(terms) / len(terms)


def slow_smoothed(logits, labels, smoothing):
    total = 0.0
    for row, label in zip(logits, labels.tolist(), strict=True):
        chances = row.exp() / row.exp().sum()
        for j in range(len(row)):
            wanted = smoothing / len(row) + (1 - smoothing if j == label else 0)
            total = total - wanted * chances[j].log()
    return total / len(logits)


def slow_distilled(teacher, student, temperature):
    total = 0.0
    for a, b in zip(teacher, student, strict=True):
        p, q = ((row / temperature).exp() / (row / temperature).exp().sum() for row in (a, b))
        total = total + sum(p[j] * (p[j].log() - q[j].log()) for j in range(len(p)))
    return temperature**2 * total / len(teacher)


def equal(found, expected, leaf):
    assert float(found) == pytest.approx(float(expected), abs=1e-6)
    gradients = [torch.autograd.grad(loss, leaf, retain_graph=True)[0] for loss in (found, expected)]
    assert torch.allclose(*gradients, atol=1e-6)


@pytest.mark.parametrize("scale", [0.3, 1.0, 30.0])
def test_hardest_triplets_equal_the_version_with_loops(scale):
    rows, labels = draw(8, 5), torch.tensor([0, 1, 2, 3, 0, 1, 2, 0])
    moved = rows * scale
    moved[:, 0] = moved[:, 0] + (2000.0 * (labels == 0) if scale > 10 else 0.0)  # so far apart that some terms are rounded to 0
    equal(hardest_triplets(moved, labels), slow_triplets(moved, labels), rows)


def test_distillation_equals_the_version_with_loops_and_moves_the_student_only():
    teacher, student = draw(6, 4), draw(6, 4, seed=1)
    equal(distill(teacher.detach(), student, temperature=4.0), slow_distilled(teacher, student, 4.0), student)
    assert float(distill(teacher, teacher, temperature=2.0)) == pytest.approx(0.0, abs=1e-9)


def test_the_terms_are_those_of_the_rows(make_objective):
    objective, labels = make_objective()[1].double(), torch.tensor([3, 0, 5, 3, 0, 5])
    rows = Rows(draw(6, 7), draw(6, 12, seed=1), draw(6, 8, seed=2), draw(6, 8, seed=3))
    with torch.no_grad():
        for linear in (objective.neck_classes, objective.narrow_classes):
            linear.weight.mul_(1000)
    found = objective.compare(rows, labels)
    teacher, student = rows.neck @ objective.neck_classes.weight.T, rows.narrow @ objective.narrow_classes.weight.T
    assert list(found) == ["classes", "triplet", "narrow_classes", "distilled"]
    assert float(found["classes"]) == pytest.approx(float(slow_smoothed(teacher, labels, 0.1)), abs=1e-6)
    assert float(found["narrow_classes"]) == pytest.approx(float(slow_smoothed(student, labels, 0.1)), abs=1e-6)
    assert float(found["triplet"]) == pytest.approx(float(slow_triplets(rows.pooled, labels)), abs=1e-6)
    assert float(found["distilled"]) == pytest.approx(float(slow_distilled(teacher, student, 4.0)), abs=1e-6)
    (moved,) = torch.autograd.grad(found["distilled"], rows.neck, allow_unused=True)
    assert moved is None


@pytest.fixture
def make_objective():
    def make(neck=12):
        model = Descriptor.build("timm:test_resnet", size=32, dim=8, neck=neck, pooling="gem")
        objective = ClassesAndTriplet()
        torch.manual_seed(0)
        objective.prepare(model, photos=9, compiled=False)
        return model, objective

    return make


def test_classifiers_and_frozen_shifts_are_the_published_ones(make_objective):
    model, objective = make_objective()
    assert objective.neck_classes.weight.shape == (9, 12) and objective.narrow_classes.weight.shape == (9, 8)
    assert objective.neck_classes.bias is None and float(objective.neck_classes.weight.std()) == pytest.approx(0.001, rel=0.3)
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert frozen == ["head.4.bias", "head.8.bias"]


def test_rows_are_those_of_the_descriptor(make_objective):
    model, _ = make_objective()
    pictures = torch.rand(4, 3, 32, 32)
    rows = read_rows(model.eval(), pictures)
    assert torch.equal(rows.unit, model(pictures)) and rows.neck.shape == (4, 12) and rows.pooled.shape == (4, 96)
    assert torch.allclose(rows.narrow.norm(dim=1, keepdim=True) * rows.unit, rows.narrow, atol=1e-6)


def test_a_descriptor_without_a_neck_is_told():
    with pytest.raises(UsageError, match=r"set model\.neck"):
        ClassesAndTriplet().prepare(Descriptor.build("timm:test_resnet", size=32), photos=9, compiled=False)


def test_temperature_softens():
    assert math.isclose(ClassesAndTriplet().temperature, 4.0) and ClassesAndTriplet().waves == ("layer2", "layer3")
