"""Shards run on threads: nothing is computed twice, whatever ends a run, and the bytes depend on the work only."""

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import matcher
from matcher.engine.local import run_shards
from matcher.errors import MatcherError
from matcher.storage.stage import Stage
from matcher.types import Errors, PairScores


def begin(folder, items=20, items_per_shard=2):
    return Stage.open(folder, PairScores, config={}, inputs={}, items=items, items_per_shard=items_per_shard)


def square(items: range) -> PairScores:
    ids = [f"q{i}" for i in items]
    return PairScores(query_id=ids, reference_id=ids, frame=np.zeros((len(ids), 3, 3)), evidence={"square": np.square(items)})


class Calls:
    """Work that remembers which items it was asked for, and may fail at one of them."""

    def __init__(self, error: Exception | None = None, at: int = -1) -> None:
        self.error, self.at, self.seen, self.lock = error, at, [], threading.Lock()

    def __call__(self, items: range) -> PairScores:
        with self.lock:
            self.seen.append(items)
        if self.error and self.at in items:
            raise self.error
        return square(items)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name != ".lock"}


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_item_once_and_the_same_bytes(workers, tmp_path):
    work = Calls()
    run_shards(begin(tmp_path / "s"), work, workers=workers)
    assert sorted(i for items in work.seen for i in items) == list(range(20))
    assert Stage.load(tmp_path / "s", PairScores).read().evidence["square"].tolist() == [i * i for i in range(20)]
    stage = begin(tmp_path / "plain")
    for number in stage.pending():
        stage.write(number, square(stage.shard(number)))
    assert contents(tmp_path / "s") == contents(tmp_path / "plain")


def test_bad_items_and_extra_columns_are_written(tmp_path):
    def work(items):
        one = ["x"]
        errors = Errors(id=[f"e{items.start}"], path=one, stage=one, code=one, message=one)
        return square(items), errors, {"own": np.array(items)}

    stage = begin(tmp_path / "s", items=4)
    run_shards(stage, work, workers=2)
    assert stage.errors().id.tolist() == ["e0", "e2"] and stage.extra()["own"].to_pylist() == [0, 1, 2, 3]


def test_bad_items_without_extra_columns(tmp_path):
    stage = begin(tmp_path / "s", items=4)
    run_shards(stage, lambda items: (square(items), Errors.empty()), workers=2)
    assert stage.is_finished and len(stage.errors()) == 0


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("error", [MatcherError("the disk of pictures is gone"), ZeroDivisionError("oh")])
def test_after_an_exception_nothing_is_computed_twice(error, workers, tmp_path):
    stage = begin(tmp_path / "s")
    first, second = Calls(error, at=11), Calls()
    with pytest.raises(type(error), match=str(error)) as caught:
        run_shards(stage, first, workers=workers)
    assert caught.value is error and any("items 10 to 11" in note for note in error.__notes__)
    done = set(range(10)) - set(stage.pending())
    assert done == {items.start // 2 for items in first.seen} - {5} and len(done) >= 4
    run_shards(begin(tmp_path / "s"), second, workers=workers)
    assert sorted(i for items in second.seen for i in items) == sorted(i for n in range(10) if n not in done for i in stage.shard(n))
    run_shards(begin(tmp_path / "plain"), square)
    assert contents(tmp_path / "s") == contents(tmp_path / "plain")


def test_after_an_exception_nothing_more_is_begun(tmp_path):
    begun = []

    def work(items):
        begun.append(items.start)
        if items.start == 0:
            raise MatcherError("gone")
        time.sleep(0.5)
        return square(items)

    stage = begin(tmp_path / "s", items_per_shard=1)
    with pytest.raises(MatcherError, match="gone"):
        run_shards(stage, work, workers=2)
    assert 0 in begun and set(begun) <= {0, 1, 2}  # 3 was handed out but not begun
    assert set(stage.pending()) == set(range(20)) - set(begun) | {0}


def test_shards_in_flight_are_bounded(tmp_path):
    stage, flying, most = begin(tmp_path / "s", items=40, items_per_shard=1), [], []

    def work(items):
        flying.append(items)
        time.sleep(0.005)
        most.append(len(flying))
        flying.remove(items)
        return square(items)

    run_shards(stage, work, workers=3)
    assert 2 <= max(most) <= 3 and stage.is_finished


def test_finished_stage_does_no_work(tmp_path):
    run_shards(begin(tmp_path / "s"), square)
    run_shards(begin(tmp_path / "s"), Calls(AssertionError("computed again"), at=0))


def test_one_log_line_at_start_and_end(tmp_path, caplog, capfd):
    stage = begin(tmp_path / "s")
    stage.write(0, square(stage.shard(0)))
    with caplog.at_level(logging.INFO, "matcher"):
        run_shards(stage, square, workers=2, label="squares")
    first, last = caplog.messages
    assert first == "squares: 20 items, 2 done before"
    assert re.fullmatch(r"squares: 18 items done in [\d.]+ s, [\d.]+ items/s", last)
    assert capfd.readouterr().err == ""


SCRIPT = """
import sys, time
import numpy as np
from matcher.engine.local import run_shards
from matcher.storage.stage import Stage
from matcher.types import PairScores

folder, items_per_shard, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])

def work(items):
    for i in items:
        time.sleep(pause)
    ids = [f"q{i}" for i in items]
    frame = np.random.default_rng(items.start).normal(size=(len(ids), 3, 3))
    return PairScores(query_id=ids, reference_id=ids, frame=frame, evidence={"n": list(items)})

stage = Stage.open(folder, PairScores, config={}, inputs={}, items=int(sys.argv[4]), items_per_shard=items_per_shard)
print("go", flush=True)
try:
    run_shards(stage, work, workers=2)
except KeyboardInterrupt:
    sys.exit(130)
"""


def start(folder: Path, items_per_shard: int, pause: float, items: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(folder), str(items_per_shard), str(pause), str(items)]
    env = {**os.environ, "PYTHONPATH": str(Path(matcher.__file__).parents[1])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def wait_for_shards(folder: Path, count: int) -> None:
    end = time.monotonic() + 30
    while len(list(folder.glob("part-*.json"))) < count:
        assert time.monotonic() < end, "no shards appeared"
        time.sleep(0.01)


def finish(folder: Path, items_per_shard: int, items: int) -> None:
    process = start(folder, items_per_shard, 0, items)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


def test_killed_and_resumed_gives_the_bytes_of_an_undisturbed_run(tmp_path):
    process = start(tmp_path / "killed", 3, 0.02, 40)
    wait_for_shards(tmp_path / "killed", 3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "killed").glob("part-*.json")}
    assert 3 <= len(before) < 14
    finish(tmp_path / "killed", 3, 40)
    finish(tmp_path / "undisturbed", 3, 40)
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
    assert all((tmp_path / "killed" / name).stat().st_mtime_ns == then for name, then in before.items())
    assert not (tmp_path / "killed" / ".lock").exists()


def test_ctrl_c_keeps_finished_shards_and_leaves_at_once(tmp_path):
    process = start(tmp_path / "s", 100, 0.005, 1000)
    wait_for_shards(tmp_path / "s", 2)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and "Traceback" not in err, err
    assert time.monotonic() - begun < 18
    done = len(list((tmp_path / "s").glob("part-*.json")))
    assert 2 <= done < 10 and not list((tmp_path / "s").glob(".aside-*"))
    finish(tmp_path / "s", 100, 1000)
    assert len(Stage.load(tmp_path / "s", PairScores).read()) == 1000


def test_ctrl_c_abandons_long_shards(tmp_path):
    process = start(tmp_path / "s", 5000, 0.01, 10000)  # two shards of 50 s
    assert process.stdout is not None and process.stdout.readline() == "go\n"
    time.sleep(0.5)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and err == "" and time.monotonic() - begun < 18
    assert [name for name in os.listdir(tmp_path / "s") if name != ".lock"] == ["manifest.json"]
