"""How fast the models that ship describe, encode and judge, made ready in one way or another, side by side in one run. See README.md."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from pair_speed import Work, render_rates, time_rounds
from script import run_script
from torch import nn

from matcher.errors import UsageError
from matcher.models import checkpoint
from matcher.models.cards import find_model
from matcher.models.descriptor import Descriptor
from matcher.models.inference import fold_batch_norms, make_ready, turn
from matcher.models.pair_model import PairModel
from matcher.scoring.pair_model import ROOMS
from matcher.settings import DescriptorSettings

FOLDED = "batch norms folded"


def time_models(descriptor: str = "copydetect", model: str = "token_fusion/copydetect", *, batch: int = 8, rounds: int = 9) -> None:
    """Time both models on random views on one thread of the CPU, and print views and pairs per second of the processor's time.

    Args:
        descriptor: checkpoint of a descriptor
        model: checkpoint of a pair model
        batch: views, and pairs of them, at once
        rounds: each times every way once, and starts with the next one
    """
    if min(batch, rounds) < 1:
        raise UsageError(f"batch and rounds must be at least 1, got {batch} and {rounds}")
    torch.set_num_threads(1)

    def load_pairs() -> Any:
        return checkpoint.load(find_model(model, ROOMS))

    def judge(judged: Any) -> Callable[[], Any]:
        kept = judged.encode_views(views(batch, judged.size))
        return lambda: judged.judge_views(kept, kept)

    def load_descriptor() -> Any:
        return Descriptor.from_settings(DescriptorSettings(backbone=descriptor))

    tasks: dict[str, tuple[Callable[[], Any], Callable[[Any], Callable[[], Any]]]] = {
        "descriptor": (load_descriptor, lambda found: show(found.describe, batch, found.size)),
        "encode": (load_pairs, lambda found: show(found.encode_views, batch, found.size)),
        "judge": (load_pairs, judge),
    }
    for task, (load, act) in tasks.items():
        work: Work = {name: act(prepare(load())) for name, prepare in WAYS.items()}
        seconds = time_rounds(work, rounds, clock=time.process_time)
        print(f"{task}, {batch} at once, load average {os.getloadavg()[0]:.1f}\n")
        print(render_rates({name: batch / took for name, took in seconds.items()}, unit=FOLDED, what="/s") + "\n")


def views(count: int, size: int) -> np.ndarray:
    """Random views (count, size, size, 3) uint8."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def show(look: Callable[[np.ndarray], Any], count: int, size: int) -> Callable[[], Any]:
    """Something to do with views -> doing it with random ones."""
    pixels = views(count, size)
    return lambda: look(pixels)


def run_of(model: Any) -> Callable[[torch.Tensor], Any]:
    """Model -> what it does with pictures, as make_ready asks it."""
    return model.encode if isinstance(model, PairModel) else model


def fold(model: Any) -> Any:
    fold_batch_norms(model, lambda: run_of(model)(torch.zeros(1, 3, model.size, model.size)))
    return model.to(memory_format=torch.channels_last)


def fold_channels_first(model: Any) -> Any:
    """Folded, and every map channel by channel; pictures come pixel by pixel."""
    folded = fold(model).to(memory_format=torch.contiguous_format)
    first = next(module for module in folded.modules() if isinstance(module, nn.Conv2d))
    first.register_forward_pre_hook(lambda _, given: given[0].contiguous())
    return folded


def fold_and_turn(model: Any) -> Any:
    folded = fold(model)
    turn(folded, lambda: run_of(model)(torch.rand(1, 3, model.size, model.size)))
    return folded.to(memory_format=torch.channels_last)


def in_bfloat16(model: Any) -> Any:
    """Folded, its convolutions and matrices in bfloat16 (autocast)."""
    folded: nn.Module = fold(model)
    for name in ("forward", "encode", "judge"):
        if hasattr(folded, name):
            setattr(folded, name, torch.autocast("cpu", torch.bfloat16)(getattr(folded, name)))
    return folded


WAYS: dict[str, Callable[[Any], Any]] = {
    "as trained": lambda model: model,
    FOLDED: fold,
    "folded, channels first": fold_channels_first,
    "folded, bfloat16": in_bfloat16,
    "folded, turned": fold_and_turn,
    "ready: folded, turned, packed": lambda model: make_ready(model, run_of(model)),
}

if __name__ == "__main__":
    raise SystemExit(run_script(time_models))
