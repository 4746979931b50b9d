"""Keypoints of pictures by a pool of CPU threads, of either kind, and by kornia's SIFT on the device. See README.md beside this file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from pair_loop import draw
from pair_speed import Work, render_rates, time_rounds
from script import run_script
from threadpoolctl import threadpool_limits

from matcher.errors import UsageError
from matcher.images.decode import load
from matcher.models.sift import extract
from matcher.settings import ImageSettings, SiftSettings


def time_extraction(*, photos: str | None = None, pictures: int = 24, rounds: int = 5, workers: int | None = None) -> None:
    """Time the three ways on grey pictures of one size that lie in memory, and print pictures per second.

    Args:
        photos: folder of pictures; null = drawn ones
        pictures: how many
        rounds: each times every way once, and starts with the next one
        workers: threads of the pool, and of torch on a CPU; null = one for each core
    """
    workers = os.cpu_count() or 1 if workers is None else workers
    if min(pictures, rounds, workers) < 1:
        raise UsageError("pictures, rounds and workers must be at least 1")
    settings = SiftSettings()
    grey = read_grey(photos, pictures, side=settings.short_side)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(workers)
    cv2.setNumThreads(1)  # the pool has one picture on each thread
    with ThreadPoolExecutor(workers) as pool:

        def by_pool(asked: SiftSettings) -> None:
            with threadpool_limits(limits=1):  # numpy's products too, as in the engine
                list(pool.map(lambda picture: extract(picture, asked), grey))

        unit = f"OpenCV's SIFT, {workers} threads"
        work: Work = {
            unit: lambda: by_pool(replace(settings, kind="sift")),
            f"corners, {workers} threads": lambda: by_pool(settings),
            f"kornia's SIFT, {device}": kornia_sift(grey, settings.keypoints, device),
        }
        rates = {name: pictures / seconds for name, seconds in time_rounds(work, rounds).items()}
    what = f"{pictures} pictures of {grey.shape[2]} x {grey.shape[1]}, {settings.keypoints} keypoints each"
    print(f"{what}, load average {os.getloadavg()[0]:.1f}\n")
    print(render_rates(rates, unit=unit, what="pictures/s"))


def read_grey(photos: str | None, count: int, *, side: int) -> np.ndarray:
    """Grey pictures (count, side, 4/3 side) uint8, of a folder or drawn."""
    with tempfile.TemporaryDirectory(prefix="extraction_") as folder:
        paths = sorted(p for p in Path(photos).rglob("*") if p.is_file())[:count] if photos else draw(Path(folder), count)
        if len(paths) < count:
            raise UsageError(f"{photos} has {len(paths)} files, and {count} pictures are asked for")
        coloured = [load(str(path), settings=ImageSettings()) for path in paths]
    return np.stack(
        [cv2.resize(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), (side * 4 // 3, side), interpolation=cv2.INTER_AREA) for p in coloured]
    )


def kornia_sift(grey: np.ndarray, keypoints: int, device: torch.device) -> Callable[[], None]:
    """Grey pictures (N, H, W) -> what finds and describes the keypoints of each in turn (it takes one at a time) and brings them back."""
    from kornia.feature import SIFTFeature

    sift = SIFTFeature(keypoints, device=device).eval()

    @torch.inference_mode()
    def act() -> None:
        for picture in grey:
            for told in sift(torch.from_numpy(picture).to(device)[None, None].float() / 255):
                told.cpu()

    return act


if __name__ == "__main__":
    raise SystemExit(run_script(time_extraction))
