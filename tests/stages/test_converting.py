"""The challenge's formats and ours."""

import csv
import shutil

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from matcher import pipeline, workshop
from matcher.background import Background
from matcher.describe import made_by
from matcher.errors import MatcherError, UsageError
from matcher.metrics.predicted import ScoredPairs
from matcher.models import checkpoint
from matcher.models.descriptor import Descriptor
from matcher.postprocessing import move
from matcher.settings import DescriptorSettings, NearestViews, PostSettings, ShortlistSettings, Strategy, StretchSettings, WhitenSettings
from matcher.stages import converting
from matcher.stages.converting import rank
from matcher.storage.hdf5 import Vectors
from matcher.storage.stage import Stage
from matcher.types import Descriptors


def read_challenge(path):
    """A reader of track 1's CSV, from its description: a header, three columns, a pair once."""
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["query_id", "reference_id", "score"] and len({tuple(row[:2]) for row in rows}) == len(rows)
    return [(query, reference, float(score)) for query, reference, score in rows]


@examples(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 60))
def test_the_closest_pairs_of_all_are_found_in_blocks(seed, rows, at_once):
    rng = np.random.default_rng(seed)
    queries = Vectors(np.array([f"q{n}" for n in range(6)]), rng.standard_normal((6, 3)).astype(np.float32))
    references = Vectors(np.array([f"r{n}" for n in range(7)]), rng.standard_normal((7, 3)).astype(np.float32))
    every = [(-float(((q - r) ** 2).sum()), (f"q{n}", f"r{m}")) for n, q in enumerate(queries.rows) for m, r in enumerate(references.rows)]
    slow = sorted(every, key=lambda row: -row[0])[:rows]
    before, converting.AT_ONCE = converting.AT_ONCE, at_once
    try:
        found = rank(queries, references, rows=rows)
    finally:
        converting.AT_ONCE = before
    assert list(zip(found.query_id.tolist(), found.reference_id.tolist(), strict=True)) == [pair for _, pair in slow]
    assert np.allclose(found.score, [score for score, _ in slow], atol=1e-5)


@pytest.fixture(scope="module")
def made(library, tmp_path_factory):
    """A finished run with descriptors, its strategy, and a background that knows none of its pictures."""
    folder = tmp_path_factory.mktemp("converting")
    for side, names in (("queries", ("cropped.jpg", "flipped.jpg")), ("references", ("astronaut.png", "chelsea.png", "moon.png"))):
        (folder / side).mkdir()
        for name in names:
            shutil.copy(getattr(library, side) / name, folder / side)
    checkpoint.save(folder / "mine.safetensors", Descriptor.build("timm:test_vit", size=32, dim=5), {})
    settings = DescriptorSettings(backbone=str(folder / "mine.safetensors"), query_views=["whole", "flip"])
    rows = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)
    strangers = Background(
        rows / np.linalg.norm(rows, axis=1, keepdims=True), np.zeros((0, 16), np.uint8), {"descriptor": made_by(settings)}
    )
    strangers.save(folder / "background.safetensors")
    strategy = Strategy(descriptor=settings, shortlist=ShortlistSettings(per_query=2, descriptor=[NearestViews(per_query=2)]))
    pipeline.run(folder / "queries", folder / "references", folder / "out", strategy=strategy)
    return folder, strategy


def with_post(made, post):
    folder, strategy = made
    background = str(folder / "background.safetensors")
    settings = DescriptorSettings(
        backbone=strategy.descriptor.backbone, query_views=strategy.descriptor.query_views, background=background, post=post
    )
    return Strategy(descriptor=settings)


def whole_rows(folder, side):
    found = Stage.load(folder / "out" / side / "descriptors", Descriptors).read()
    return found.take(found.kind == "whole")


def test_a_run_becomes_hdf5_and_that_a_ranking(made, tmp_path):
    folder, strategy = made
    workshop.convert(folder / "out", tmp_path / "mine.h5", strategy=strategy)
    with h5py.File(tmp_path / "mine.h5", "r") as file:
        assert [id_.decode() for id_ in file["query_ids"][()]] == ["cropped", "flipped"]
        assert np.allclose(file["query"][()], whole_rows(folder, "queries").rows, atol=1e-6)
        assert np.allclose(file["reference"][()], whole_rows(folder, "references").rows, atol=1e-6)
    workshop.convert(tmp_path / "mine.h5", tmp_path / "ranked.csv", rows=4)
    ranked = read_challenge(tmp_path / "ranked.csv")
    assert len(ranked) == 4 and [score for *_, score in ranked] == sorted((score for *_, score in ranked), reverse=True)
    cosine = whole_rows(folder, "queries").rows @ whole_rows(folder, "references").rows.T
    assert ranked[0][2] == pytest.approx(2 * cosine.max() - 2, abs=1e-5)


def test_the_steps_of_the_strategy_are_taken(made, tmp_path):
    folder, _ = made
    post = PostSettings(whiten=WhitenSettings(dim=3), stretch=StretchSettings())
    strategy = with_post(made, post)
    workshop.convert(folder / "out", tmp_path / "mine.h5", strategy=strategy)
    strangers = Background.load(folder / "background.safetensors", made_by=made_by(strategy.descriptor)).rows
    moved = move(whole_rows(folder, "queries").rows, whole_rows(folder, "references").rows, strangers, post)
    with h5py.File(tmp_path / "mine.h5", "r") as file:
        assert np.allclose(file["query"][()], moved.queries * moved.length[:, None], atol=1e-5) and file["query"].shape == (2, 3)
        assert np.allclose(file["reference"][()], moved.references, atol=1e-5)


def test_predictions_become_the_challenges_csv_with_the_best_rows(made, tmp_path):
    folder, _ = made
    every = ScoredPairs.read(folder / "out" / "predictions.parquet")
    workshop.convert(folder / "out" / "predictions.parquet", tmp_path / "all.csv")
    assert len(read_challenge(tmp_path / "all.csv")) == len(every)
    workshop.convert(tmp_path / "all.csv", tmp_path / "few.csv", rows=2)
    assert [score for *_, score in read_challenge(tmp_path / "few.csv")] == sorted(every.score.tolist(), reverse=True)[:2]


def test_folders_that_are_not_what_was_meant(made, tmp_path):
    folder, strategy = made
    with pytest.raises(MatcherError, match=r"out is the folder of a run: name .*predictions\.parquet"):
        workshop.convert(folder / "out", tmp_path / "a.csv")
    with pytest.raises(MatcherError, match="holds no queries: name the folder of a run"):
        workshop.convert(folder / "out" / "queries", tmp_path / "a.h5", strategy=strategy)


def test_what_is_no_conversion_is_refused(made, tmp_path, command):
    folder, strategy = made
    with pytest.raises(UsageError, match="no way from"):
        workshop.convert(folder / "out" / "predictions.parquet", tmp_path / "a.h5", strategy=strategy)
    with pytest.raises(MatcherError, match=r"there is no file or folder .*nowhere"):
        workshop.convert(tmp_path / "nowhere", tmp_path / "a.h5", strategy=strategy)
    with pytest.raises(MatcherError, match=r"none\.parquet"):
        workshop.convert(tmp_path / "none.parquet", tmp_path / "a.csv")
    code, _, complaint = command("convert", tmp_path / "none.h5", tmp_path / "a.csv")
    assert code == 1 and "there is no file" in complaint
    (tmp_path / "own.csv").write_bytes((folder / "out" / "predictions.csv").read_bytes())
    with pytest.raises(UsageError, match=r"own\.csv would replace what it is made from"):
        workshop.convert(tmp_path / "own.csv", tmp_path / "own.csv")
    with pytest.raises(UsageError, match="rows must be at least 1"):
        workshop.convert(folder / "out" / "predictions.parquet", tmp_path / "a.csv", rows=0)
