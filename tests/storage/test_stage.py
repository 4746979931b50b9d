"""A stage is cut into shards once, each is done once, and another config, another process or a damaged part is refused."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import matcher
from matcher.errors import MatcherError, StaleStageError
from matcher.storage.stage import Stage
from matcher.types import Candidates, Errors, PairScores

CONFIG = {"sift": {"keypoints": 600, "short_side": 300}, "views": ["whole"]}
INPUTS = {"queries": "aaa", "references": "bbb"}


def begin(folder, *, config=CONFIG, inputs=INPUTS, items=5, items_per_shard=2, fresh=False):
    return Stage.open(folder, PairScores, config=config, inputs=inputs, items=items, items_per_shard=items_per_shard, fresh=fresh)


def scores(items, **evidence) -> PairScores:
    ids, frame = [f"q{i}" for i in items], np.full((len(items), 3, 3), np.nan)
    return PairScores(query_id=ids, reference_id=ids, frame=frame, evidence=evidence or {"inliers": np.array(items)})


def bad(*ids: str) -> Errors:
    return Errors(id=ids, path=ids, stage=["score"] * len(ids), code=["corrupt"] * len(ids), message=["m"] * len(ids))


def fill(stage) -> None:
    for number in stage.pending():
        stage.write(number, scores(stage.shard(number)))


def contents(folder) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name != ".lock"}


def test_shards_cover_all_items_and_come_back_in_order(tmp_path):
    stage = begin(tmp_path / "s")
    assert [stage.shard(n) for n in stage.pending()] == [range(0, 2), range(2, 4), range(4, 5)]
    for number in (2, 0, 1):
        assert not stage.is_finished
        stage.write(number, scores(stage.shard(number)), bad(f"e{number}") if number != 1 else Errors.empty())
    assert stage.is_finished and stage.pending() == []
    loaded = Stage.load(tmp_path / "s", PairScores)
    assert loaded.read().query_id.tolist() == ["q0", "q1", "q2", "q3", "q4"]
    assert loaded.read().evidence["inliers"].tolist() == [0, 1, 2, 3, 4]
    assert [len(part) for part in loaded.parts()] == [2, 2, 1]
    assert loaded.errors().id.tolist() == ["e0", "e2"]
    assert not (tmp_path / "s" / "errors-00001.parquet").exists()
    assert loaded.fingerprint == stage.fingerprint


def test_opening_again_goes_on_with_the_first_shards(tmp_path):
    stage = begin(tmp_path / "s")
    stage.write(1, scores(stage.shard(1)))
    again = begin(tmp_path / "s", items_per_shard=4)
    assert again.pending() == [0, 2] and again.shard(0) == range(0, 2)


def test_no_items_is_a_finished_stage(tmp_path):
    stage = begin(tmp_path / "s", items=0)
    assert stage.is_finished and len(stage.read()) == 0 and len(stage.errors()) == 0 and stage.extra().num_columns == 0


def test_the_users_columns_travel_along(tmp_path):
    stage = begin(tmp_path / "s")
    for number in stage.pending():
        items = stage.shard(number)
        stage.write(number, scores(items), None, {"label": np.array([f"00{i}" for i in items])})
    assert stage.extra()["label"].to_pylist() == ["000", "001", "002", "003", "004"]


def test_bytes_depend_on_the_work_only(tmp_path):
    for name in "ab":
        fill(begin(tmp_path / name))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert "manifest.json" in contents(tmp_path / "a") and len(contents(tmp_path / "a")) == 7


def test_fingerprint_follows_config_inputs_and_record(tmp_path):
    first = begin(tmp_path / "a")
    same = begin(tmp_path / "b", config=dict(reversed(CONFIG.items())), items_per_shard=3)
    others = [begin(tmp_path / "c", config={**CONFIG, "x": 1}), begin(tmp_path / "d", inputs={**INPUTS, "queries": "ccc"})]
    others.append(Stage.open(tmp_path / "e", Candidates, config=CONFIG, inputs=INPUTS, items=5, items_per_shard=2))
    assert first.fingerprint == same.fingerprint
    assert len({stage.fingerprint for stage in [first, *others]}) == 4


def test_other_config_and_inputs_are_refused_with_what_differs(tmp_path):
    fill(begin(tmp_path / "s"))
    before = contents(tmp_path / "s")
    config = {"sift": {"keypoints": 900, "short_side": 300}, "seed": None}
    with pytest.raises(StaleStageError) as caught:
        begin(tmp_path / "s", config=config, inputs={"queries": "ccc", "references": "bbb"})
    lines = [line.strip() for line in str(caught.value).splitlines()]
    assert "--fresh" in lines[0] and "--output" in lines[0] and str(tmp_path / "s") in lines[0]
    assert sorted(lines[1:]) == [
        "inputs.queries: was aaa, now ccc",
        "seed: was absent, now null",
        "sift.keypoints: was 600, now 900",
        'views: was ["whole"], now absent',
    ]
    assert contents(tmp_path / "s") == before


def test_of_long_values_that_part_is_told_which_differs(tmp_path):
    begin(tmp_path / "s", inputs={"queries": 80 * "a" + "whole" + 80 * "b"})
    with pytest.raises(StaleStageError) as caught:
        begin(tmp_path / "s", inputs={"queries": 80 * "a" + "halves" + 80 * "b"})
    told = str(caught.value).splitlines()[-1]
    assert "whole" in told and "halves" in told and "..." in told and len(told) < 200


def test_many_differences_are_cut_short(tmp_path):
    begin(tmp_path / "s", config={f"k{i}": "x" * 200 for i in range(9)})
    with pytest.raises(StaleStageError) as caught:
        begin(tmp_path / "s", config={f"k{i}": 1 for i in range(9)})
    lines = str(caught.value).splitlines()
    assert len(lines) == 7 and lines[-1].strip() == "and 4 more" and max(map(len, lines[1:])) < 90


def test_other_record_and_other_items_are_refused(tmp_path):
    begin(tmp_path / "s")
    with pytest.raises(StaleStageError, match="items: was 5, now 6"):
        begin(tmp_path / "s", items=6)
    with pytest.raises(StaleStageError, match="record: was PairScores, now Candidates"):
        Stage.open(tmp_path / "s", Candidates, config=CONFIG, inputs=INPUTS, items=5, items_per_shard=2)
    with pytest.raises(MatcherError, match="holds PairScores, not Candidates"):
        Stage.load(tmp_path / "s", Candidates)


def test_tuples_in_a_config_are_lists(tmp_path):
    begin(tmp_path / "s", config={"size_hw": (3, 4)})
    begin(tmp_path / "s", config={"size_hw": (3, 4)})


def test_fresh_removes_the_old_stage(tmp_path):
    stage = begin(tmp_path / "s")
    stage.write(0, scores(stage.shard(0)), bad("e"))
    again = begin(tmp_path / "s", config={"other": 1}, fresh=True)
    assert again.pending() == [0, 1, 2] and list(contents(tmp_path / "s")) == ["manifest.json"]


def test_fresh_leaves_foreign_files_alone(tmp_path):
    fill(begin(tmp_path / "s"))
    (tmp_path / "s" / "holiday.jpg").write_text("mine")
    before = contents(tmp_path / "s")
    with pytest.raises(MatcherError, match=r"holiday\.jpg, which no stage wrote"):
        begin(tmp_path / "s", fresh=True)
    assert contents(tmp_path / "s") == before


@pytest.mark.parametrize("fresh", [False, True])
def test_parts_that_no_stage_wrote_are_left_alone(fresh, tmp_path):
    (tmp_path / "part-00000.parquet").write_text("another tool's")
    with pytest.raises(MatcherError, match=r"part-00000\.parquet"):
        begin(tmp_path, fresh=fresh)
    (tmp_path / "manifest.json").write_text('{"another": "tool"}')
    with pytest.raises(MatcherError, match=r"manifest\.json is damaged or not a stage's"):
        begin(tmp_path, fresh=fresh)
    assert list(contents(tmp_path)) == ["manifest.json", "part-00000.parquet"]


def test_no_stage_is_begun_among_other_files(tmp_path):
    (tmp_path / "holiday.jpg").write_text("a picture")
    with pytest.raises(MatcherError, match=r"has no manifest\.json but holds holiday\.jpg: move them away, or choose another --output"):
        begin(tmp_path)
    assert list(contents(tmp_path)) == ["holiday.jpg"]


def test_load_refuses_what_is_not_there_or_not_finished(tmp_path):
    with pytest.raises(MatcherError, match="none is not there: give the folder that"):
        Stage.load(tmp_path / "none", PairScores)
    with pytest.raises(MatcherError, match="holds no stage"):
        Stage.load(tmp_path, PairScores)
    stage = begin(tmp_path / "s")
    stage.write(0, scores(stage.shard(0)))
    with pytest.raises(MatcherError, match="1 of 3 shards are done: run"):
        Stage.load(tmp_path / "s", PairScores)
    with pytest.raises(MatcherError, match="shard 1 is not done"):
        stage.read()


@pytest.mark.parametrize("name", ["part-00001.parquet", "errors-00001.parquet"])
@pytest.mark.parametrize("damage", [lambda data: data[:-5], lambda data: data[:60] + bytes([data[60] ^ 4]) + data[61:], lambda data: b""])
def test_damaged_part_is_refused_and_can_be_made_again(name, damage, tmp_path):
    stage = begin(tmp_path / "s")
    for number in stage.pending():
        stage.write(number, scores(stage.shard(number)), bad("e"))
    whole = contents(tmp_path / "s")
    (tmp_path / "s" / name).write_bytes(damage(whole[name]))
    with pytest.raises(MatcherError, match=f"{name} is damaged: delete it and run"):
        stage.read(), stage.errors()
    (tmp_path / "s" / name).unlink()
    again = begin(tmp_path / "s")
    assert again.pending() == [1]
    again.write(1, scores(again.shard(1)), bad("e"))
    assert contents(tmp_path / "s") == whole


def test_half_written_files_are_not_read_and_are_cleaned_up(tmp_path):
    stage = begin(tmp_path / "s")
    fill(stage)
    whole = contents(tmp_path / "s")
    (tmp_path / "s" / ".aside-0123456789abcdef.tmp").write_text("half")
    (tmp_path / "s" / "part-00002.json").unlink()  # killed after the part, before its sidecar
    (tmp_path / "s" / "errors-00002.parquet").write_text("of the attempt that was killed")
    assert begin(tmp_path / "s").pending() == [2]
    fill(stage)
    assert contents(tmp_path / "s") == whole


def test_wrong_record_is_a_mistake_of_the_caller(tmp_path):
    with pytest.raises(TypeError, match="holds PairScores, got Errors"):
        begin(tmp_path / "s").write(0, bad("e"))


def test_pairs_in_two_shards_are_named_on_reading(tmp_path):
    stage = begin(tmp_path / "s")
    for number in stage.pending():
        stage.write(number, scores(range(1)))
    with pytest.raises(MatcherError, match="more than one row with query_id q0, reference_id q0"):
        stage.read()


def test_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MatcherError, match=r"cannot make the folder .*file"):
        begin(tmp_path / "file")


OTHER = """
import sys
from matcher.storage.stage import Stage
from matcher.types import PairScores
from matcher.errors import MatcherError
try:
    stage = Stage.open(sys.argv[1], PairScores, config={}, inputs={}, items=1, items_per_shard=1)
except MatcherError as error:
    sys.exit(str(error))
print("locked", flush=True)
sys.stdin.read()
"""


def other(folder) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    env = {**os.environ, "PYTHONPATH": str(Path(matcher.__file__).parents[1])}
    return subprocess.Popen([sys.executable, "-c", OTHER, str(folder)], text=True, env=env, **pipes)


def test_one_process_at_a_time(tmp_path):
    stage = begin(tmp_path, config={}, inputs={}, items=1)
    assert begin(tmp_path, config={}, inputs={}, items=1).lock is stage.lock
    refused = other(tmp_path)
    assert f"process {os.getpid()} is working in {tmp_path}" in refused.communicate(timeout=30)[1]
    assert refused.returncode == 1
    fill(stage)
    Stage.load(tmp_path, PairScores)
    del stage
    gc.collect()
    assert not (tmp_path / ".lock").exists()
    holder = other(tmp_path)
    assert holder.stdout is not None and holder.stdout.readline() == "locked\n"
    try:
        with pytest.raises(MatcherError, match=f"process {holder.pid} is working in"):
            begin(tmp_path, config={}, inputs={}, items=1)
    finally:
        holder.kill()
        holder.communicate()
    begin(tmp_path, config={}, inputs={}, items=1)


def test_lock_is_taken_anew_in_a_folder_made_anew(tmp_path):
    stage = begin(tmp_path / "s")
    (tmp_path / "s").rename(tmp_path / "moved")
    again = begin(tmp_path / "s")
    assert again.lock is not stage.lock and (tmp_path / "s" / ".lock").exists()


def test_json_is_sorted(tmp_path):
    stage = begin(tmp_path / "s")
    fill(stage)
    for name in ("manifest.json", "part-00000.json"):
        text = (tmp_path / "s" / name).read_text()
        assert text == json.dumps(json.loads(text), sort_keys=True, indent=1) + "\n"
