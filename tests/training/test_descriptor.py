"""Trainings that repeat themselves, stop and go on."""

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from matcher.errors import MatcherError, UsageError
from matcher.models.checkpoint import save
from matcher.training.settings import LossSettings, OptimiserSettings
from matcher.training.slices import Slices

pytestmark = pytest.mark.filterwarnings("ignore")


class Losses(Callback):
    """Keeps the loss of every step, and interrupts after one of them."""

    def __init__(self, slices=None, stop_after=None):
        self.found, self.slices, self.stop_after = [], slices, stop_after

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.found.append(outputs["loss"].item())
        if trainer.global_step == self.stop_after:
            self.slices.interrupted = True


def train(make_module, make_data, make_trainer, steps, folder, *, stop_after=None, ckpt_path=None):
    slices = Slices(folder)
    losses = Losses(slices, stop_after)
    module = make_module()
    make_trainer(steps, losses, slices).fit(module, datamodule=make_data(), ckpt_path=ckpt_path)
    return losses.found, module


def test_same_seed_same_losses_and_a_stopped_training_goes_on_as_if_it_had_not(make_module, make_data, make_trainer, tmp_path):
    whole, module = train(make_module, make_data, make_trainer, 6, tmp_path / "whole")
    torch.rand(7)  # nothing may hang on the state of torch's own generator
    first, _ = train(make_module, make_data, make_trainer, 6, tmp_path / "parts", stop_after=3)
    assert first == whole[:3]
    torch.rand(3)
    rest, resumed = train(make_module, make_data, make_trainer, 6, tmp_path / "parts", ckpt_path=tmp_path / "parts" / "last.ckpt")
    assert rest == whole[3:] and len(set(whole)) == 6
    for name, value in module.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_average_follows_the_model_and_differs_from_it(make_module, make_data, make_trainer):
    module = make_module()
    before = [value.clone() for value in module.average.parameters()]
    make_trainer(3).fit(module, datamodule=make_data())
    assert module.result is module.average
    moved = [float((new - old).abs().max()) for new, old in zip(module.average.parameters(), before, strict=True)]
    apart = [float((a - b).abs().max()) for a, b in zip(module.average.parameters(), module.model.parameters(), strict=True)]
    assert max(moved) > 0 and max(apart) > 0
    assert not any(value.requires_grad for value in module.average.parameters())


def test_training_without_steps_is_refused(make_module, make_data, make_trainer):
    with pytest.raises(UsageError, match=r"set trainer\.max_steps"):
        make_trainer(-1).fit(make_module(), datamodule=make_data())


def test_one_way_loss_without_memory_or_average(make_module, make_data, make_trainer):
    losses = Losses()
    module = make_module(loss=LossSettings(both_ways=False), optimiser=OptimiserSettings(average=0.0))
    make_trainer(2, losses, precision="bf16-mixed", gradient_clip_val=1.0).fit(module, datamodule=make_data())
    assert module.result is module.model and len(losses.found) == 2 and np.isfinite(losses.found).all()


def test_training_goes_on_from_a_checkpoint(make_module, tmp_path):
    first = make_module().result
    save(tmp_path / "model.safetensors", first, {})
    second = make_module(start=str(tmp_path / "model.safetensors"), dim=99).model
    pictures = torch.rand(2, 3, 32, 32)
    assert torch.allclose(first.eval()(pictures), second.eval()(pictures), atol=1e-6)
    assert all(parameter.requires_grad for parameter in second.parameters())


def test_unknown_start_is_told(make_module):
    with pytest.raises(MatcherError, match="nosuch"):
        make_module(start="nosuch")


def test_frozen_modules_keep_weights_and_statistics(make_module, make_data, make_trainer):
    module = make_module(frozen=["conv_stem", "bn1"])
    network = module.model.backbone.network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    make_trainer(2).fit(module, datamodule=make_data())
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and not any(name.startswith(("conv_stem.", "bn1.")) for name in moved)


def test_frozen_module_that_is_none_is_told(make_module):
    with pytest.raises(UsageError, match="no module 'stem'; it has conv_stem, bn1"):
        make_module(frozen=["stem"])
