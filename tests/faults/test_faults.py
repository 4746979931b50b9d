"""A few of the faults of experiments/reliability/faults.py; its own defaults are the long version."""

import pytest


@pytest.fixture(scope="module")
def bench(script, tmp_path_factory):
    return script("runs").make_bench(tmp_path_factory.mktemp("bench"))


@pytest.mark.parametrize("verb", ["kills", "killed_adds"])
def test_killed_at_a_random_moment(script, bench, tmp_path, verb):
    row = getattr(script("faults"), verb)(bench, tmp_path, count=1, seed=1)
    assert row.tried == 1 and not row.lost


def test_two_at_once(script, bench, tmp_path):
    row = script("faults").twice(bench, tmp_path)
    assert row.tried == 2 and not row.lost


def test_no_room_for_a_file(script, bench, tmp_path):
    code, said = bench.add(tmp_path / "added", limit=40_000)
    assert code == 1 and script("runs").is_clear(said, f"cannot write {tmp_path}/added/00000/")
    assert bench.add(tmp_path / "added") == (0, "")


def test_damaged_files(script, bench, tmp_path):
    for name, count in (("flipped_runs", 1), ("flipped_collections", 1), ("flipped_files", 3)):
        (tmp_path / name).mkdir()
        row = getattr(script("flips"), name)(bench, tmp_path / name, count=count, seed=2)
        assert row.tried >= count and not row.lost


def test_a_comparison_that_would_notice(script, bench, tmp_path):
    (tmp_path / "candidates").mkdir()
    assert not bench.same(tmp_path)
    assert not script("runs").is_clear("Traceback: x\nmatcher: error: KeyError: 'a' (unexpected; ...)", "a")
    found = script("flips").readers(bench.room)["done/fused.parquet"]
    assert found() == found() != script("flips").readers(bench.room)["done/predictions.parquet"]()
