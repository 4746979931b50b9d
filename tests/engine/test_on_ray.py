"""Ray computes the same shards as threads do, to the same bytes, and survives workers that die."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import matcher
from matcher.engine.shards import run_shards
from matcher.errors import MatcherError
from matcher.settings import DescriptorSettings, Strategy
from matcher.stages.job import Job
from matcher.storage.records import read_record
from matcher.storage.stage import Stage
from matcher.types import Errors, PairScores

pytest.importorskip("ray")
STRATEGY = Strategy(descriptor=DescriptorSettings(backbone="gist"))


@pytest.fixture(scope="module")
def on_ray():
    """Ray with two workers, for all tests of this file."""
    from matcher.engine.on_ray import connected

    with connected(2):
        yield


@pytest.fixture
def few(library, tmp_path):
    """Folders of four queries, one of them broken, and of three references."""
    for side, names in (
        ("queries", ["cropped.jpg", "darker.jpg", "same bytes.png"]),
        ("references", ["astronaut.png", "brick.png", "coins.png"]),
    ):
        (tmp_path / side).mkdir()
        for name in names:
            shutil.copy(getattr(library, side) / name, tmp_path / side / name)
    (tmp_path / "queries" / "broken.jpg").write_bytes(b"no picture")
    return tmp_path / "queries", tmp_path / "references"


def begin(folder, items=12):
    return Stage.open(folder, PairScores, config={}, inputs={}, items=items, items_per_shard=2)


def make_work(marks=None, *, deaths=0, error=None):
    """Work on a shard, which travels whole; the third shard ends its worker so many times, or raises."""

    def work(items):
        if 4 in items and error is not None:
            raise error
        if 4 in items and len(list(marks.iterdir())) < deaths:
            (marks / f"{time.monotonic_ns()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        ids = [f"q{i}" for i in items]
        return PairScores(query_id=ids, reference_id=ids, frame=np.zeros((len(ids), 3, 3)), evidence={"square": np.square(items)})

    return work


def contents(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file() and p.name != ".lock"}


def stages_of(output):
    """Every stage file of a run, by its path."""
    names = ("*.parquet", "*.json", "*.csv")
    return {p.relative_to(output): p.read_bytes() for name in names for p in output.rglob(name) if p.name != "timings.json"}


def test_a_run_gives_the_bytes_of_the_local_engine_and_goes_on_with_its_work(on_ray, few, small_shards, tmp_path):
    from matcher.pipeline import run

    with small_shards():
        run(*few, tmp_path / "local", strategy=STRATEGY, job=Job(workers=1))
        shutil.copytree(tmp_path / "local", tmp_path / "ray")
        undone = [next((tmp_path / "ray").glob(f"{stage}/part-*.json")) for stage in ("queries/descriptors", "candidates", "pair_scores")]
        for path in (*undone, *(tmp_path / "ray" / "references" / "keypoints").glob("part-*.json")):
            path.unlink()
        kept = tmp_path / "ray" / "queries" / "keypoints" / "part-00000.parquet"
        before = kept.stat().st_mtime_ns
        run(*few, tmp_path / "ray", strategy=STRATEGY, job=Job(workers=2, engine="ray"))
        run(*few, tmp_path / "fresh", strategy=replace(STRATEGY, descriptor=None), job=Job(workers=2, engine="ray"))
        run(*few, tmp_path / "plain", strategy=replace(STRATEGY, descriptor=None), job=Job(workers=1))
    assert stages_of(tmp_path / "ray") == stages_of(tmp_path / "local") and kept.stat().st_mtime_ns == before
    assert stages_of(tmp_path / "fresh") == stages_of(tmp_path / "plain")
    assert read_record(tmp_path / "fresh" / "queries" / "errors.parquet", Errors).id.tolist() == ["broken"]


def test_a_shard_whose_worker_dies_is_computed_again(on_ray, tmp_path):
    (tmp_path / "marks").mkdir()
    run_shards(begin(tmp_path / "s"), make_work(tmp_path / "marks", deaths=1), engine="ray", label="squares")
    run_shards(begin(tmp_path / "plain"), make_work(tmp_path / "marks"))
    assert len(list((tmp_path / "marks").iterdir())) == 1 and contents(tmp_path / "s") == contents(tmp_path / "plain")


def test_a_shard_that_always_ends_its_worker_is_told(on_ray, tmp_path):
    (tmp_path / "marks").mkdir()
    stage = begin(tmp_path / "s", items=6)
    with pytest.raises(MatcherError, match=r"s: shard 2 \(items 4 to 5\) ended its worker of Ray 3 times"):
        run_shards(stage, make_work(tmp_path / "marks", deaths=9), engine="ray")
    assert stage.pending() == [2]


def test_an_exception_is_raised_as_it_is_and_finished_shards_stay(on_ray, tmp_path):
    stage = begin(tmp_path / "s", items=6)
    with pytest.raises(MatcherError, match="the disk of pictures is gone") as caught:
        run_shards(stage, make_work(error=MatcherError("the disk of pictures is gone")), engine="ray")
    assert caught.type is MatcherError and any("items 4 to 5" in note for note in caught.value.__notes__)
    assert stage.pending() == [2]


@pytest.mark.parametrize(
    ("machines", "one_each", "whole"),
    [
        ([{"CPU": 4.0}, {"CPU": 2.0}], (6, 1, 0), (2, 2, 0)),
        ([{"CPU": 8.0, "GPU": 2.0}, {"CPU": 6.0, "GPU": 1.0}, {"CPU": 64.0}], (14, 1, 1 / 6), (3, 4, 1)),
        ([{"memory": 1.0}], (1, 1, 0), (1, 1, 0)),
    ],
)
def test_workers_fit_the_machines(machines, one_each, whole):
    from matcher.engine.on_ray import share_out

    assert tuple(share_out(machines, whole=False)) == one_each and tuple(share_out(machines, whole=True)) == whole


def test_a_cluster_that_is_not_there_is_told(monkeypatch, tmp_path):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: (_ for _ in ()).throw(ConnectionError("no answer")))
    monkeypatch.setenv("RAY_ADDRESS", "nowhere:6379")
    with pytest.raises(MatcherError, match="cannot reach the cluster of RAY_ADDRESS=nowhere:6379: no answer"):
        run_shards(begin(tmp_path / "s"), make_work(), engine="ray")


SCRIPT = """
import json, sys, time
import numpy as np
import ray
from matcher.engine.shards import run_shards
from matcher.storage.stage import Stage
from matcher.types import PairScores

def work(items):
    time.sleep(0 if items.start < 4 else 60)
    ids = [f"q{i}" for i in items]
    return PairScores(query_id=ids, reference_id=ids, frame=np.zeros((len(ids), 3, 3)), evidence={"n": list(items)})

stage = Stage.open(sys.argv[1], PairScores, config={}, inputs={}, items=20, items_per_shard=2)
try:
    run_shards(stage, work, engine="ray", workers=2)
except KeyboardInterrupt:
    print(json.dumps(ray.is_initialized()))
    sys.exit(130)
"""


def test_ctrl_c_keeps_finished_shards_and_ends_ray(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(matcher.__file__).parents[1])}
    environment.pop("RAY_ADDRESS", None)
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path / "s")], stdout=subprocess.PIPE, text=True, env=environment)
    end = time.monotonic() + 60
    while len(list((tmp_path / "s").glob("part-*.json"))) < 2:
        assert time.monotonic() < end and process.poll() is None, "no shards appeared"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130 and json.loads(out) is False
    assert begin(tmp_path / "s", items=20).pending() == list(range(2, 10))
