from zipfile import ZipFile

import pytest
import torch
from torch import nn

from matcher.errors import MatcherError
from matcher.training.last_checkpoint import check_fits, check_whole
from matcher.training.model_training import parameter_groups
from matcher.training.slices import Slices

pytestmark = pytest.mark.filterwarnings("ignore")


def state_of(model):
    """What Lightning keeps of a model whose optimiser has made a step."""
    optimiser = torch.optim.AdamW(list(parameter_groups(model, 0.1)))
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimiser.step()
    kept = {"state_dict": model.state_dict(), "optimizer_states": [optimiser.state_dict()]}
    return {**kept, "global_step": 1, "pytorch-lightning_version": "2"}


@pytest.mark.parametrize(
    ("own", "example"),
    [
        (nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4)), "it lacks 1.weight and 1 more"),
        (nn.Sequential(nn.Linear(3, 4, bias=False)), "it holds 0.bias, which this model has not"),
        (nn.Sequential(nn.Linear(3, 5)), "its 0.weight is 4 x 3, here 5 x 3 and 1 more"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_with_an_example(own, example):
    with pytest.raises(MatcherError) as refused:
        check_fits(own, [], state_of(nn.Sequential(nn.Linear(3, 4))), "OUT/last.ckpt")
    said = str(refused.value)
    assert said.startswith(f"OUT/last.ckpt was made by another model or version ({example}): ") and "--fresh" in said and len(said) < 300


def test_an_optimiser_of_other_weights_is_refused_where_it_is_asked_for():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4))
    kept = state_of(model)
    check_fits(model, parameter_groups(model, 0.5), kept, "last.ckpt")
    model[0].requires_grad_(False)
    check_fits(model, [], kept, "last.ckpt")
    with pytest.raises(MatcherError, match=r"its optimiser moves 2 \+ 2 weights, here 1 \+ 1"):
        check_fits(model, parameter_groups(model, 0.5), kept, "last.ckpt")
    model.requires_grad_(True)
    kept["optimizer_states"][0]["state"][1]["exp_avg"] = torch.zeros(9)
    with pytest.raises(MatcherError, match="its optimiser's state 1 is of another shape"):
        check_fits(model, parameter_groups(model, 0.5), kept, "last.ckpt")
    with pytest.raises(MatcherError, match="it lacks the state of the optimiser"):
        check_fits(model, parameter_groups(model, 0.5), {**kept, "optimizer_states": []}, "last.ckpt")


def test_a_training_goes_on_with_its_own_model_only(make_module, make_data, make_trainer, tmp_path):
    make_trainer(1, Slices(tmp_path)).fit(make_module(), datamodule=make_data())
    with pytest.raises(MatcherError, match=r"last\.ckpt was made by another model or version \(its model\.head\.0\.weight is 8 x"):
        make_trainer(2).fit(make_module(dim=4), datamodule=make_data(), ckpt_path=tmp_path / "last.ckpt")


def test_what_is_no_checkpoint_of_a_training_is_refused(tmp_path):
    whole, cut, weights, other = (tmp_path / name for name in ("whole", "cut", "weights", "other"))
    torch.save(state_of(nn.Linear(3, 4)), whole)
    check_whole(whole)
    cut.write_bytes(whole.read_bytes()[:-100])
    torch.save(nn.Linear(3, 4).state_dict(), weights)
    with ZipFile(other, "w") as archive:
        archive.writestr("letter.txt", "dear reader")
    for path in (cut, weights, other):
        with pytest.raises(MatcherError, match="no checkpoint of a training"):
            check_whole(path)
    data = bytearray(whole.read_bytes())
    data[data.index(b"data.pkl") + 80] ^= 1
    whole.write_bytes(data)
    with pytest.raises(MatcherError, match="damaged"):
        check_whole(whole)
