"""Pair models train on groups that share their edit; labels and places follow the truth."""

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from matcher.errors import UsageError
from matcher.models.checkpoint import save
from matcher.models.descriptor import Descriptor
from matcher.models.pair_model import Judgement
from matcher.training.mining import Mining
from matcher.training.pair_groups import PairGroups, pairs_of
from matcher.training.pairs import ConcatViTTraining, TokenFusionTraining, places_loss
from matcher.training.patch_targets import patch_targets
from matcher.training.sampling import Draw
from matcher.training.schedule import Growth
from matcher.training.settings import OptimiserSettings
from matcher.training.slices import Slices

pytestmark = pytest.mark.filterwarnings("ignore")
OPTIMISER = OptimiserSettings(warm_up=1)


def make_fusion(**changes):
    shape = {"backbone": "timm:test_efficientnet", "size": 32, "depth": 4, "width": 16, "joint": 1, "heads": 2}
    return TokenFusionTraining(**{**shape, "optimiser": OPTIMISER, **changes})


def make_concat(**changes):
    return ConcatViTTraining(**{"backbone": "timm:test_vit", "size": 32, "optimiser": OPTIMISER, **changes})


@pytest.fixture(scope="module")
def miner(tmp_path_factory):
    """The checkpoint of a tiny descriptor."""
    path = tmp_path_factory.mktemp("miner") / "miner.safetensors"
    save(path, Descriptor.build("timm:test_efficientnet", size=32, dim=8).eval(), {})
    return str(path)


@pytest.fixture
def make_groups(drawn, miner):
    def make(**changes):
        arguments = {"groups": 2, "members": 3, "others": 2, "bank_side": 40, "held_out": 0.4, "held_out_batches": 1}
        mining = Mining(descriptor=miner, nearest=4, same=1.1)
        return PairGroups(str(drawn), **{**arguments, "mining": mining, "hardness": Growth(0.0, 0.5), **changes})

    return make


def make_batch(groups, *, hardness=0.5, seed=5):
    groups.setup("fit")
    groups.asked_side = 32
    draw = Draw(torch.tensor([0, 4]), torch.tensor([7, 8]), seed)
    return groups.make_pairs(groups.bank, draw, hardness=hardness)


def losses_of(module, data, make_trainer, steps, folder, *, stop_after=None, ckpt_path=None):
    from lightning.pytorch import Callback

    slices, found = Slices(folder), []

    class Keep(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            found.append(outputs["loss"].item())
            if trainer.global_step == stop_after:
                slices.interrupted = True

    make_trainer(steps, Keep(), slices).fit(module, datamodule=data, ckpt_path=ckpt_path)
    return found


@pytest.mark.parametrize("make_module", [make_fusion, make_concat])
def test_same_seed_same_losses_and_a_stopped_training_goes_on(make_module, make_groups, make_trainer, tmp_path):
    whole = losses_of(make_module(), make_groups(), make_trainer, 4, tmp_path / "whole")
    torch.rand(7)  # nothing may hang on the state of torch's own generator
    first = losses_of(make_module(), make_groups(), make_trainer, 4, tmp_path / "parts", stop_after=2)
    rest = losses_of(make_module(), make_groups(), make_trainer, 4, tmp_path / "parts", ckpt_path=tmp_path / "parts" / "last.ckpt")
    assert first + rest == whole and len(set(whole)) == 4


def test_validation_measures_held_out_pairs(make_groups, make_trainer):
    module, data = make_fusion(), make_groups()
    (found,) = make_trainer(1, limit_val_batches=1.0).validate(module, datamodule=data, verbose=False)
    assert {"val_verdict", "val_pair_ap", "val_pair_recall_at_p90"} <= set(found) and 0 <= found["val_pair_ap"] <= 1


def test_members_of_a_group_share_their_edit_and_are_all_paired(make_groups):
    batch = make_batch(make_groups())
    assert batch.edited.shape == batch.reference.shape == (6, 3, 32, 32)
    for group in (batch.frame[:3], batch.frame[3:], batch.visible[:3].float(), batch.visible[3:].float()):
        assert torch.equal(group, group[:1].expand_as(group))
    assert torch.equal(batch.label, (batch.source[batch.pairs[:, 0]] == batch.source[batch.pairs[:, 1]]).float())
    assert batch.label.sum() == 6 and len(batch.pairs) <= 2 * 9 + 6
    again = make_batch(make_groups())
    assert torch.equal(batch.edited, again.edited) and torch.equal(batch.source, again.source)
    assert not torch.equal(batch.edited, make_batch(make_groups(), seed=6).edited)


def test_neighbours_are_looked_for_anew_on_the_way(make_groups, make_trainer, miner, tmp_path):
    mining = Mining(descriptor=miner, nearest=4, same=1.1, refresh=1)
    data = make_groups(mining=mining, cache=str(tmp_path / "cache"), hardness=Growth(1.0, 1.0))
    make_trainer(3).fit(make_fusion(), datamodule=data)
    assert len(list((tmp_path / "cache").glob("neighbours-*.npy"))) == 3  # as they are, and edited twice


def test_all_pairs_of_groups_and_one_stranger_each():
    pairs = {tuple(pair) for pair in pairs_of(2, 2).tolist()}
    assert pairs == {(0, 0), (0, 1), (1, 0), (1, 1), (2, 2), (2, 3), (3, 2), (3, 3), (0, 2), (1, 3), (2, 0), (3, 1)}


def test_places_loss_is_that_of_single_patches(make_groups):
    batch = make_batch(make_groups())
    generator = torch.Generator().manual_seed(0)
    there, back = (torch.randn(len(batch.pairs), 4, 5, generator=generator).double() for _ in range(2))
    found = places_loss(Judgement(torch.zeros(len(batch.pairs)), there, back), batch, grid=2, all_labels=batch.label)
    truth = patch_targets(batch.frame, batch.visible, grid=2)
    copies, strangers = [], []
    for logits, target in zip((there, back), truth, strict=True):
        for (edited, _), label, table in zip(batch.pairs.tolist(), batch.label.tolist(), logits, strict=True):
            for patch in range(4):
                probability = [math.exp(value) / sum(map(math.exp, table[patch].tolist())) for value in table[patch].tolist()]
                shares = target[edited, patch].tolist() if label else [0, 0, 0, 0, 1]
                lost = -sum(share * math.log(p) for share, p in zip(shares, probability, strict=True))
                (copies if label else strangers).append(lost)
    expected = (sum(copies) / len(copies) + sum(strangers) / len(strangers)) / 2
    assert abs(float(found) - expected) < 1e-6


def test_verdict_is_unweighted_cross_entropy(make_groups):
    module, batch = make_concat(), make_batch(make_groups())
    logit = module(batch).logit
    expected = binary_cross_entropy_with_logits(logit, batch.label)
    mean = torch.stack(
        [-(y * p.sigmoid().log() + (1 - y) * (1 - p.sigmoid()).log()) for p, y in zip(logit, batch.label, strict=True)]
    ).mean()
    assert torch.allclose(expected, mean, atol=1e-6)


def test_too_few_photos_for_a_group_are_told(make_groups, miner):
    with pytest.raises(UsageError, match=r"data\.members 3 is more than"):
        make_batch(make_groups(mining=Mining(descriptor=miner, nearest=1)))
    with pytest.raises(UsageError, match="two groups of two members"):
        PairGroups("photos", members=1)


def test_frozen_modules_stay(make_groups, make_trainer):
    module = make_fusion(frozen=["conv_stem"])
    before = module.model.backbone.network.conv_stem.weight.clone()
    make_trainer(2).fit(module, datamodule=make_groups())
    assert torch.equal(before, module.model.backbone.network.conv_stem.weight)
