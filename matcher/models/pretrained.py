"""Models in the folders of the ecosystem: config.json beside model.safetensors, here or in a repository on the hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from torch import nn

from matcher.errors import MatcherError
from matcher.models import checkpoint
from matcher.models.cards import CARD_KEYS, PRETRAINED, is_pretrained, read_card
from matcher.storage.aside import read_json, write_json


def save(folder: str | Path, model: nn.Module, card: Mapping[str, Any], *, half: bool = False) -> None:
    """Model and card -> a folder that ``find`` knows, and that can be uploaded to the hub as it is."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MatcherError(f"cannot make folder {folder}: {error.strerror or error}") from error
    checkpoint.save(folder / PRETRAINED, model, card, half=half, split_at=None)
    write_json(folder / "config.json", make_config(read_card(folder / PRETRAINED)))


def make_config(header: Mapping[str, Any]) -> dict[str, Any]:
    """Header of a checkpoint -> config.json: how the model is made, and its card."""
    return {"library_name": "matcher", **{key: header.get(key) for key in ("class", "arguments", "preprocessing", *CARD_KEYS)}}


def find(name: str | Path, *, revision: str | None = None) -> Path:
    """Folder, or USER/NAME on the hub (or in its local cache) -> path of the checkpoint in it.

    MatcherError if there is none, or config.json and the checkpoint say different things.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = fetch(str(name), revision)
    if not is_pretrained(folder):
        raise MatcherError(f"{folder} has no config.json that save_pretrained of matcher wrote")
    config, told = read_json(folder / "config.json"), make_config(read_card(folder / PRETRAINED))
    if differing := sorted(key for key in told if config.get(key) != told[key]):
        raise MatcherError(f"config.json and {PRETRAINED} in {folder} differ in {differing[0]}: they come from different savings")
    return folder / PRETRAINED


def fetch(name: str, revision: str | None) -> Path:
    """USER/NAME on the hub -> folder in the local cache."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=["config.json", "model*.safetensors"]))
    except Exception as error:  # of the network, the cache, the hub or the name
        first = (str(error).strip().splitlines() or [""])[0][:200]
        raise MatcherError(f"{name} is no folder, and could not be had from the hub ({type(error).__name__}: {first})") from error


class Publishable:
    """A model of KINDS that is saved and loaded as repositories on the hub are.

    Attributes:
        card: the header of the checkpoint that it was loaded from; empty if there was none
    """

    card: Mapping[str, Any] = {}

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None) -> Self:
        """Folder that ``save_pretrained`` wrote, or the name of such a repository on the hub (USER/NAME) -> model in eval mode."""
        model = checkpoint.load(find(name, revision=revision), kind=cls.__name__)
        assert isinstance(model, cls)
        return model

    def save_pretrained(self, folder: str | Path, *, card: Mapping[str, Any] | None = None, half: bool = False) -> None:
        """Write config.json and model.safetensors, as repositories on the hub have them. ``card``: null = that of the loaded checkpoint."""
        assert isinstance(self, nn.Module)
        known = {key: self.card[key] for key in CARD_KEYS if key in self.card}
        save(folder, self, known if card is None else card, half=half)
