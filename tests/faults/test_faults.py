"""A few of the faults of experiments/reliability/faults.py; its own defaults are the long version."""

import pytest


@pytest.fixture(scope="module")
def bench(script, tmp_path_factory):
    return script("faults").make_bench(tmp_path_factory.mktemp("bench"))


def test_killed_at_random_moments(script, bench, tmp_path):
    row = script("faults").kills(bench, tmp_path, count=2, seed=1)
    assert row.tried == 2 and not row.lost


def test_two_runs_at_once(script, bench, tmp_path):
    row = script("faults").twice(bench, tmp_path)
    assert row.tried == 3 and not row.lost


def test_files_from_the_future(script, bench, tmp_path):
    assert not script("faults").clocks(bench, tmp_path).lost


def test_a_comparison_that_would_notice(script, bench, tmp_path):
    (tmp_path / "candidates").mkdir()
    assert not bench.same(tmp_path)
    assert not script("faults").is_clear("Traceback: x\nmatcher: error: KeyError: 'a' (unexpected; ...)", "a")
