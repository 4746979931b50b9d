"""The last.ckpt of a training, before its state is loaded: is it whole, and is it of this model?"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor

from matcher.errors import MatcherError

KEYS = frozenset({"state_dict", "global_step", "pytorch-lightning_version"})  # of every checkpoint that Lightning writes
REMEDY = "go on with the config and the version of matcher that made it, name another --output, or say --fresh to begin anew"


def check_whole(checkpoint: Path) -> None:
    """Checkpoint of a training -> nothing; MatcherError if a byte of it is not what was written, or if it is something else.

    Torch does not look at its checksums.
    """
    no = f"{checkpoint} is damaged or no checkpoint of a training"
    try:
        with ZipFile(checkpoint) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise MatcherError(f"{checkpoint} is damaged in {damaged}: copy it again, or say --fresh")
        saved = torch.load(checkpoint, map_location="cpu", mmap=True, weights_only=True)
    except (BadZipFile, EOFError, OSError, RuntimeError, ValueError, struct.error, zlib.error) as error:
        raise MatcherError(f"{no} ({error}): copy it again, or say --fresh") from error
    if not isinstance(saved, Mapping) or not saved.keys() >= KEYS:
        raise MatcherError(f"{no} (weights alone cannot be gone on from): name a last.ckpt, or say --fresh")


def check_fits(module: torch.nn.Module, groups: Iterable[Mapping[str, Any]], checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """A module, the groups of what its optimiser moves, the checkpoint read from ``path`` -> MatcherError if it is of another model.

    No groups = the optimiser is not asked for.
    """
    said = first_misfit(module.state_dict(), checkpoint["state_dict"]) or first_unmoved(list(groups), checkpoint.get("optimizer_states"))
    if said:
        raise MatcherError(f"{path} was made by another model or version ({said}): {REMEDY}")


def first_misfit(own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> str:
    """The weights of a model and those of a checkpoint -> an example of what differs; nothing if they fit."""
    if missing := [name for name in own if name not in saved]:
        return f"it lacks {missing[0]}{others(missing)}"
    if unknown := [name for name in saved if name not in own]:
        return f"it holds {unknown[0]}{others(unknown)}, which this model has not"
    if differing := [name for name in own if own[name].shape != saved[name].shape]:
        shapes = [" x ".join(map(str, weights[differing[0]].shape)) or "one number" for weights in (saved, own)]
        return f"its {differing[0]} is {shapes[0]}, here {shapes[1]}{others(differing)}"
    return ""


def first_unmoved(groups: list[Mapping[str, Any]], saved: list[dict[str, Any]] | None) -> str:
    """Groups of parameters and a checkpoint's optimiser states -> likewise."""
    if not groups:
        return ""
    if not saved:
        return "it lacks the state of the optimiser"
    here, there = [len(group["params"]) for group in groups], [len(group["params"]) for group in saved[0]["param_groups"]]
    if here != there:
        return f"its optimiser moves {' + '.join(map(str, there))} weights, here {' + '.join(map(str, here))}"
    moved = {number: moment for number, moment in saved[0]["state"].items() if "exp_avg" in moment}
    parameters = [parameter for group in groups for parameter in group["params"]]
    numbers = [number for group in saved[0]["param_groups"] for number in group["params"]]
    for number, parameter in zip(numbers, parameters, strict=True):
        if number in moved and moved[number]["exp_avg"].shape != parameter.shape:
            return f"its optimiser's state {number} is of another shape"
    return ""


def others(names: list[str]) -> str:
    return f" and {len(names) - 1:,} more" if len(names) > 1 else ""
