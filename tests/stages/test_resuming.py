"""A run that is stopped, and started again: nothing twice, the same bytes; and what is refused."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from matcher.errors import MatcherError, StaleStageError
from matcher.pipeline import run
from matcher.settings import Strategy
from matcher.stages.job import Job

DEFAULT = Strategy()
KEYPOINTS = ("--config", "run/keypoints.yaml")  # says nothing but the defaults

# The same command line as `python -m matcher`, with stages cut into many small parts.
START = """
import sys
from matcher.stages import describing, scoring, shortlisting

describing.SHARD, shortlisting.SHARD, scoring.SHARD = 2, 2, 4
from matcher.cli.main import main

sys.exit(main(sys.argv[1:]))
"""
HOLD = """
import sys, time
from pathlib import Path
from matcher.storage.lock import hold

lock = hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def start_run(library, output):
    places = ["--queries", library.queries, "--references", library.references, "--output", output]
    words = [sys.executable, "-c", START, "run", *KEYPOINTS, "--workers", "1", *map(str, places)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stop_at(process, part, sign):
    """Send the signal as soon as the file is there -> what the process said on stderr."""
    deadline = time.monotonic() + 120
    while not part.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(sign)
    return process.communicate(timeout=60)[1]


def parts_of(output):
    """Every finished part of every stage -> when it was written."""
    found = [path for path in output.rglob("*") if path.name.startswith("part-")]
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in found}


def test_killed_three_times_and_the_same_in_the_end(finished, library, tmp_path):
    output, kept = tmp_path / "out", {}
    for stage, sign in (("queries/keypoints", signal.SIGKILL), ("candidates", signal.SIGKILL), ("pair_scores", signal.SIGINT)):
        process = start_run(library, output)
        said = stop_at(process, output / stage / "part-00001.json", sign)
        if sign == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL
        else:
            assert process.returncode == 130 and "interrupted" in said and "Traceback" not in said
        assert not (output / "predictions.csv").exists()
        now = parts_of(output)
        assert kept.items() <= now.items()  # nothing was computed twice
        kept = {path: when for path, when in now.items() if path.with_suffix(".json").exists()}
    run(library.queries, library.references, output, job=Job(workers=1))
    assert kept.items() <= parts_of(output).items()
    for name in ("predictions.csv", "predictions.parquet"):
        assert (output / name).read_bytes() == (finished[0] / name).read_bytes()
    assert not list(output.rglob(".aside-*")) and not list(output.rglob(".lock"))


@pytest.fixture
def copy(finished, tmp_path):
    """A finished run's folder that may be changed."""
    shutil.copytree(finished[0], tmp_path / "out")
    return tmp_path / "out"


def test_a_finished_run_computes_nothing_again(copy, library):
    parts, bytes_before = parts_of(copy), (copy / "predictions.csv").read_bytes()
    index = [(path, path.stat().st_mtime_ns) for path in sorted((copy / "index").iterdir())]
    run(library.queries, library.references, copy)
    assert parts_of(copy) == parts
    assert [(path, path.stat().st_mtime_ns) for path in sorted((copy / "index").iterdir())] == index
    assert (copy / "predictions.csv").read_bytes() == bytes_before


@pytest.mark.parametrize("stage", ["queries/pictures", "queries/keypoints", "candidates", "pair_scores"])
def test_a_damaged_part_is_named_and_made_again_once_deleted(copy, library, small_shards, stage):
    part, bytes_before = copy / stage / "part-00001.parquet", (copy / "predictions.csv").read_bytes()
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    with small_shards():
        with pytest.raises(MatcherError, match=r"part-00001\.parquet is damaged: delete it"):
            run(library.queries, library.references, copy)
        part.unlink()
        run(library.queries, library.references, copy)
    assert (copy / "predictions.csv").read_bytes() == bytes_before


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--strategy.query_keypoints.keypoints=99", f"keypoints.keypoints: was {DEFAULT.query_keypoints.keypoints}, now 99"),
        ("--strategy.shortlist.per_query=2", f"shortlist.per_query: was {DEFAULT.shortlist.per_query}, now 2"),
        ("--strategy.scorers.sift.ratio=0.7", f"scorers.sift.ratio: was {DEFAULT.scorers.sift.ratio}, now 0.7"),
        ("--strategy.index.probes=1", f"(probes: was {DEFAULT.index.probes}, now 1)"),
    ],
)
def test_a_changed_config_is_refused_by_name(copy, library, command, flag, told):
    may_change = (".lock", "timings.json")
    files = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.name not in may_change}
    places = ("--queries", library.queries, "--references", library.references, "--output", copy)
    code, printed, complaint = command("run", *KEYPOINTS, *places, flag)
    assert code == 1 and printed == ""
    assert told in complaint and "--fresh" in complaint
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.name not in may_change} == files


def test_fresh_begins_anew(copy, library, small_shards):
    strategy = replace(DEFAULT, shortlist=replace(DEFAULT.shortlist, per_query=2, always=1))
    with small_shards():
        fewer = run(library.queries, library.references, copy, strategy=strategy, job=Job(fresh=True))
    parts = parts_of(copy)
    again = run(library.queries, library.references, copy, strategy=strategy)  # not refused: the new config is the folder's
    assert again.pairs == fewer.pairs <= 2 * fewer.queries + 3 and again.copies == len(library.truth)
    assert parts_of(copy) == parts


def test_a_fresh_run_that_fails_leaves_no_results_of_the_old_one(copy, library, tmp_path, command):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").write_text("no picture")
    (copy / "mine.txt").write_text("stays")
    places = ("--queries", library.queries, "--output", copy, "--quiet")
    code, _, complaint = command("run", *KEYPOINTS, *places, "--references", tmp_path / "bad", "--fresh")
    assert code == 1 and "none of the 1 references can be used" in complaint
    left = {path.name for path in copy.iterdir()}
    assert not left & {"predictions.csv", "predictions.parquet", "report.html", "errors.parquet", "fused.parquet", "config.yaml"}
    assert "mine.txt" in left and not list(copy.glob("candidates/part*")) and not list(copy.glob("pair_scores/part*"))
    code, _, complaint = command("run", *KEYPOINTS, *places, "--references", library.references, "--fresh")
    assert code == 0, complaint


def test_a_fresh_run_that_is_stopped_goes_on_without_fresh(copy, library, tmp_path, small_shards):
    fewer = tmp_path / "fewer"
    shutil.copytree(library.queries, fewer)
    next(iter(sorted(fewer.iterdir()))).unlink()
    process = subprocess.Popen(
        [sys.executable, "-c", START, "run", *KEYPOINTS, "--workers", "1", "--fresh"]
        + [str(word) for word in ("--queries", fewer, "--references", library.references, "--output", copy)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    (copy / "queries" / "keypoints" / "part-00001.parquet").unlink(missing_ok=True)
    told = stop_at(process, copy / "queries" / "keypoints" / "part-00001.parquet", signal.SIGINT)
    assert process.returncode == 130 and "the same command without --fresh goes on from there" in told
    with small_shards():
        assert run(fewer, library.references, copy).queries == len(list(fewer.iterdir()))


def test_damaged_timings_stop_nobody(copy, library, command):
    (copy / "timings.json").write_text('{"describe queries": 1.0, "describe ref')
    places = ("--queries", library.queries, "--references", library.references, "--output", copy)
    code, printed, complaint = command("run", *KEYPOINTS, *places)
    assert code == 0 and "timings.json is damaged: seconds are counted from now on" in complaint and "earlier sessions" not in printed
    assert "with all earlier sessions" in command("run", *KEYPOINTS, *places)[1]


def test_predictions_of_somebody_else_are_not_written_over(library, tmp_path, command):
    (tmp_path / "predictions.csv").write_text("mine")
    places = ("--queries", library.queries, "--references", library.references, "--output", tmp_path)
    code, _, complaint = command("run", *KEYPOINTS, *places)
    assert code == 1 and "holds predictions.csv that no run made: move them away" in complaint
    assert (tmp_path / "predictions.csv").read_text() == "mine"


def test_the_written_config_makes_the_same_run(copy, library, command):
    before = parts_of(copy)
    places = ("--queries", library.queries, "--references", library.references, "--output", copy)
    code, _, complaint = command("run", "--config", copy / "config.yaml", *places, "--quiet")
    assert code == 0, complaint
    assert parts_of(copy) == before


def test_changed_inputs_are_refused(finished, library, tmp_path):
    queries, output = tmp_path / "queries", tmp_path / "out"
    shutil.copytree(library.queries, queries)
    for file in list(queries.iterdir())[3:]:
        file.unlink()
    run(queries, library.references, output)
    before = (output / "predictions.csv").read_bytes()
    Image.new("RGB", (50, 50)).save(queries / "one more.png")
    with pytest.raises(StaleStageError, match=r"inputs\.images: was 3 pictures.*now 4 pictures"):
        run(queries, library.references, output)
    assert (output / "predictions.csv").read_bytes() == before
    assert run(queries, library.references, output, job=Job(fresh=True)).queries == 4
    os.utime(queries / "one more.png", ns=(1, 1))
    with pytest.raises(StaleStageError, match=r"inputs\.images"):
        run(queries, library.references, output)


def test_two_runs_on_one_output_are_refused(library, command, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(output)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        code, _, complaint = command("run", "--queries", library.queries, "--references", library.references, "--output", output)
        assert code == 1 and f"process {holder.pid} is working in {output}" in complaint
        assert sorted(path.name for path in output.iterdir()) == [".lock"]
    finally:
        holder.kill()
        holder.communicate()


def test_an_output_that_cannot_be_written(library, command, tmp_path):
    (tmp_path / "file").write_text("")
    places = ("--queries", library.queries, "--references", library.references)
    code, _, complaint = command("run", *places, "--output", tmp_path / "file")
    assert code == 1 and len(complaint.splitlines()) == 1 and "cannot make the folder" in complaint
    if os.geteuid() == 0:  # root may write everywhere but where the system has no files
        place = Path("/proc/self/fd")
    else:
        place = tmp_path / "shut"
        place.mkdir(mode=0o500)
    code, _, complaint = command("run", *places, "--output", place / "out")
    assert code == 1 and len(complaint.splitlines()) == 1 and str(place) in complaint
