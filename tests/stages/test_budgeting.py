"""A budget cuts candidates fairly, and what a pace allows is measured once."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from matcher.errors import UsageError
from matcher.pipeline import run
from matcher.settings import Budget, ShortlistSettings, Strategy
from matcher.stages import budgeting
from matcher.stages.shortlisting import cut
from matcher.storage.stage import Stage
from matcher.types import Candidates, PairScores

MANY = Strategy(shortlist=ShortlistSettings(per_query=4, always=4))


def candidates(*sources):
    count = len(sources)
    frames = np.broadcast_to(np.eye(3), (count, 3, 3))
    ids = {"query_id": ["q"] * count, "reference_id": [f"r{n}" for n in range(count)]}
    return Candidates(**ids, similarity=np.zeros(count), source=sources, query_frame=frames, reference_frame=frames)


@pytest.mark.parametrize(
    ("most", "kept"),
    [(None, "012345"), (9, "012345"), (1, "0"), (2, "03"), (3, "013"), (5, "01234")],
)
def test_sources_take_turns(most, kept):
    six = candidates("identical", "votes+neighbours", "votes", "neighbours", "neighbours", "neighbours")
    assert cut(six, most).reference_id.tolist() == [f"r{n}" for n in kept]


def test_one_source_alone_keeps_its_best():
    assert cut(candidates(*["neighbours"] * 4), 2).reference_id.tolist() == ["r0", "r1"]


@pytest.fixture(scope="module")
def room(library, tmp_path_factory):
    folder = tmp_path_factory.mktemp("budget")
    for side, names in (
        ("queries", ("cropped.jpg", "flipped.jpg")),
        ("references", ("astronaut.png", "chelsea.png", "page.png", "coins.png")),
    ):
        (folder / side).mkdir()
        for name in names:
            shutil.copy(getattr(library, side) / name, folder / side)
    return folder


def pairs(folder):
    return len(Stage.load(folder / "pair_scores", PairScores).read())


def test_so_many_pairs_a_query(room, tmp_path):
    run(room / "queries", room / "references", tmp_path / "all", strategy=MANY)
    run(room / "queries", room / "references", tmp_path / "two", strategy=replace(MANY, budget=Budget(pairs_per_query=2)))
    assert pairs(tmp_path / "all") == 8 and pairs(tmp_path / "two") == 4


def test_seconds_become_pairs_once(room, tmp_path, monkeypatch):
    strategy = replace(MANY, budget=Budget(seconds_per_query=3.5))
    monkeypatch.setattr(budgeting, "measure_pace", lambda *_, **__: 1.0)
    summary = run(room / "queries", room / "references", tmp_path / "out", strategy=strategy)
    assert pairs(tmp_path / "out") == 6 and "measure the pace" in summary.seconds
    assert json.loads((tmp_path / "out" / "budget" / "pace.json").read_text())["seconds_per_pair"] == 1.0
    monkeypatch.setattr(budgeting, "measure_pace", None)
    run(room / "queries", room / "references", tmp_path / "out", strategy=strategy)
    assert pairs(tmp_path / "out") == 6


def test_the_pace_of_other_judges_is_measured_anew(room, tmp_path, monkeypatch):
    strategy = replace(MANY, budget=Budget(seconds_per_query=3.5))
    monkeypatch.setattr(budgeting, "measure_pace", lambda *_, **__: 1.0)
    run(room / "queries", room / "references", tmp_path / "out", strategy=strategy)
    for stage in ("budget/candidates", "pair_scores"):  # as when it is killed before it judges
        shutil.rmtree(tmp_path / "out" / stage)
    monkeypatch.setattr(budgeting, "measure_pace", lambda *_, **__: 2.0)
    other = replace(strategy, scorers=replace(strategy.scorers, sift=replace(strategy.scorers.sift, ratio=0.7)))
    run(room / "queries", room / "references", tmp_path / "out", strategy=other)
    assert json.loads((tmp_path / "out" / "budget" / "pace.json").read_text())["seconds_per_pair"] == 2.0
    assert pairs(tmp_path / "out") == 2


def test_the_pace_is_that_of_judging(room, tmp_path):
    strategy = replace(MANY, budget=Budget(seconds_per_query=1e-6))
    run(room / "queries", room / "references", tmp_path / "out", strategy=strategy)
    pace = json.loads((tmp_path / "out" / "budget" / "pace.json").read_text())["seconds_per_pair"]
    assert 1e-5 < pace < 10 and pairs(tmp_path / "out") == 2


@pytest.mark.parametrize("numbers", [{"pairs_per_query": 0}, {"seconds_per_query": -1.0}])
def test_budgets_that_cannot_be(numbers):
    with pytest.raises(UsageError, match="must be at least"):
        Budget(**numbers)
