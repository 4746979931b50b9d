"""Scoring a shard of pairs as the pipeline does, against a loop that decodes, cuts and judges each pair by itself. See README.md."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from pair_speed import render_rates, time_rounds
from PIL import Image
from script import run_script

from matcher.engine.kernels import single_thread_here, single_threaded_kernels
from matcher.errors import UsageError
from matcher.geometry import identity
from matcher.images.decode import content_key, load
from matcher.images.table import read_images
from matcher.models.concat_vit import Canvas, ConcatViT
from matcher.models.pair_model import PairModel
from matcher.scoring.encoded_views import View
from matcher.scoring.pair_model import PairJudge, ViewPair, load_pair_model
from matcher.settings import ImageSettings, PairModelSettings
from matcher.stages.scoring import SHARD
from matcher.views.render import render

LIMITS = ImageSettings()
LOOP = "ConcatViT, pair by pair"


def compare_with_loop(
    model: str = "token_fusion/copydetect",
    *,
    photos: str | None = None,
    backbone: str = "timm:vit_tiny_patch16_224",
    size: int = 128,
    canvas: Canvas = "wide",
    queries: int = 6,
    candidates: int = 10,
    rounds: int = 7,
    threads: int = 1,
) -> None:
    """Time a pair model as the pipeline asks it, and a ConcatViT with random weights pair by pair, and print pairs per second.

    Args:
        model: checkpoint of the pair model
        photos: folder of pictures; null = drawn ones of 384 x 288 pixels, as JPEG
        backbone: the ViT of the loop
        size: side in pixels of its views
        canvas: of the loop
        queries: pictures asked about
        candidates: references that every query meets; they are the same ones for all
        rounds: each times every way once, and starts with the next one
        threads: of torch, in the loop; the pipeline has as many workers, which share out shards of pairs and compute on one thread each
    """
    if min(queries, candidates, rounds, threads) < 1:
        raise UsageError("queries, candidates, rounds and threads must be at least 1")
    with tempfile.TemporaryDirectory(prefix="pair_loop_") as folder:
        paths = (
            [Path(path) for path in read_images(photos, "photos")[0].path.tolist()] if photos else draw(Path(folder), queries + candidates)
        )
        if len(paths) < queries + candidates:
            raise UsageError(
                f"{photos} has {len(paths)} pictures, {queries} queries and {candidates} candidates need {queries + candidates}"
            )
        views = [View(str(path), content_key(path.read_bytes()), identity()) for path in paths[: queries + candidates]]
        pairs = [ViewPair(query, reference) for query in views[:queries] for reference in views[queries:]]
        loop = ConcatViT.build(backbone, size=size, canvas=canvas).eval()
        ours, settings = load_pair_model(PairModelSettings(model=model)), PairModelSettings(model=model)

        def judge_apart() -> None:
            torch.set_num_threads(threads)  # also for MKL, whose number the workers of the others may have changed
            judge_one_by_one(loop, pairs)

        def judge_together(judged: PairModel) -> None:
            judge = PairJudge(judged, made_by="timing", settings=settings, image_settings=LIMITS)
            shards = [[[pair] for pair in pairs[start : start + SHARD]] for start in range(0, len(pairs), SHARD)]
            with single_threaded_kernels(), ThreadPoolExecutor(threads, initializer=single_thread_here) as workers:
                list(workers.map(judge.judge, shards))

        work = {
            LOOP: judge_apart,
            "ConcatViT, by the pipeline": lambda: judge_together(loop),
            f"{model}, by the pipeline": lambda: judge_together(ours),
        }
        rates = {name: len(pairs) / seconds for name, seconds in time_rounds(work, rounds).items()}
    print(f"{queries} queries x {candidates} candidates from files, {threads} threads, load average {os.getloadavg()[0]:.1f}\n")
    print(render_rates(rates, unit=LOOP))


def judge_one_by_one(model: PairModel, pairs: Sequence[ViewPair]) -> list[float]:
    """Pairs -> their logits; both pictures of every pair are read, decoded and cut anew, and the model sees one pair at a time."""
    logits = []
    for pair in pairs:
        sides = [load(view.path, settings=LIMITS, at_least=2 * model.size) for view in (pair.query, pair.reference)]
        query, reference = (model.encode_views(render(side, identity(), (model.size, model.size))[None]) for side in sides)
        logits.append(float(model.judge_views(query, reference).logit[0]))
    return logits


def draw(folder: Path, count: int) -> list[Path]:
    """So many JPEG files of smooth random colours, 384 x 288 pixels."""
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        coarse = np.random.default_rng(number).integers(0, 256, (18, 24, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((384, 288), Image.Resampling.BICUBIC).save(path, quality=85)
    return paths


if __name__ == "__main__":
    raise SystemExit(run_script(compare_with_loop))
