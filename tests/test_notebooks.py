"""The cells of notebooks/wrong_pairs.ipynb run on a small run."""

import json

import numpy as np
import pytest
from PIL import Image

from matcher import geometry
from matcher.engine.local import run_shards
from matcher.shipped import PACKAGE
from matcher.storage.stage import Stage
from matcher.types import Errors, PairScores

NOTEBOOK = PACKAGE.parent / "notebooks" / "wrong_pairs.ipynb"


@pytest.fixture
def finished(tmp_path):
    """A folder with pair scores of two queries, and the benchmark that they are of."""
    names = ("pair_logit", "descriptor_similarity", "sift_inliers", "sift_agreeing")
    frames = np.stack([geometry.from_box(0.1, 0.2, 0.8, 0.9), np.full((3, 3), np.nan), geometry.flip(), geometry.identity()])
    scores = PairScores(
        query_id=np.array(["a", "a", "b", "b"]),
        reference_id=np.array(["x", "y", "x", "y"]),
        frame=frames,
        patch_frame=frames,
        evidence={name: np.array([-1.0, 2.0, 0.5, -3.0], dtype=np.float32) for name in names},
    )
    stage = Stage.open(tmp_path / "out" / "pair_scores", PairScores, config={}, inputs={}, items=4, items_per_shard=4)
    run_shards(stage, lambda rows: (scores.take(slice(rows.start, rows.stop)), Errors.empty(), {}), workers=1, label="scores")
    for side, ids in (("queries", "ab"), ("references", "xy")):
        (tmp_path / "dev" / side).mkdir(parents=True)
        for id_ in ids:
            Image.new("RGB", (60, 40), "gray").save(tmp_path / "dev" / side / f"{id_}.png")
    (tmp_path / "dev" / "ground_truth.csv").write_text("query_id,reference_id\na,x\nb,\n")
    (tmp_path / "dev" / "edits.csv").write_text("query_id,families\na,crop\nb,blur\n")
    return tmp_path


def test_wrong_pairs_are_told_and_drawn(finished, monkeypatch, capsys):
    monkeypatch.setenv("RUN", str(finished / "out"))
    monkeypatch.setenv("BENCHMARK", str(finished / "dev"))
    drawn = []
    room = {"display": drawn.append}
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), room)
    out = capsys.readouterr().out
    assert "4 pairs, 1 of them copies; the pair model is right about 25.0%" in out
    assert [line.split()[:3] for line in out.splitlines() if "pair_logit" in line] == [
        ["stranger", "a", "y"],
        ["stranger", "b", "x"],
        ["copy", "a", "x"],
    ]
    assert len(drawn) == 3 and all(sheet.height == 240 for sheet in drawn)
