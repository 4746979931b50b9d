"""What each stage must compute and move for one item, the floors that follow, and what it takes here. See docs/performance.md."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from pair_speed import time_rounds
from script import run_script
from table import render_rows
from torch.utils.flop_counter import FlopCounterMode

from matcher.describe import load_model
from matcher.errors import UsageError
from matcher.features import FeatureSet, describe_pictures
from matcher.images.decode import decode, load, read_bytes
from matcher.images.table import read_images
from matcher.index import Index
from matcher.models import checkpoint
from matcher.models.cards import find_model
from matcher.models.descriptor import Descriptor
from matcher.models.gradients import SIDE, TURN_SIDE
from matcher.models.sift import extract
from matcher.scoring import sift
from matcher.scoring.nearest import nearest_two
from matcher.scoring.pair_model import ROOMS, load_pair_model
from matcher.settings import DescriptorSettings, PairModelSettings, Strategy
from matcher.shortlist.votes import vote

H100_FLOPS, H100_BYTES = 67e12, 3.35e12  # a second: float32 outside the tensor cores, memory; from its data sheet
AT_ONCE = 32  # views, and pairs of them, that the models are given
A_PIXEL, LAYERS = 93, 36  # of a pyramid: smoothing, sampling, gradients, their products and sums, maxima; layers that are read or written
A_SAMPLE, A_NEIGHBOUR = 299, 16  # under a descriptor: its place, four projections, 16 cells twice; around a corner: length, direction, bin


class Stage(NamedTuple):
    """A stage: its name, what one item is, operations and bytes that it must spend on it, the work, and items in that."""

    name: str
    item: str
    flops: float
    bytes: float
    work: Callable[[], Any]
    items: int


def report_stages(benchmark: str, *, references: int = 40, queries: int = 8, rounds: int = 7) -> None:
    """Time every stage on one thread with a few pictures of a benchmark, and print its cost beside its floors.

    Args:
        benchmark: folder with queries/ and references/
        references: so many of them, the first ones
        queries: likewise
        rounds: each times every stage once, and starts with the next one; times are medians
    """
    if min(references, queries, rounds) < 1:
        raise UsageError("references, queries and rounds must be at least 1")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    stages = [*keypoint_stages(Path(benchmark), references, queries), *learned_stages()]
    flops, speed = peak_flops(rounds), bandwidth(rounds)
    seconds = time_rounds({stage.name: stage.work for stage in stages}, rounds)
    table = [["", "one", "MFLOP", "MB", "floor ms", "floor ms, H100", "measured ms", "times the floor"]]
    for name, item, work, moved, _, items in stages:
        took, floor = float(np.median(seconds[name])) / items, max(work / flops, moved / speed)
        there = max(work / H100_FLOPS, moved / H100_BYTES)
        cells = f"{work / 1e6:,.1f}", f"{moved / 1e6:,.2f}", f"{floor * 1e3:.3f}", f"{there * 1e3:.5f}", f"{took * 1e3:.2f}"
        table.append([name, item, *cells, f"{took / floor:.1f}"])
    print(render_rows(table))
    print(f"\nOne thread: {flops / 1e9:.0f} GFLOP/s (product of matrices), {speed / 1e9:.1f} GB/s (copy). Load {os.getloadavg()[0]:.1f}.")


def keypoint_stages(folder: Path, references: int, queries: int) -> list[Stage]:
    """The stages of run/keypoints.yaml on the first pictures of a benchmark."""
    strategy = Strategy()
    assert strategy.scorers.sift is not None
    judged, limits = strategy.scorers.sift, strategy.images
    chosen = [
        read_images(folder / side, side, on_error="skip")[0].take(slice(count))
        for side, count in (("references", references), ("queries", queries))
    ]
    library, asked = (
        FeatureSet(*describe_pictures(images, settings, image_settings=limits, stage="")[:2])
        for images, settings in zip(chosen, (strategy.reference_keypoints, strategy.query_keypoints), strict=True)
    )
    paths = chosen[0].path.tolist()
    files = [read_bytes(path, settings=limits) for path in paths]
    pictures = [load(path, settings=limits) for path in paths]
    pixels = float(np.mean([picture.size for picture in pictures]))
    index = Index.build(library.keypoints.rows, np.arange(len(library.keypoints)), strategy.index, made_by="timing")
    lists = round(2 * len(library.keypoints) ** 0.5)
    here, there = len(asked.keypoints) / len(asked), len(library.keypoints) / len(library)
    looked = 2 * min(here, strategy.shortlist.keypoints) * (lists + strategy.index.probes * len(library.keypoints) / lists)
    sides = [(query, [library.features(n) for n in range(len(library))]) for query in map(asked.features, range(len(asked)))]
    images = {side: [load(path, settings=limits) for path in images.path.tolist()] for side, images in zip("rq", chosen, strict=True)}

    def verify() -> None:
        for n, (query, others) in enumerate(sides):
            for m, near in enumerate(nearest_two(query, others)):
                sift.judge(query, others[m], near, (lambda n=n: images["q"][n], lambda m=m: images["r"][m]), judged)

    short = strategy.reference_keypoints.short_side
    area = float(np.mean([short**2 * max(p.shape[:2]) / min(p.shape[:2]) for p in pictures]))
    pyramid = 2 * area  # pixels of all levels, each half of the one before
    pairs, product = len(asked) * len(library), 4 * here * there * 64
    return [
        Stage(
            "decode",
            "reference",
            10 * pixels,
            pixels + float(np.mean(list(map(len, files)))),
            lambda: each(files, decode, limits),
            len(files),
        ),
        Stage(
            "keypoints",
            "reference",
            pyramid * A_PIXEL + there * (SIDE**2 * A_SAMPLE + TURN_SIDE**2 * A_NEIGHBOUR),
            pyramid * 4 * LAYERS + there * 4 * (SIDE**2 + TURN_SIDE**2),
            lambda: [extract(picture, strategy.reference_keypoints) for picture in pictures],
            len(pictures),
        ),
        Stage(
            "votes",
            "query",
            looked * 256,
            looked * 128,
            lambda: [vote(query, library, index, strategy.shortlist) for query, _ in sides],
            len(sides),
        ),
        Stage("nearest keypoints", "pair", product, 128 * (here + there), lambda: [nearest_two(*side) for side in sides], pairs),
        Stage("judge by keypoints, with that", "pair", product, 128 * (here + there), verify, pairs),
    ]


def each(files: list[bytes], work: Callable[..., Any], limits: Any) -> None:
    for data in files:
        work(data, settings=limits)


def learned_stages() -> list[Stage]:
    """The stages that run/full.yaml adds, with the weights that ship; operations are counted while the models run as they were trained."""
    described_by, judged_by = DescriptorSettings(backbone="copydetect"), PairModelSettings(model="token_fusion/copydetect")
    descriptor, model = load_model(described_by), load_pair_model(judged_by)
    plain_descriptor, plain_model = Descriptor.from_settings(described_by), checkpoint.load(find_model(judged_by.model, ROOMS))
    rng = np.random.default_rng(0)
    views = rng.integers(0, 256, (AT_ONCE, descriptor.size, descriptor.size, 3), dtype=np.uint8)
    sides = rng.integers(0, 256, (AT_ONCE, model.size, model.size, 3), dtype=np.uint8)
    kept = model.encode_views(sides)
    calls: dict[str, tuple[str, Any, Any, Callable[[Any], Any], int]] = {
        "descriptor": ("view", descriptor, plain_descriptor, lambda network: network.describe(views), views[0].nbytes),
        "pair model, encode": ("view", model, plain_model, lambda network: network.encode_views(sides), sides[0].nbytes + kept[0].nbytes),
        "pair model, judge": ("pair", model, plain_model, lambda network: network.judge_views(kept, kept[::-1]), 2 * kept[0].nbytes),
    }
    found = []
    for name, (item, network, plain, work, moved) in calls.items():
        with FlopCounterMode(display=False) as counter:
            work(plain)
        weights = sum(parameter.nbytes for parameter in plain.parameters())
        flops = counter.get_total_flops() / AT_ONCE
        found.append(Stage(name, item, flops, moved + weights / AT_ONCE, partial(work, network), AT_ONCE))
    return found


def peak_flops(rounds: int) -> float:
    """Operations a second of a product of two float32 matrices (1024, 1024) on one thread."""
    matrix = torch.rand(1024, 1024)
    return 2 * 1024**3 / float(np.min(time_rounds({"product": lambda: matrix @ matrix}, rounds)["product"]))


def bandwidth(rounds: int) -> float:
    """Bytes a second, read and written, of copying 128 MiB on one thread."""
    source, target = np.ones(2**24), np.empty(2**24)
    return 2 * source.nbytes / float(np.min(time_rounds({"copy": lambda: np.copyto(target, source)}, rounds)["copy"]))


if __name__ == "__main__":
    raise SystemExit(run_script(report_stages))
