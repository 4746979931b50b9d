"""How many pairs a second the pair models judge on this machine, side by side in one run. See README.md beside this file."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from script import run_script

from matcher.errors import UsageError
from matcher.metrics.bootstrap import percentile_interval, resample_counts
from matcher.models.concat_vit import Canvas, ConcatViT
from matcher.models.pair_model import PairModel
from matcher.models.token_fusion import TokenFusion
from matcher.scoring.pair_model import load_pair_model
from matcher.settings import PairModelSettings

logger = logging.getLogger("matcher")

RESAMPLES = 1000
Work = dict[str, Callable[[], Any]]


def time_pairs(
    model: str | None = None,
    *,
    backbone: str = "timm:vit_tiny_patch16_224",
    size: int = 128,
    depth: int = 9,
    canvas: Canvas = "wide",
    pairs: int = 32,
    rounds: int = 20,
    threads: int | None = None,
) -> None:
    """Time TokenFusion (views in the cache, and fresh ones) and ConcatViT on one ViT with random weights, and print pairs per second.

    Args:
        model: checkpoint of a pair model that is timed too, as the pipeline runs it
        backbone: a ViT of timm; TokenFusion's joint blocks are those that its tower leaves over
        size: side in pixels of a view
        depth: blocks of the tower
        canvas: of ConcatViT; "wide" = views keep their size
        pairs: judged at once
        rounds: each times every way once, and starts with the next one
        threads: of torch; null = as many as it takes by itself
    """
    if pairs < 1 or rounds < 1 or (threads is not None and threads < 1):
        raise UsageError(f"pairs, rounds and threads must be at least 1, got {pairs}, {rounds} and {threads}")
    if threads is not None:
        torch.set_num_threads(threads)
    fusion = TokenFusion.build(backbone, size=size, depth=depth).eval()
    work = name_work(fusion, "TokenFusion", pairs) | name_work(
        ConcatViT.build(backbone, size=size, canvas=canvas).eval(), "ConcatViT", pairs
    )
    if model is not None:
        work |= name_work(load_pair_model(PairModelSettings(model=model)), model, pairs)
    rates = {name: pairs / seconds for name, seconds in time_rounds(work, rounds).items()}
    print(f"{backbone} at {size} pixels, {pairs} pairs at once, {torch.get_num_threads()} threads, load average {os.getloadavg()[0]:.1f}\n")
    print(render_rates(rates, unit="ConcatViT, ready canvases"))


def name_work(model: PairModel, title: str, pairs: int) -> Work:
    """Model -> what it does for so many pairs: with both views encoded before, and from their pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (2 * pairs, model.size, model.size, 3), dtype=np.uint8)
    ready = model.encode_views(pixels)

    def judge_fresh() -> None:
        encoded = model.encode_views(pixels)
        model.judge_views(encoded[:pairs], encoded[pairs:])

    kept = "cached tokens" if isinstance(model, TokenFusion) else "ready canvases"
    return {f"{title}, {kept}": lambda: model.judge_views(ready[:pairs], ready[pairs:]), f"{title}, fresh views": judge_fresh}


def time_rounds(work: Work, rounds: int, *, clock: Callable[[], float] = time.perf_counter) -> dict[str, np.ndarray]:
    """Ways of working -> seconds of each in each round (rounds,) by a clock, after one round that nobody counts."""
    for act in work.values():
        act()
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds):
        for name in rotate(list(work), number):
            started = clock()
            work[name]()
            seconds[name].append(clock() - started)
    return {name: np.array(values) for name, values in seconds.items()}


def rotate(names: list[str], number: int) -> Iterator[str]:
    """All names, from another one in each round."""
    start = number % len(names)
    yield from [*names[start:], *names[:start]]


def render_rates(rates: dict[str, np.ndarray], *, unit: str, what: str = "pairs/s") -> str:
    """``what`` of each way in each round -> a table of medians, and of medians of the ratio to ``unit`` in the same round."""
    lines = [f"| | {what} | times as fast as {unit} |", "| --- | ---: | ---: |"]
    for name, values in rates.items():
        low, middle, high = median_interval(values / rates[unit])
        lines.append(f"| {name} | {np.median(values):.1f} | {middle:.2f} ({low:.2f} to {high:.2f}) |")
    return "\n".join([*lines, f"\nMedians over {len(rates[unit])} rounds; in brackets 95 % intervals over resamples of the rounds."])


def median_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Numbers (N,) -> their median between the ends of its 95 % interval, by drawing them again with replacement."""
    drawn = np.concatenate(list(resample_counts(len(values), RESAMPLES, 0)))
    medians = np.array([np.median(np.repeat(values, counts)) for counts in drawn])
    found = percentile_interval(float(np.median(values)), medians)
    return found.low, found.value, found.high


if __name__ == "__main__":
    raise SystemExit(run_script(time_pairs))
