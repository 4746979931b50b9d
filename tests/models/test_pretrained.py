import json

import huggingface_hub
import pytest
import torch

from matcher.errors import MatcherError
from matcher.models import checkpoint
from matcher.models.descriptor import Descriptor
from matcher.settings import DescriptorSettings

CARD = {"data": "drawn", "licences": ["CC0"]}


@pytest.fixture
def model():
    return Descriptor.build("timm:test_vit", size=32, dim=12, pooling="cls").eval()


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "mine", card=CARD)
    return tmp_path / "mine"


def test_a_folder_gives_the_same_numbers(model, folder):
    batch = torch.rand(2, 3, 32, 32)
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors"]
    for loaded in (Descriptor.from_pretrained(folder), Descriptor.from_settings(DescriptorSettings(backbone=str(folder)))):
        assert torch.equal(loaded(batch), model(batch))
    config = json.loads((folder / "config.json").read_text())
    assert config["class"] == "Descriptor" and config["arguments"]["dim"] == 12 and config["licences"] == ["CC0"]


def test_the_card_goes_with_the_weights(folder, tmp_path):
    Descriptor.from_pretrained(folder).save_pretrained(tmp_path / "again", half=True)
    again = Descriptor.from_pretrained(tmp_path / "again")
    assert {key: again.card[key] for key in CARD} == CARD and again.card["half"]


def test_names_on_the_hub(model, folder, monkeypatch):
    asked = []

    def download(name, *, revision, allow_patterns):
        asked.append((name, revision))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    batch = torch.rand(1, 3, 32, 32)
    assert torch.equal(Descriptor.from_pretrained("someone/copies", revision="v1")(batch), model(batch)) and asked == [
        ("someone/copies", "v1")
    ]


def test_without_network_one_sentence(monkeypatch, tmp_path):
    def fail(*args, **kwargs):
        raise OSError("no network\nmany more lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(MatcherError, match=r"someone/copies is no folder.*no network") as caught:
        Descriptor.from_pretrained("someone/copies")
    assert "\n" not in str(caught.value)


def test_folders_that_do_not_fit_are_refused(model, folder, tmp_path):
    checkpoint.save(folder / "model.safetensors", Descriptor.build("timm:test_vit", size=32, dim=10, pooling="cls"), CARD)
    with pytest.raises(MatcherError, match="differ in arguments"):
        Descriptor.from_pretrained(folder)
    (folder / "config.json").unlink()
    with pytest.raises(MatcherError, match=r"no config\.json"):
        Descriptor.from_pretrained(folder)
    (tmp_path / "file").touch()
    with pytest.raises(MatcherError, match="cannot make folder"):
        model.save_pretrained(tmp_path / "file" / "inside")
