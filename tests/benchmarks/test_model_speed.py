"""The speed of models made ready in one way or another, on tiny ones: every way is timed for every task."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from matcher.errors import UsageError
from matcher.models import checkpoint
from matcher.models.descriptor import Descriptor
from matcher.models.token_fusion import TokenFusion

FOLDER = Path(__file__).parents[2] / "experiments" / "benchmarks"


def test_every_way_of_every_task_has_its_row(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))  # as python does for a script
    script = runpy.run_path(str(FOLDER / "model_speed.py"))
    models = {
        "descriptor": Descriptor.build("timm:tf_efficientnet_lite0", size=32, dim=8),
        "pairs": TokenFusion.build("timm:tf_efficientnet_lite0", size=32, depth=2, width=12, joint=1),
    }
    files = [str(checkpoint.save(tmp_path / f"{name}.safetensors", model, {})[0]) for name, model in models.items()]
    threads = torch.get_num_threads()
    try:
        script["time_models"](*files, batch=1, rounds=1)
        with pytest.raises(UsageError, match="at least 1"):
            script["time_models"](*files, rounds=0)
    finally:
        torch.set_num_threads(threads)
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("| ") and "---" not in line]
    told = [cells[0].strip() for cells in rows if cells[0].strip()]
    assert told == 3 * list(script["WAYS"])
    assert all(float(cells[1]) > 0 for cells in rows if cells[0].strip())
