"""Every objective trains, stops and goes on as if it had not, and says what it cannot use."""

import pytest
import torch
from lightning.pytorch import Callback

from matcher.errors import MatcherError, UsageError
from matcher.models.checkpoint import load, save
from matcher.training.objectives import ArcFaceClasses, BarlowTwins, ClassesAndTriplet, ContrastiveMemory, InfoNCE
from matcher.training.settings import AlarmSettings, LossSettings, OptimiserSettings
from matcher.training.slices import Slices

pytestmark = pytest.mark.filterwarnings("ignore")
OBJECTIVES = {
    "info_nce": (lambda: InfoNCE(LossSettings(memory=6, mixed=0.5)), {}),
    "contrastive_memory": (lambda: ContrastiveMemory(places=22), {"negatives": 2}),
    "arc_face_classes": (ArcFaceClasses, {"known": [0.6, 1.0]}),
    "classes_and_triplet": (lambda: ClassesAndTriplet(waves=["blocks.1"]), {}),
    "barlow_twins": (lambda: BarlowTwins(width=12), {}),
}
every = pytest.mark.parametrize("name", OBJECTIVES)


class Losses(Callback):
    """Keeps the loss of every step, and interrupts after one of them."""

    def __init__(self, slices, stop_after):
        self.found, self.slices, self.stop_after = [], slices, stop_after

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.found.append(outputs["loss"].item())
        if trainer.global_step == self.stop_after:
            self.slices.interrupted = True


@pytest.fixture
def train(make_module, make_data, make_trainer):
    """Name of an objective, folder, and where to stop or go on from -> losses and the module after six steps."""

    def run(name, folder, *, stop_after=None, ckpt_path=None, **changes):
        make, data = OBJECTIVES[name]
        module = make_module(loss=LossSettings(), objective=make(), neck=10, pooling="gem", **changes)
        slices = Slices(folder)
        losses = Losses(slices, stop_after)
        make_trainer(6, losses, slices).fit(module, datamodule=make_data(**data), ckpt_path=ckpt_path)
        return losses.found, module

    return run


@every
def test_a_stopped_training_goes_on_as_if_it_had_not(train, tmp_path, name):
    whole, module = train(name, tmp_path / "whole")
    torch.rand(7)
    first, _ = train(name, tmp_path / "parts", stop_after=4)
    assert first == whole[:4]
    torch.rand(3)
    rest, resumed = train(name, tmp_path / "parts", ckpt_path=tmp_path / "parts" / "last.ckpt")
    assert rest == whole[4:] and len(set(whole)) == 6
    for key, value in module.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_classes_that_come_after_the_stop_begin_as_if_there_had_been_none(train, tmp_path):
    whole, _ = train("arc_face_classes", tmp_path / "whole")
    train("arc_face_classes", tmp_path / "parts", stop_after=2)
    assert train("arc_face_classes", tmp_path / "parts", ckpt_path=tmp_path / "parts" / "last.ckpt")[0] == whole[2:]


@every
def test_its_own_weights_are_trained_and_the_result_is_a_descriptor(train, tmp_path, name):
    _, module = train(name, tmp_path)
    save(tmp_path / "model.safetensors", module.result, {})
    again = load(tmp_path / "model.safetensors", kind="Descriptor")
    pictures = torch.rand(2, 3, 32, 32)
    assert torch.allclose(again(pictures), module.result(pictures), atol=1e-5)
    optimised = {id(parameter) for group in module.optimizers().param_groups for parameter in group["params"]}
    assert {id(parameter) for parameter in module.objective.parameters()} <= optimised
    assert all(parameter.grad is not None for parameter in module.objective.parameters())


@every
def test_a_collapse_ends_it(train, tmp_path, name):
    with pytest.raises(MatcherError, match="the descriptors collapsed: at step 2"):
        train(name, tmp_path, alarm=AlarmSettings(every=1, patience=2, least_spread=2.0))


@every
def test_what_it_kept_is_no_hindrance_to_validation(train, make_module, make_data, make_trainer, tmp_path, name):
    train(name, tmp_path, stop_after=1)
    module = make_module(loss=LossSettings(), objective=OBJECTIVES[name][0](), neck=10, pooling="gem")
    found = make_trainer(6, limit_val_batches=1).validate(module, datamodule=make_data(), ckpt_path=tmp_path / "last.ckpt", verbose=False)
    assert found[0]["val_contrast"] > 0


def test_a_training_begun_before_objectives_were_parts_goes_on(make_module, make_data, make_trainer, tmp_path):
    def run(steps_before=None, ckpt_path=None):
        slices = Slices(tmp_path)
        losses = Losses(slices, steps_before)
        make_trainer(4, losses, slices).fit(make_module(), datamodule=make_data(), ckpt_path=ckpt_path)
        return losses.found

    whole = run()
    run(steps_before=2)
    kept = torch.load(tmp_path / "last.ckpt", weights_only=False)
    kept["state_dict"] = {key.replace("objective.memory.", "memory."): value for key, value in kept["state_dict"].items()}
    assert "memory.rows" in kept["state_dict"]
    torch.save(kept, tmp_path / "old.ckpt")
    assert run(ckpt_path=tmp_path / "old.ckpt") == whole[2:]


def test_the_published_optimiser_has_no_decay_for_classes(train, tmp_path):
    module = train("arc_face_classes", tmp_path, optimiser=OptimiserSettings(warm_up=1, weight_decay=0.0))[1]
    assert {group["weight_decay"] for group in module.optimizers().param_groups} == {0.0}


def test_negatives_that_nobody_looks_at_are_told(make_module, make_data, make_trainer):
    with pytest.raises(UsageError, match=r"data\.negatives: the objective InfoNCE has no use"):
        make_trainer(1).fit(make_module(), datamodule=make_data(negatives=2))


def test_a_memory_smaller_than_a_step_is_told(make_module, make_data, make_trainer):
    module = make_module(loss=LossSettings(), objective=ContrastiveMemory(places=8))
    with pytest.raises(UsageError, match=r"objective\.places is 8, and a step alone brings 8 views"):
        make_trainer(1).fit(module, datamodule=make_data())


def test_settings_of_two_objectives_are_told(make_module, make_data, make_trainer):
    module = make_module(objective=BarlowTwins())
    with pytest.raises(UsageError, match=r"model\.loss is for InfoNCE; the objective BarlowTwins has its own settings"):
        make_trainer(1).fit(module, datamodule=make_data())


def test_a_start_goes_on_with_larger_pictures(make_module, tmp_path):
    save(tmp_path / "model.safetensors", make_module().result, {})
    module = make_module(start=str(tmp_path / "model.safetensors"), start_size=48)
    assert module.size == 48 and all(parameter.requires_grad for parameter in module.model.parameters())
    assert module.model.training
    with pytest.raises(UsageError, match=r"model\.start_size 48 is for a start"):
        make_module(start_size=48)
