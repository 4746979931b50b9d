"""Attacks stay within their budget and reach what they want of a model that is easy to fool; the whole runs on two pictures."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from matcher.errors import UsageError

FOLDER = Path(__file__).parents[2] / "experiments" / "attacks"
BUDGET = 4 / 255


@pytest.fixture(scope="module")
def script() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))  # as python does for a script
        yield runpy.run_path(str(FOLDER / "attack.py"))


@pytest.fixture
def pictures() -> list[torch.Tensor]:
    made = torch.Generator().manual_seed(0)
    return [torch.rand(3, 20, 30, generator=made), torch.rand(3, 24, 16, generator=made), torch.zeros(3, 9, 9), torch.ones(3, 9, 9)]


def brightness(pictures: Any) -> torch.Tensor:
    return torch.stack([picture.mean() for picture in pictures])


@pytest.mark.parametrize("way", ["gradient", "search"])
def test_a_picture_changes_by_its_budget_at_most_and_in_the_direction_asked(script, pictures, way):
    changed = script["change"](brightness, pictures, way, BUDGET, steps=5, tries=40, seed=0)
    for old, new in zip(pictures, changed, strict=True):
        assert old.shape == new.shape and new.min() >= 0 and new.max() <= 1 and (new - old).abs().max() <= BUDGET + 1e-6
    darker, brighter = brightness(changed)[:2] - brightness(pictures)[:2], brightness(changed)[2:] - brightness(pictures)[2:]
    assert (darker < 0).all() and brighter[0] > 0 and brighter[1] == 0  # white cannot get brighter


def test_the_gradient_reaches_the_edge_of_the_budget(script, pictures):
    grey = [picture * 0.5 + 0.25 for picture in pictures]
    changed = script["change"](brightness, grey, "gradient", BUDGET, steps=5, tries=1, seed=0)
    assert torch.allclose(brightness(changed) - brightness(grey), BUDGET * torch.tensor([-1.0, -1, 1, 1]), atol=1e-6)


def test_more_tries_are_never_worse(script, pictures):
    asked = {tries: script["change"](brightness, pictures, "search", BUDGET, steps=1, tries=tries, seed=3) for tries in (1, 10, 60)}
    found = [brightness(changed) * torch.tensor([-1.0, -1, 1, 1]) for changed in asked.values()]
    assert (found[1] >= found[0] - 1e-6).all() and (found[2][:2] > found[0][:2]).all()


@pytest.fixture
def benchmark(library, tmp_path):
    for side, names in (("queries", ("cropped", "horse")), ("references", ("astronaut", "coins"))):
        (tmp_path / side).mkdir()
        for name in names:
            (file,) = getattr(library, side).glob(f"{name}.*")
            shutil.copy(file, tmp_path / side)
    (tmp_path / "ground_truth.csv").write_text("query_id,reference_id\ncropped,astronaut\nhorse,\n")
    return tmp_path


def test_the_descriptor_is_fooled_and_keypoints_are_not(script, benchmark, tmp_path, capsys):
    out = tmp_path / "out"
    few = {"targets": ["descriptor"], "ways": ["gradient"], "budgets": [8], "count": 1, "steps": 5, "side": 120}
    script["attack"](str(benchmark), str(out), strategies=["run/keypoints.yaml"], **few)
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    header = ["attacked", "found by descriptor", "found by keypoints", "matched by descriptor", "matched by keypoints"]
    assert rows[0] == header and rows[2] == ["nobody", "1", "1", "0", "0"]
    assert rows[3] == ["descriptor, gradient, 8", "0", "1", "1", "0"] and (out / "results.json").exists()


def test_too_few_copies_are_told(script, benchmark):
    with pytest.raises(UsageError, match="has 1 copies and 1 strangers: make --count smaller"):
        script["choose"](benchmark, 2, 100)
