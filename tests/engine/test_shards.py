"""Which engine works is a matter of how, not of what; what it needs is asked for before anything begins."""

import multiprocessing
import pickle
from functools import partial

import pytest

from matcher.engine.once import Once
from matcher.engine.shards import processes_worth
from matcher.stages import job
from matcher.stages.job import Job
from matcher.storage.stage import Stage
from matcher.types import Pictures


def test_without_ray_one_line_says_what_to_install(monkeypatch, command, tmp_path):
    monkeypatch.setattr(job, "find_spec", lambda name: None)
    assert Job().engine == "local"
    code, out, err = command("run", "--queries", "q", "--references", "r", "--output", tmp_path / "out", "--engine", "ray")
    assert (code, out) == (2, "") and "the engine ray is not installed: pip install 'matcher[ray]'" in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_process_that_may_begin_no_others_works_on_threads(monkeypatch):
    class Many:
        def pending(self):
            return range(60)

    assert processes_worth(Many(), 2) == 2
    monkeypatch.setattr(multiprocessing.current_process(), "_config", {"daemon": True})
    assert processes_worth(Many(), 2) == 0


def test_what_is_made_once_travels_unmade():
    begun = Once(partial(list, "ab"))
    assert begun() == ["a", "b"] and begun() is begun()
    there = pickle.loads(pickle.dumps(begun))
    assert there.made == [] and there() == ["a", "b"] and there() is not begun()


def test_a_stage_in_another_process_has_no_lock(tmp_path):
    stage = Stage.open(tmp_path, Pictures, config={}, inputs={}, items=2, items_per_shard=1)
    there = pickle.loads(pickle.dumps(stage))
    assert there.lock is None and stage.lock is not None
    there.write(1, Pictures.empty())
    assert stage.pending() == [0]


def test_what_cannot_be_made_is_tried_again():
    tries = []

    def make():
        tries.append(1)
        if len(tries) == 1:
            raise OSError("no such file")
        return "made"

    once = Once(make)
    with pytest.raises(OSError, match="no such file"):
        once()
    assert once() == "made" and len(tries) == 2
