"""Processes compute the same shards as threads do, to the same bytes, end when they should, and may die."""

import os
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest

import matcher
from matcher.engine import processes, shards
from matcher.engine.shards import run_shards
from matcher.errors import MatcherError
from matcher.pipeline import run
from matcher.stages.job import Job
from matcher.storage.records import read_record
from matcher.storage.stage import Stage
from matcher.training.processes import end_children
from matcher.types import Errors, PairScores


@pytest.fixture(scope="module", autouse=True)
def none_left():
    yield
    processes.begin(1).shutdown(wait=True, kill_workers=True)


def begin(folder, items=36, items_per_shard=2):
    return Stage.open(folder, PairScores, config={}, inputs={}, items=items, items_per_shard=items_per_shard)


def make_work(marks=None, *, deaths=0, error=None):
    """Work on a shard; the third one ends its process so many times, or raises. The processes leave their numbers in ``marks``."""

    def work(items):
        if 4 in items and error is not None:
            raise error
        if 4 in items and deaths and len(list(marks.glob("dead-*"))) < deaths:
            (marks / f"dead-{time.monotonic_ns()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if marks is not None:
            (marks / f"{os.getpid()}").touch()
        ids = [f"q{i}" for i in items]
        return PairScores(query_id=ids, reference_id=ids, frame=np.zeros((len(ids), 3, 3)), evidence={"square": np.square(items)})

    return work


@pytest.fixture
def marks(tmp_path):
    (tmp_path / "marks").mkdir()
    return tmp_path / "marks"


def contents(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name != ".lock"}


def test_processes_give_the_bytes_of_threads(tmp_path, marks):
    run_shards(begin(tmp_path / "apart"), make_work(marks), apart=True, workers=3)
    run_shards(begin(tmp_path / "here"), make_work(), workers=2)
    assert contents(tmp_path / "apart") == contents(tmp_path / "here")
    workers = {int(path.name) for path in marks.iterdir()}
    assert os.getpid() not in workers and 1 <= len(workers) <= 3
    run_shards(begin(tmp_path / "apart"), make_work(error=AssertionError("computed again")), apart=True, workers=3)


def test_they_stay_for_the_next_stage(tmp_path, marks):
    for name in ("first", "second"):
        run_shards(begin(tmp_path / name), make_work(marks), apart=True, workers=3)
    assert len(list(marks.iterdir())) <= 3


def test_a_process_stays_though_what_it_holds_grows(tmp_path, marks):
    plain = make_work(marks)

    def work(items):
        time.sleep(0.6)  # loky looks at most once a second
        vars(np).setdefault("held", []).append(np.ones(13_000_000))  # 104 MB, in that process alone
        return plain(items)

    processes.begin(1).shutdown(wait=True, kill_workers=True)
    try:
        processes.run_shards(begin(tmp_path / "stage", items=5, items_per_shard=1), work, workers=1)
    finally:
        processes.begin(1).shutdown(wait=True, kill_workers=True)
    assert len(list(marks.iterdir())) == 1


APART = {"apart": True, "workers": 3}


@pytest.mark.parametrize(
    ("items", "more"), [(20, APART), (24, APART | {"apart": False}), (24, APART | {"workers": 1}), (24, APART | {"whole": True})]
)
def test_little_work_and_work_that_must_stay_is_done_here(items, more, tmp_path, marks):
    run_shards(begin(tmp_path / "s", items), make_work(marks), **(APART | more))
    assert [path.name for path in marks.iterdir()] == [str(os.getpid())]


def test_as_many_processes_as_there_is_work_for(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "available_cores", lambda: 16)
    stage = begin(tmp_path / "s", items=100)
    assert shards.processes_worth(stage, 0) == 50 // shards.PROCESS_SHARDS and shards.processes_worth(stage, 3) == 3


def test_a_shard_whose_process_dies_is_computed_again(tmp_path, marks):
    run_shards(begin(tmp_path / "s"), make_work(marks, deaths=2), apart=True, workers=3)
    run_shards(begin(tmp_path / "plain"), make_work())
    assert len(list(marks.glob("dead-*"))) == 2 and contents(tmp_path / "s") == contents(tmp_path / "plain")


def test_a_shard_that_always_ends_its_process_is_told(tmp_path, marks):
    stage = begin(tmp_path / "s")
    with pytest.raises(MatcherError, match=r"s: shard \d+ \(items \d+ to \d+\), or one beside it, ended its process 3 times"):
        run_shards(stage, make_work(marks, deaths=99), apart=True, workers=3)
    assert 2 in stage.pending() and not list((tmp_path / "s").glob(".aside-*"))


def test_a_whole_run_gives_the_same_bytes(library, small_shards, tmp_path, monkeypatch):
    for side, names in (
        ("queries", ["cropped.jpg", "darker.jpg", "same bytes.png", "re-saved.jpg"]),
        ("references", ["astronaut.png", "brick.png", "coins.png", "retina.png"]),
    ):
        (tmp_path / side).mkdir()
        for name in names:
            shutil.copy(getattr(library, side) / name, tmp_path / side / name)
    (tmp_path / "queries" / "broken.jpg").write_bytes(b"no picture")
    places = tmp_path / "queries", tmp_path / "references"
    begun = []
    real = processes.run_shards
    with small_shards():
        run(*places, tmp_path / "here", job=Job(workers=1))
        monkeypatch.setattr(
            processes, "run_shards", lambda stage, *args, **more: (begun.append(stage.folder.name), real(stage, *args, **more))
        )
        monkeypatch.setattr(shards, "PROCESS_SHARDS", 1)
        run(*places, tmp_path / "apart", job=Job(workers=2))
    assert begun == ["keypoints", "keypoints", "candidates", "pair_scores"]
    assert stages_of(tmp_path / "apart") == stages_of(tmp_path / "here")
    assert read_record(tmp_path / "apart" / "errors.parquet", Errors).id.tolist() == ["broken"]


def stages_of(output):
    """Every stage file of a run, by its path."""
    names = ("*.parquet", "*.json", "*.csv")
    return {p.relative_to(output): p.read_bytes() for name in names for p in output.rglob(name) if p.name != "timings.json"}


@pytest.mark.parametrize("error", [MatcherError("the disk of pictures is gone"), ZeroDivisionError("oh")])
def test_an_exception_is_raised_as_it_is_and_finished_shards_stay(error, tmp_path):
    stage = begin(tmp_path / "s")
    with pytest.raises(type(error), match=str(error)) as caught:
        run_shards(stage, make_work(error=error), apart=True, workers=3)
    assert any("items 4 to 5" in note for note in caught.value.__notes__)
    assert 2 in stage.pending() and not list((tmp_path / "s").glob(".aside-*"))
    run_shards(begin(tmp_path / "s"), make_work(), apart=True, workers=3)
    assert begin(tmp_path / "s").is_finished


SCRIPT = """
import sys, time
import numpy as np
from matcher.engine.shards import run_shards
from matcher.storage.stage import Stage
from matcher.types import Errors, PairScores

def work(items):
    time.sleep(0 if items.start < 8 else 60)
    ids = [f"q{i}" for i in items]
    return PairScores(query_id=ids, reference_id=ids, frame=np.zeros((len(ids), 3, 3)), evidence={"n": list(items)})

stage = Stage.open(sys.argv[1], PairScores, config={}, inputs={}, items=36, items_per_shard=2)
try:
    run_shards(stage, work, apart=True, workers=3)
except KeyboardInterrupt:
    sys.exit(130)
"""  # no guard: a user's script may have none either


def start(folder: Path) -> subprocess.Popen[str]:
    """A process that has done four shards, and its workers are in long ones; Ctrl-C reaches them all, as in a terminal."""
    env = {**os.environ, "PYTHONPATH": str(Path(matcher.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)], stderr=subprocess.PIPE, text=True, env=env, process_group=0)
    end = time.monotonic() + 60
    while len(list(folder.glob("part-*.json"))) < 4:
        assert time.monotonic() < end and process.poll() is None, "no shards appeared"
        time.sleep(0.02)
    time.sleep(0.3)
    return process


def group_of(process: subprocess.Popen[str]) -> list[str]:
    """What runs in its group, itself left out."""
    listed = subprocess.run(["ps", "-eo", "pgid=,pid=,stat=,args="], capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [line.split(None, 3) for line in listed]
    return [row[3] for row in rows if int(row[0]) == process.pid != int(row[1]) and "Z" not in row[2]]


def gone(process: subprocess.Popen[str], within: float) -> bool:
    end = time.monotonic() + within
    while group_of(process) and time.monotonic() < end:
        time.sleep(0.05)
    return not group_of(process)


def test_ctrl_c_keeps_finished_shards_and_ends_the_processes(tmp_path):
    process = start(tmp_path / "s")
    assert len(group_of(process)) >= 2
    begun = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and err == "" and time.monotonic() - begun < 18
    assert gone(process, 5) and begin(tmp_path / "s").pending() == list(range(4, 18))
    assert not list((tmp_path / "s").glob(".aside-*"))


def test_when_it_is_killed_its_processes_end(tmp_path):
    process = start(tmp_path / "s")
    process.kill()
    process.wait()
    assert gone(process, 10 * processes.LOOK + 5), group_of(process)
    assert begin(tmp_path / "s").pending() == list(range(4, 18)) and not list((tmp_path / "s").glob(".aside-*"))


def test_another_number_of_processes_when_those_before_have_just_died():
    for workers in (3, 1, 2):
        crew = processes.begin(workers)
        assert crew.submit(os.getpid).result(60) in [child.pid for child in active_children()]
        end_children()
