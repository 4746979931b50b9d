import torch
from torch import nn

from matcher.training.model_training import follow, parameter_groups


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
