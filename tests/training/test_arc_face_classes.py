"""ArcFace against a version with loops, and classes that come later."""

import math

import pytest
import torch
from lightning.pytorch import Callback
from torch.nn.functional import normalize

from matcher.models.descriptor import evaluating
from matcher.training.objectives import ArcFaceClasses
from matcher.training.objectives.arc_face_classes import GrowingArcFace
from matcher.training.objectives.class_starts import EDITED_VIEWS, start_classes
from matcher.training.photo_pairs import PairBatch
from matcher.training.sampling import CLASSES, Draw, step_seed
from matcher.training.settings import LossSettings

pytestmark = pytest.mark.filterwarnings("ignore")


def make_head(columns, known, margin=0.4, scale=40.0):
    head = GrowingArcFace(columns.shape[1], columns.shape[0], margin=math.degrees(margin), scale=scale).double()
    head.W.data = columns.clone()
    head.num_classes = known
    return head


def slow_arc_face(rows, columns, labels, margin=0.4, scale=40.0):
    total = 0.0
    for row, label in zip(rows, labels.tolist(), strict=True):
        logits = []
        for j in range(columns.shape[1]):
            cosine = row @ columns[:, j] / row.norm() / columns[:, j].norm()
            if j == label:
                passed = cosine <= math.cos(math.pi - margin)
                sine = (1 - cosine**2).sqrt()
                far = cosine - margin * math.sin(margin)
                cosine = far if passed else cosine * math.cos(margin) - sine * math.sin(margin)
            logits.append(scale * cosine)
        total = total + torch.stack(logits).exp().sum().log() - logits[label]
    return total / len(rows)


@pytest.fixture
def rows():
    return normalize(torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=1).requires_grad_()


@pytest.fixture
def columns():
    return torch.randn(4, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("known", [6, 9])
def test_arc_face_equals_the_version_with_loops(rows, columns, known):
    labels = torch.tensor([0, 5, 2, 2, 1])
    columns[:, 5] = -rows[1].detach() + 0.01  # so far that the straight line takes over
    head = make_head(columns, known)
    found, expected = head(rows, labels), slow_arc_face(rows, columns[:, :known], labels)
    assert float(found) == pytest.approx(float(expected), abs=1e-6)
    gradients = [torch.autograd.grad(loss, rows, retain_graph=True)[0] for loss in (found, expected)]
    assert torch.allclose(*gradients, atol=1e-6)
    (moved,) = torch.autograd.grad(found, head.W)
    assert bool((moved[:, known:] == 0).all()) and bool((moved[:, :known] != 0).any())


def test_gradient_is_finite_where_a_row_equals_its_column(rows, columns):
    head = make_head(columns, 4).float()
    near = rows.detach().float().requires_grad_()
    head.W.data[:, :4] = near.detach()[:4].T
    head(near[:4], torch.arange(4)).backward()
    assert bool(near.grad.isfinite().all()) and bool(head.W.grad.isfinite().all())


def test_published_constants_are_the_defaults():
    objective = ArcFaceClasses()
    assert (objective.scale, objective.margin, objective.references) == (40.0, 0.4, False)
    assert EDITED_VIEWS == 4


def test_new_classes_begin_at_the_mean_of_a_clean_and_four_edited_views(make_module, make_data, make_trainer):
    module, data = make_module(), make_data(others=3)
    make_trainer(1).fit(module, datamodule=data)
    found = start_classes(module.model, data, range(2, 8), hardness=0.3)
    expected = []
    with torch.no_grad(), evaluating(module.model):
        for chunk in (torch.arange(2, 6), torch.arange(6, 8)):
            rows = []
            for view in range(4):
                seed = step_seed(0, CLASSES, 4 * int(chunk[0]) + view)
                order = torch.randperm(len(data.bank), generator=torch.Generator().manual_seed(seed)).tolist()
                others = torch.tensor([row for row in order if row not in chunk.tolist()][:3])
                batch = data.make_pairs(data.bank, Draw(chunk, others, seed), hardness=0.3)
                rows += [module.model(batch.edited)] + ([module.model(batch.reference)] if view == 0 else [])
            mean = torch.stack(rows).double().mean(dim=0)
            expected.append(mean / mean.norm(dim=1, keepdim=True))
    assert torch.allclose(found.double(), torch.cat(expected), atol=1e-6)


@pytest.mark.parametrize("references", [False, True])
def test_references_are_classified_only_if_they_are_wanted(make_module, references):
    generator, model, objective = torch.Generator().manual_seed(0), make_module().model.eval(), ArcFaceClasses(references=references)
    objective.prepare(model, photos=6, compiled=False)
    objective.head.add_classes(normalize(torch.randn(6, model.dim, generator=generator), dim=1))
    edited, reference, other = torch.rand(3, 4, 3, 32, 32, generator=generator)
    source = torch.tensor([0, 5, 2, 1])
    with torch.no_grad():
        first, second = (objective.measure(model, PairBatch(view, edited, source, 0)) for view in (reference, other))
        shown = torch.cat([first.edited, first.reference]) if references else first.edited
        expected = slow_arc_face(shown.double(), objective.head.W.double(), source.repeat(2)[: len(shown)])
    assert float(first.loss) == pytest.approx(float(expected), rel=1e-5)
    assert (abs(float(first.loss - second.loss)) > 1e-3) is references and not torch.allclose(first.reference, second.reference)


def test_classes_grow_with_the_photos_that_are_known(make_module, make_data, make_trainer):
    module, data = make_module(loss=LossSettings(), objective=ArcFaceClasses()), make_data(known=[0.6, 1.0])
    before = {}

    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            before[trainer.global_step] = (pl_module.objective.head.num_classes, int(batch.source.max()))

    make_trainer(4, Watch()).fit(module, datamodule=data)
    few, all_of_them = round(0.6 * len(data.bank)), len(data.bank)
    assert [before[step][0] for step in (1, 2, 3, 4)] == [few, few, all_of_them, all_of_them]
    assert max(before[1][1], before[2][1]) < few
