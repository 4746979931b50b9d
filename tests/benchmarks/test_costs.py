"""Growth, the loop over pairs, indexes and stages, each on next to nothing: every row is there, and numbers are what they say."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from matcher.errors import UsageError

SCRIPTS = Path(__file__).parents[2] / "experiments" / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """A file of experiments/benchmarks, imported as its own command imports it, forgotten afterwards."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module
    for name in [name for name, module in sys.modules.items() if str(SCRIPTS) in (getattr(module, "__file__", None) or "")]:
        del sys.modules[name]


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """Three references, two queries (a copy of the last reference, and of nothing), two photos more."""
    folder = tmp_path / "bench"
    for side, count in (("references", 3), ("queries", 2), ("photos", 2)):
        (folder / side).mkdir(parents=True)
        for number in range(count):
            noise = np.random.default_rng([number, len(side)]).integers(0, 256, (12, 16, 3), dtype=np.uint8)
            Image.fromarray(noise).resize((160, 120)).save(folder / side / f"{side[0]}{number}.png")
    (folder / "photos" / "README.md").write_text("no picture")
    (folder / "ground_truth.csv").write_text("query_id,reference_id\nq0,r2\nq1,\n")
    return folder


def cells(table: str) -> dict[str, list[str]]:
    """A printed table -> the cells of each row by its first."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows[2:]}


def test_a_cut_benchmark_keeps_what_its_queries_show(script: Any, bench: Path, tmp_path: Path) -> None:
    growth, source = script("growth"), script("peers").Benchmark(bench)
    for size, kept in ((1, {"r2"}), (3, {"r0", "r1", "r2"}), (5, {"r0", "r1", "r2", "x3_p0", "x4_p1"})):
        folder = tmp_path / str(size)
        folder.mkdir()
        cut = growth.cut_down(source, folder, size=size, queries=2, more=growth.photos_beside(source, bench / "photos"))
        assert {path.stem for path in (cut.folder / "references").iterdir()} == kept
        assert (folder / "ground_truth.csv").read_text() == "query_id,reference_id\nq0,r2\nq1,\n"
    assert growth.photos_beside(source, bench) == growth.photos_beside(source, bench / "photos")
    with pytest.raises(UsageError, match=r"9 references are wanted and there are 3: give a folder of more as --photos"):
        growth.measure_growth(str(bench), sizes=[1, 9], methods=["opencv_sift"])


def test_growth_of_known_costs(script: Any) -> None:
    growth, peers, measure = script("growth"), script("peers"), script("measure")

    def run(seconds: float, mib: float, size: int) -> Any:
        return peers.Run(measure.Cost(seconds, seconds, mib, 0.0), None, size)

    runs = {("matcher", 100): [run(10, 50, 4000), run(12, 50, 4000), run(99, 50, 4000)], ("matcher", 10_000): [run(120, 149, 800_000)] * 3}
    rows = growth.render_growth(runs, queries=6).splitlines()
    first, second = ([cell.strip() for cell in line.split("|")[2:-1]] for line in rows[2:4])
    assert first == ["100", "12.0", "2.000", "-", "50", "-", "40"]
    assert second == ["10,000", "120.0", "20.000", "0.50", "149", f"{99 * 2**20 / 9900:,.0f}", "80"]


@pytest.mark.parametrize("wrong", [{"sizes": [5]}, {"sizes": [5, 3]}, {"sizes": [0, 3]}, {"queries": 0}])
def test_wrong_sizes_are_usage_errors(script: Any, bench: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="sizes must be two or more numbers that grow"):
        script("growth").measure_growth(str(bench), methods=["opencv_sift"], **wrong)


def test_runs_say_how_large_the_index_is(script: Any, bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peers = script("peers")

    def pretend(name: str, command: list[str], *, log: Path, folder: Path) -> Any:
        output = Path(command[command.index("--output") + 1])
        (output / "index").mkdir()
        (output / "index" / "rows").write_bytes(bytes(123))
        (output / "predictions.csv").write_text("query_id,reference_id,score\n")
        (output / "timings.json").write_text(json.dumps({"score": 1}))
        return SimpleNamespace()

    monkeypatch.setattr(peers, "measure", pretend)
    run = peers.run_method("matcher", peers.Benchmark(bench), tmp_path, tmp_path / "config", keep=False)
    assert run.index_bytes == 123 and run.stages == {"score": 1}


def test_the_loop_and_the_pipeline_judge_the_same_pairs(script: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from matcher.models import checkpoint
    from matcher.models.token_fusion import TokenFusion

    model = str(checkpoint.save(tmp_path / "a.safetensors", TokenFusion.build("timm:test_vit", size=48, depth=5), {})[0])
    loop = script("pair_loop")
    loop.compare_with_loop(model, backbone="timm:test_vit", size=32, queries=2, candidates=2, rounds=2)
    rows = cells(capsys.readouterr().out)
    assert rows["ConcatViT, pair by pair"][1] == "1.00 (1.00 to 1.00)" and len(rows) == 3
    assert all(float(row[0]) > 0 for row in rows.values())
    with pytest.raises(UsageError, match="has 2 pictures, 2 queries and 2 candidates need 4"):
        (tmp_path / "few").mkdir()
        loop.draw(tmp_path / "few", 2)
        (tmp_path / "few" / "README.md").write_text("no picture")
        loop.compare_with_loop(model, photos=str(tmp_path / "few"), backbone="timm:test_vit", size=32, queries=2, candidates=2)


def test_keypoints_are_found_in_three_ways(script: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    extraction = script("extraction")
    extraction.time_extraction(pictures=2, rounds=1, workers=1)
    rows = cells(capsys.readouterr().out)
    assert len(rows) == 3 and all(float(row[0]) > 0 for row in rows.values())
    assert extraction.read_grey(None, 2, side=64).shape == (2, 64, 85)
    with pytest.raises(UsageError, match="has 0 files, and 3 pictures"):
        extraction.time_extraction(photos=str(tmp_path), pictures=3)


def test_every_kind_of_index_is_timed(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    script("index_speed").compare_indexes(rows=700, asked=40, probes=(1, 4), rounds=1)
    rows = cells(capsys.readouterr().out)
    assert list(rows) == ["flat", "fp16", *(f"{kind}, {n} probes" for kind in ("ivf", "ivfpq", "binary") for n in (1, 4)), "words"]
    assert rows["flat"][3:] == ["1.00", "1.000"] and rows["fp16"][4] == "1.000"
    assert float(rows["ivf, 1 probes"][4]) <= float(rows["ivf, 4 probes"][4]) <= 1
    assert float(rows["fp16"][1]) < float(rows["flat"][1]) / 3


def test_floors_follow_from_work_and_peaks(script: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    stages = script("stages")
    made = [stages.Stage("a", "pair", 4e9, 1e6, lambda: None, 1), stages.Stage("b", "view", 1e6, 5e9, lambda: None, 2)]
    monkeypatch.setattr(stages, "keypoint_stages", lambda *_: made)
    monkeypatch.setattr(stages, "learned_stages", list)
    monkeypatch.setattr(stages, "peak_flops", lambda _: 2e9)
    monkeypatch.setattr(stages, "bandwidth", lambda _: 1e9)
    monkeypatch.setattr(stages, "time_rounds", lambda work, rounds: {"a": np.array([3.0, 4, 9]), "b": np.array([20.0, 20, 20])})
    stages.report_stages("anywhere")
    rows = cells(capsys.readouterr().out)
    assert rows["a"] == ["pair", "4,000.0", "1.00", "2000.000", f"{4e9 / 67e12 * 1e3:.5f}", "4000.00", "2.0"]
    assert rows["b"] == ["view", "1.0", "5,000.00", "5000.000", f"{5e9 / 3.35e12 * 1e3:.5f}", "10000.00", "2.0"]


def test_stages_of_keypoints_do_their_work(script: Any, bench: Path) -> None:
    found = script("stages").keypoint_stages(bench, 3, 2)
    assert [stage.name for stage in found] == ["decode", "keypoints", "votes", "nearest keypoints", "judge by keypoints, with that"]
    assert [stage.items for stage in found] == [3, 3, 2, 6, 6] and all(stage.flops > 0 and stage.bytes > 0 for stage in found)
    for stage in found:
        stage.work()
