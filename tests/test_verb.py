"""What a program gives to verbs is looked at, and their folders are let go however they end."""

import json
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from matcher import compare, read_strategy, run, synthesize
from matcher.errors import ImageError, MatcherError, UsageError
from matcher.pipeline import describe
from matcher.settings import Budget, DescriptorSettings, IndexSettings, Scorers, ShortlistSettings, Strategy, SubImageSettings
from matcher.settings.descriptors import NearestViews
from matcher.stages.job import Job
from matcher.storage.lock import hold, working
from matcher.verb import verb


@verb
def worked(folder, *, strategy=Strategy(), job=Job(), seed=0):
    lock = hold(folder)
    return lock.still_holds()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"strategy": "run/full.yaml"}, r"strategy must be a Strategy, not 'run/full.yaml': give Strategy\(...\) or read_strategy"),
        ({"strategy": None}, "strategy must be a Strategy, not None"),
        ({"job": {"workers": 1}}, r"job must be a Job, not \{'workers': 1\}: give Job\(...\)"),
        ({"job": Job(on_error="Raise")}, "job.on_error must be 'skip' or 'raise', not 'Raise'"),  # type: ignore[arg-type]
        ({"strategy": Strategy(index=IndexSettings(kind="IVFPQ"))}, "strategy.index.kind must be 'flat' or .* not 'IVFPQ'"),  # type: ignore[arg-type]
        ({"strategy": Strategy(answers=1.5)}, r"strategy.answers must be int or None, not 1.5 \(float\)"),  # type: ignore[arg-type]
        ({"strategy": Strategy(answers=True)}, r"strategy.answers must be int or None, not True \(bool\)"),
        ({"strategy": Strategy(budget=Budget(pairs_per_query=np.int64(2)))}, r"strategy.budget.pairs_per_query must be int or None"),
        (
            {"strategy": Strategy(scorers=Scorers(sub_image=SubImageSettings(combine="two-closest")))},  # type: ignore[arg-type]
            "strategy.scorers.sub_image.combine must be 'closest' or",
        ),
        (
            {"strategy": Strategy(descriptor=DescriptorSettings(backbone="gist", query_views=("whole",)))},  # type: ignore[arg-type]
            r"strategy.descriptor.query_views must be a list of str, not \('whole',\) \(tuple\)",
        ),
        (
            {"strategy": Strategy(shortlist=ShortlistSettings(descriptor=[NearestViews(query=[1])]))},  # type: ignore[list-item]
            r"strategy.shortlist.descriptor\[0\].query\[0\] must be str, not 1 \(int\)",
        ),
        ({"seed": -1}, "seed must be at least 0, not -1"),
    ],
)
def test_settings_of_another_kind_are_refused_before_any_work(tmp_path, given, told):
    with pytest.raises(UsageError, match=told):
        worked(tmp_path, **given)
    assert worked(tmp_path, strategy=Strategy(answers=2), job=Job(workers=1))


def test_all_strategies_that_ship_are_of_their_kinds(tmp_path):
    for name in ("full", "keypoints", "d2lv", "separate", "imgfp", "copynce", "sscd", "visionforce"):
        assert worked(tmp_path, strategy=read_strategy([f"run/{name}.yaml"]))


def test_folders_are_let_go_even_if_the_error_is_kept(tmp_path, library):
    bad = tmp_path / "queries"
    bad.mkdir()
    (bad / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(40))
    with pytest.raises(ImageError) as kept:
        run(bad, library.references, tmp_path / "out", job=Job(workers=1, on_error="raise"))
    assert kept.tb is not None and kept.value.code in str(kept.value) and str(kept.value).count("cut.jpg") == 1
    assert not list(tmp_path.rglob(".lock"))


def test_another_thread_is_kept_out_and_a_block_within_is_not(tmp_path):
    told = []

    def other():
        try:
            worked(tmp_path)
        except MatcherError as error:
            told.append(str(error))

    with working():
        first = hold(tmp_path)
        assert worked(tmp_path) and hold(tmp_path) is first and first.still_holds()  # of the same task
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert told == [f"another thread of this process is working in {tmp_path}: wait until it ends, or choose another output"]
    assert not (tmp_path / ".lock").exists()
    assert worked(tmp_path)


def test_a_program_without_stderr_can_work(tmp_path, library, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    describe(library.references, tmp_path / "described", job=Job(workers=1))


def test_summaries_are_plain(tmp_path, library):
    one = next(iter(sorted(library.references.glob("*.png"))))
    told = json.loads(json.dumps(compare(one, one).as_dict()))
    assert np.array(told["frame"]).shape == (3, 3) and told["probability"] > 0.9
    made = synthesize(library.references, tmp_path / "made", queries=2)
    assert json.loads(json.dumps(made.as_dict()))["positives"] == made.positives


def test_a_strategy_is_read_from_one_part_too(tmp_path):
    (tmp_path / "mine.yaml").write_text("strategy: {answers: 1}")
    assert read_strategy("run/full.yaml") == read_strategy(["run/full.yaml"])
    assert read_strategy(tmp_path / "mine.yaml") == read_strategy([tmp_path / "mine.yaml"]) == read_strategy({"answers": 1})
    with pytest.raises(UsageError, match=r"a strategy is read from files and mappings, not from Strategy\("):
        read_strategy([Strategy()])  # type: ignore[list-item]


def test_a_path_of_the_home_folder_is_that_folder(tmp_path, monkeypatch):
    """From a program, or a --output=~/x that no shell spells out, as text and as a Path; a file of that very name goes before."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "~odd").mkdir()

    @verb
    def given(*places, output=None):
        return [*places, output]

    assert given("~/runs", Path("~/new"), "~odd", "a~b", 3, output="~") == [
        f"{tmp_path}/runs", tmp_path / "new", "~odd", "a~b", 3, str(tmp_path)
    ]  # fmt: skip
    assert Job(cache="~/runs").cache_folder == tmp_path / "runs"
