"""The speed of pair models on a tiny ViT: every way is timed in every round, and the table says what was timed."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from matcher.errors import MatcherError, UsageError
from matcher.models import checkpoint
from matcher.models.descriptor import Descriptor
from matcher.models.token_fusion import TokenFusion

TINY: dict[str, Any] = {"backbone": "timm:test_vit", "size": 32, "depth": 4, "pairs": 2}


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    folder = Path(__file__).parents[2] / "experiments" / "benchmarks"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))  # as python does for a script
        return runpy.run_path(str(folder / "pair_speed.py"))


def save(model: torch.nn.Module, folder: Path) -> str:
    return str(checkpoint.save(folder / "a.safetensors", model, {})[0])


def test_every_way_has_its_row(script: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = save(TokenFusion.build("timm:test_vit", size=48, depth=5), tmp_path)
    threads = torch.get_num_threads()
    try:
        script["time_pairs"](shipped, **TINY, rounds=3, threads=1)
    finally:
        torch.set_num_threads(threads)
    said = capsys.readouterr().out
    assert "2 pairs at once, 1 threads" in said and "Medians over 3 rounds" in said
    rows = {
        cells[0]: cells
        for cells in ([cell.strip() for cell in line.split("|")[1:-1]] for line in said.splitlines() if "," in line)
        if cells
    }
    ways = [f"{title}, {kept}" for title in ("TokenFusion", shipped) for kept in ("cached tokens", "fresh views")]
    for way in [*ways, "ConcatViT, ready canvases", "ConcatViT, fresh views"]:
        assert float(rows[way][1]) > 0
    assert rows["ConcatViT, ready canvases"][2] == "1.00 (1.00 to 1.00)"


def test_rounds_are_interleaved_and_the_first_is_not_counted(script: dict[str, Any]) -> None:
    done: list[str] = []
    seconds = script["time_rounds"]({name: lambda name=name: done.append(name) for name in "abc"}, 3)
    assert "".join(done) == "abc" + "abc" + "bca" + "cab"
    assert {name: values.shape for name, values in seconds.items()} == dict.fromkeys("abc", (3,))


def test_ratios_are_taken_within_a_round(script: dict[str, Any]) -> None:
    rates = {"slow": np.array([1.0, 2, 10]), "fast": np.array([3.0, 6, 30])}  # a machine that others used meanwhile
    rows = script["render_rates"](rates, unit="slow").splitlines()
    assert rows[2:4] == ["| slow | 2.0 | 1.00 (1.00 to 1.00) |", "| fast | 6.0 | 3.00 (3.00 to 3.00) |"]


def test_interval_of_a_median(script: dict[str, Any]) -> None:
    low, middle, high = script["median_interval"](np.random.default_rng(0).normal(5, 1, 400))
    assert low < 5 < high and low < middle < high and 0.1 < high - low < 0.4  # 2 * 1.96 * 1.25 / 20 = 0.25


@pytest.mark.parametrize("more", [{"pairs": 0}, {"rounds": 0}, {"threads": 0}])
def test_wrong_requests_are_usage_errors(script: dict[str, Any], more: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="must be at least 1"):
        script["time_pairs"](**{**TINY, **more})


def test_a_descriptor_judges_no_pairs(script: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(MatcherError, match="holds a Descriptor, and a pair model is needed here"):
        script["time_pairs"](save(Descriptor.build("timm:test_vit", size=32, dim=4), tmp_path), **TINY)
