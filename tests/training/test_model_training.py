import copy

import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

from matcher.training.model_training import follow, parameter_groups
from matcher.training.settings import OptimiserSettings


def test_weight_decay_is_for_matrices():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    matrices, vectors = parameter_groups(model, 0.1)
    assert [tuple(value.shape) for value in matrices["params"]] == [(4, 3)] and matrices["weight_decay"] == 0.1
    assert len(vectors["params"]) == 3 and vectors["weight_decay"] == 0.0


def test_average_moves_by_a_share_and_counters_are_copied():
    old, new = (nn.BatchNorm1d(2) for _ in range(2))
    new.weight.data.fill_(3.0)
    new.running_mean.fill_(10.0)
    new.num_batches_tracked.fill_(7)
    follow(old, new, keep=0.75)
    assert old.weight.tolist() == [1.5, 1.5] and old.running_mean.tolist() == [2.5, 2.5] and int(old.num_batches_tracked) == 7


def test_average_of_a_model_that_stands_still_stays():
    model = nn.Linear(2, 2)
    average = nn.Linear(2, 2)
    average.load_state_dict(model.state_dict())
    follow(average, model, keep=0.9)
    assert all(torch.equal(a, b) for a, b in zip(average.state_dict().values(), model.state_dict().values(), strict=True))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("average", "shares"), [(0.999, [1 / 10, 2 / 11, 3 / 12]), (0.15, [1 / 10, 0.15, 0.15])])
def test_the_first_steps_of_an_average_keep_less_of_it(make_module, make_data, make_trainer, average, shares):
    after_step = []

    class Keep(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            after_step.append(copy.deepcopy(pl_module.model.state_dict()))

    module = make_module(optimiser=OptimiserSettings(average=average, warm_up=1, learning_rate=0.01))
    expected = copy.deepcopy(module.model.state_dict())
    make_trainer(3, Keep()).fit(module, datamodule=make_data())
    for keep, seen in zip(shares, after_step, strict=True):
        expected = {
            name: keep * value + (1 - keep) * seen[name] if value.is_floating_point() else seen[name] for name, value in expected.items()
        }
    for name, value in module.average.state_dict().items():
        assert torch.allclose(value, expected[name], atol=1e-6), name
