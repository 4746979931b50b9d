"""Two processes share the shards of a stage: each is made once, and whatever ends a process is told in one line and ends the other."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import matcher
from matcher.storage.stage import Stage
from matcher.types import Errors

SCRIPT = """
import os
import sys
from functools import partial
from multiprocessing import get_context

from torch import distributed

from matcher.errors import MatcherError
from matcher.storage.stage import Stage
from matcher.training.shared_shards import SharedShards
from matcher.types import Errors


def work(what, rows):
    if what == "fails" and rows.start == 3:
        raise MatcherError("no item 3")
    if what == "dies" and rows.start == 3:
        os._exit(9)
    if what == "dies first" and rows.start == 6:
        os._exit(9)
    return Errors.of([(str(row), str(os.getpid()), "stage", "code", "") for row in rows])


def take_part(rank, room, what):
    distributed.init_process_group("gloo", init_method=f"file://{room}/{what}.meet", rank=rank, world_size=2)
    shared = SharedShards(2)
    try:
        if rank:
            shared.follow()
        elif what == "gives up":
            shared.dismiss()
        else:
            stage = Stage.open(f"{room}/{what}", Errors, config={}, inputs={}, items=14, items_per_shard=3)
            shared.lead(stage, partial(work, what), label="items")
    except MatcherError as error:
        sys.exit(f"{what}, {rank}: {error}")


forks = get_context("fork")
for what in ("works", "fails", "dies", "dies first", "gives up"):
    both = [forks.Process(target=take_part, args=(rank, sys.argv[1], what)) for rank in (0, 1)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    print(what, *(one.exitcode for one in both), flush=True)
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Folder of the stages, exit codes of both processes by what happens, and what was told."""
    room = tmp_path_factory.mktemp("shared")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(matcher.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(room)], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    codes = {line[:-4]: line[-3:] for line in done.stdout.splitlines()}
    return room, codes, [line for line in done.stderr.splitlines() if line.startswith(("works,", "fails,", "dies", "gives up,"))]


def test_each_shard_is_made_once(told):
    room, codes, _ = told
    found = Stage.load(room / "works", Errors).read()
    assert codes["works"] == "0 0" and found.id.tolist() == [str(row) for row in range(14)]
    makers = found.path[[0, 3, 6, 9, 12]]
    assert len(set(makers.tolist())) == 2 and (makers[[0, 2, 4]] == makers[0]).all() and makers[1] == makers[3]
    assert (np.repeat(makers, 3)[:14] == found.path).all()


def test_the_first_one_tells_what_failed_in_another(told):
    room, codes, lines = told
    assert codes["fails"] == "1 0"
    (line,) = [line for line in lines if line.startswith("fails")]
    assert line.startswith("fails, 0: no item 3 in ") and line.endswith("shard 1 (items 3 to 5), process 1")
    assert not (room / "fails" / "part-00001.json").exists() and (room / "fails" / "part-00004.json").exists()


@pytest.mark.parametrize(("what", "codes", "left"), [("dies", "1 9", "0"), ("dies first", "9 1", "1")])
def test_one_that_dies_ends_the_other(told, what, codes, left):
    room, found, lines = told
    assert found[what] == codes
    (line,) = [line for line in lines if line.startswith(f"{what}, ")]
    assert line == f"{what}, {left}: another process than number {left} has ended before its work was done: start the same command again"
    assert all((room / what / f"part-0000{shard}.json").exists() for shard in ((0, 2, 4) if left == "0" else (1, 3)))


def test_none_waits_for_one_that_gives_up(told):
    assert told[1]["gives up"] == "0 0"
