import copy

import pytest
import timm
import torch
from torch import nn

from matcher.errors import UsageError
from matcher.training.wave_block import WaveBlock, put_waves


def test_one_band_of_rows_stays_and_the_others_grow():
    torch.manual_seed(0)
    firsts = set()
    for _ in range(60):
        waved = WaveBlock()(torch.ones(2, 3, 10, 4))
        assert bool((waved == waved[:1, :1, :, :1]).all())  # the same rows of all maps
        kept = (waved[0, 0, :, 0] == 1.0).nonzero().flatten().tolist()
        assert kept == list(range(kept[0], kept[0] + 3))
        assert sorted(set(waved.flatten().tolist())) == [1.0, 1.5]
        firsts.add(kept[0])
    assert firsts == set(range(8))


def test_it_is_nothing_in_eval_mode():
    maps = torch.rand(2, 3, 10, 4)
    assert torch.equal(WaveBlock().eval()(maps), maps)


def test_it_is_put_after_stages_and_leaves_the_weights_their_names():
    network = timm.create_model("test_resnet", num_classes=0)
    plain = copy.deepcopy(network)
    names = list(network.state_dict())
    put_waves(network, ["layer2", "layer3"])
    pictures = torch.rand(2, 3, 64, 64)
    assert list(network.state_dict()) == names
    assert torch.equal(network.eval()(pictures), plain.eval()(pictures))
    torch.manual_seed(0)
    assert not torch.equal(network.train()(pictures), plain.train()(pictures))


def test_a_stage_that_rests_has_no_wave():
    network = nn.Sequential(nn.Identity())
    put_waves(network, ["0"])
    maps = torch.ones(1, 1, 10, 1)
    assert not torch.equal(network(maps), maps)
    network[0].eval()
    assert torch.equal(network(maps), maps)


def test_unknown_stage_is_told():
    with pytest.raises(UsageError, match="no stage 'layer9'; it has conv1, bn1"):
        put_waves(timm.create_model("test_resnet"), ["layer9"])
