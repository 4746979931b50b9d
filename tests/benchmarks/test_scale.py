"""The experiments on size, on small sets: what they write down is so."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from matcher.errors import UsageError
from matcher.pipeline import describe
from matcher.shortlist.votes import vote
from matcher.stages.describing import load_described
from matcher.stages.job import Job

SCRIPTS = Path(__file__).parents[2] / "experiments" / "scale"


@pytest.fixture(scope="module")
def scripts():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module("search_many"), importlib.import_module("simulate")
    for name in ("search_many", "simulate"):
        del sys.modules[name]


def test_copies_are_counted_and_the_originals_found(scripts, library, tmp_path, capsys):
    many, strategy = scripts[0], scripts[0].STRATEGY
    for side, folder in (("query", library.queries), ("reference", library.references)):
        describe(folder, tmp_path / side, side=side, strategy=strategy, job=Job(workers=1))
    many.fill(str(tmp_path / "reference"), str(tmp_path / "many"), copies=7)
    facts = json.loads((tmp_path / "many" / "facts.json").read_text())
    references, queries = (load_described(tmp_path / side)[0] for side in ("reference", "query"))
    assert facts["references"] == 7 * 12 and facts["bytes_per_keypoint"] == 20
    assert facts["keypoints"] == 7 * len(references.keypoints.rows)
    library_of_many, index = many.open_many(tmp_path / "many")
    assert len(library_of_many) == 7 * 12
    for query in ("darker", "turned", "cropped"):
        best, _ = vote(queries.features(queries.number[query]), library_of_many, index, strategy.shortlist)
        assert references.pictures.id[best[0] % 12] == library.truth[query] and best[0] < 12  # a jittered copy is not so near
    many.search(str(tmp_path / "query"), str(tmp_path / "many"), queries=2)
    told = capsys.readouterr().out.splitlines()[-1]
    assert "'references': 84" in told and "private_mb" in told
    with pytest.raises(UsageError, match="fewer copies"):
        many.fill(str(tmp_path / "reference"), str(tmp_path / "more"), copies=2**31)


def test_simulated_recall_falls_with_size(scripts, tmp_path, monkeypatch, read_rows):
    simulate = scripts[1]
    monkeypatch.setattr(simulate, "TRAINED", 2000)
    monkeypatch.setattr(simulate, "BLOCK", 2000)
    call = {"dim": 64, "code_bytes": 16, "lists": 8, "probes": 8, "queries": 200}
    simulate.simulate(str(tmp_path / "out.csv"), sizes=(2000, 20_000), **call)
    few, many = read_rows(tmp_path / "out.csv")
    assert (few["rows"], many["rows"]) == ("2000", "20000")
    assert float(few["exact_1"]) >= float(many["exact_1"]) >= float(many["codes_1"]) > 0.3
    assert float(many["codes_1"]) <= float(many["codes_10"]) <= float(many["codes_100"]) <= 1
    rows = simulate.make_rows(50, np.eye(3, 8, dtype=np.float32), np.random.default_rng(0))
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5) and not rows[:, 3:].any()
    turned = (rows * simulate.turn_away(rows, np.eye(3, 8, dtype=np.float32), np.random.default_rng(1))).sum(axis=1)
    assert turned.min() > 0.54 and turned.max() < 0.96
    with pytest.raises(UsageError, match="sizes must rise"):
        simulate.simulate(str(tmp_path / "out.csv"), sizes=(20_000, 2000), **call)
