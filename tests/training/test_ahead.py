import os
import signal
import subprocess
import sys
from itertools import islice
from types import SimpleNamespace

import pytest
import torch

from matcher.errors import UsageError
from matcher.training.ahead import load_ahead


def enter(data, device="cpu", processes=1):
    """A data module at the fifth step of a training of ten."""
    root = SimpleNamespace(root_device=torch.device(device))
    data.trainer = SimpleNamespace(world_size=processes, strategy=root, training=True, global_step=4, max_steps=10, limit_val_batches=1.0)
    data.setup("fit")
    return data


def test_batches_made_ahead_are_those_made_in_turn(make_data):
    ahead, plain = (enter(make_data(side=24, ahead=made)) for made in (True, False))
    made = list(islice(ahead.train_dataloader(), 3))
    for step, (batch, draw) in enumerate(zip(made, plain.train_dataloader(), strict=False), start=4):
        plain.trainer.global_step = step  # hardness grows with it
        expected = plain.on_after_batch_transfer(draw, 0)
        assert batch.seed == expected.seed and torch.equal(batch.source, expected.source)
        assert torch.equal(batch.reference, expected.reference)
        torch.testing.assert_close(batch.edited, expected.edited, rtol=0, atol=1e-4)  # one thread there, two here
    assert ahead.transfer_batch_to_device(made[0], torch.device("cpu"), 0) is made[0] is ahead.on_after_batch_transfer(made[0], 0)


def test_a_training_runs_and_goes_on_with_them(make_data, make_module, make_trainer):
    module = make_module()
    make_trainer(3).fit(module, make_data(side=24, ahead=True))
    assert all(parameter.isfinite().all() for parameter in module.parameters())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_left_to_the_training(number):
    def make(draw, step):
        os.kill(os.getpid(), number)
        return step

    class Some(list):
        first = staticmethod(lambda: 7)

    assert list(load_ahead(Some("abc"), make)) == [7, 8, 9]


def test_the_process_ends_with_that_of_the_training_whatever_still_holds_the_loader():
    program = """
from matcher.training.ahead import load_ahead
class Some(list):
    first = staticmethod(lambda: 0)
held = iter(load_ahead(Some(range(10)), lambda draw, step: step))
assert next(held) == 0
raise OSError("the disk is full")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1 and ended.stderr.endswith("OSError: the disk is full\n")


def test_a_batch_that_cannot_be_handed_over_ends_the_training():
    class Some(list):
        first = staticmethod(lambda: 0)

    with pytest.raises(RuntimeError, match="DataLoader worker"):
        list(load_ahead(Some(range(3)), lambda draw, step: lambda: draw))  # a function in a function is not pickled


@pytest.mark.parametrize("place", [{"device": "meta"}, {"processes": 2}])
def test_it_is_for_one_process_on_the_cpu(make_data, place):
    with pytest.raises(UsageError, match=r"data\.ahead is for a training in one process on the CPU"):
        enter(make_data(side=24, ahead=True), **place)
