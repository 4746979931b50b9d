from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import normalize

from matcher.errors import MatcherError
from matcher.training.collapse import CollapseAlarm, Spread
from matcher.training.settings import AlarmSettings


def make_views(count=64, dim=16, noise=0.1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    reference = torch.randn(count, dim, generator=generator)
    return normalize(reference, dim=-1), normalize(reference + noise * torch.randn(count, dim, generator=generator), dim=-1)


def slow_measures(reference, edited):
    z = torch.cat([reference, edited])
    pairs = [(i, j) for i in range(len(reference)) for j in range(len(reference))]
    distance = {(i, j): float((edited[i] - reference[j]).norm()) for i, j in pairs}
    negative = [d for (i, j), d in distance.items() if i != j]
    positive = [d for (i, j), d in distance.items() if i == j]
    eigenvalues = torch.linalg.eigvalsh(torch.cov(z.T.double()))
    return (
        float(eigenvalues.sum().sqrt()),
        sum(negative) / len(negative),
        sum(positive) / len(positive),
        float(eigenvalues.sum() ** 2 / eigenvalues.square().sum()),
    )


def test_measures_equal_slow_ones():
    reference, edited = make_views()
    found = Spread.measure(reference, edited)
    expected = slow_measures(reference, edited)
    assert (found.spread, found.negative_distance, found.positive_distance, found.dimensions) == pytest.approx(expected, rel=1e-4)


def test_healthy_descriptors_have_no_fault():
    found = Spread.measure(*make_views())
    assert found.fault(AlarmSettings()) == "" and found.spread > 0.9 and 1.3 < found.negative_distance < 1.5


@pytest.mark.parametrize(
    ("views", "words"),
    [
        ((torch.ones(8, 4) / 2, torch.ones(8, 4) / 2), "spread"),
        (tuple(normalize(torch.ones(8, 4) + 0.4 * view, dim=-1) for view in make_views(8, 4)), "photos lie"),
        ((torch.tensor([[1.0, 0.0], [-1.0, 0.0]] * 4), torch.tensor([[-1.0, 0.0], [1.0, 0.0]] * 4)), "1.0 numbers"),
        ((make_views()[0], make_views(seed=1)[0]), "no closer"),
    ],
    ids=["one point", "a narrow cone", "one line", "nothing learned"],
)
def test_each_fault_is_named(views, words):
    assert words in Spread.measure(*views).fault(AlarmSettings())


class Steps:
    """A trainer and a module, as far as the alarm looks at them."""

    def __init__(self, alarm):
        self.alarm, self.logged = alarm, []
        self.trainer = SimpleNamespace(global_step=0)
        self.module = SimpleNamespace(log_dict=lambda values, **_: self.logged.append(values))

    def step(self, views, loss=1.0):
        self.trainer.global_step += 1
        outputs = {"reference": views[0], "edited": views[1], "loss": torch.tensor(loss)}
        self.alarm.on_train_batch_end(self.trainer, self.module, outputs, None, 0)


def test_alarm_ends_a_collapsed_training_with_advice():
    steps, flat = Steps(CollapseAlarm(AlarmSettings(every=2, patience=3))), (torch.ones(8, 4) / 2,) * 2
    for _ in range(5):
        steps.step(flat)
    with pytest.raises(MatcherError, match=r"collapsed: at step 6 .*3 looks in a row; lower the learning rate"):
        steps.step(flat)
    assert len(steps.logged) == 3 and "train_negative_distance" in steps.logged[0]


def test_one_good_look_resets_the_alarm():
    steps, flat = Steps(CollapseAlarm(AlarmSettings(every=1, patience=3))), (torch.ones(8, 4) / 2,) * 2
    for views in [flat, flat, make_views(), flat, flat]:
        steps.step(views)
    resumed = Steps(CollapseAlarm(AlarmSettings(every=1, patience=3)))
    resumed.alarm.load_state_dict(steps.alarm.state_dict())
    with pytest.raises(MatcherError, match="collapsed"):
        resumed.step(flat)


def test_a_loss_that_is_no_number_ends_the_training():
    steps = Steps(CollapseAlarm(AlarmSettings(every=1)))
    with pytest.raises(MatcherError, match="the loss at step 1 is nan"):
        steps.step(make_views(), loss=float("nan"))
