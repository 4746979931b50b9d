"""Bad pictures among good ones, empty places, and descriptors beside keypoints."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from matcher.errors import MatcherError
from matcher.images.listing import make_ids
from matcher.images.table import read_images
from matcher.pipeline import describe, run
from matcher.settings import DescriptorSettings, Strategy
from matcher.stages.describing import load_described, loaded_once, warn_of_side
from matcher.stages.job import Job
from matcher.storage.records import read_record
from matcher.storage.stage import Stage
from matcher.types import Candidates, Descriptors, Errors, Keypoints, Pictures, Predictions

GOOD = ("cropped.jpg", "flipped.jpg", "half.png")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's remarks on broken tags


@pytest.fixture(scope="module")
def hostile(library, make_hostile, tmp_path_factory):
    """A run on forty hostile files among good ones: their names with the expected codes, the output folder, exit code and stdout."""
    import contextlib
    import io

    from matcher.cli.main import main

    folder = tmp_path_factory.mktemp("hostile")
    expected = make_hostile["make_hostile_folder"](folder / "queries")
    for name in GOOD:
        shutil.copy(library.queries / name, folder / "queries" / name)
    shutil.copytree(library.references, folder / "references")
    make_hostile["draw_scene"](np.random.default_rng(0)).save(folder / "references" / "scene.png")
    words = ["run", "--quiet", "--queries", folder / "queries", "--references", folder / "references", "--output", folder / "out"]
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(io.StringIO()):
        code = main([str(word) for word in words])
    return dict(zip(make_ids(list(expected)), expected.values(), strict=True)), folder / "out", code, printed.getvalue()


def test_hostile_files_do_not_end_a_run(hostile):
    expected, output, code, printed = hostile
    bad = {name: reason for name, reason in expected.items() if reason != "good"}
    errors = read_record(output / "errors.parquet", Errors)
    assert code == 0 and len(expected) == 40
    assert dict(zip(errors.id.tolist(), errors.code.tolist(), strict=True)) == bad and len(errors) == len(bad)
    assert set(errors.stage.tolist()) == {"queries"} and all(len(message) > 20 for message in errors.message.tolist())
    assert f"{len(bad)} could not be used" in printed


def test_and_no_good_one_is_lost(hostile, read_rows):
    expected, output, _, _ = hostile
    found = read_record(output / "predictions.parquet", Predictions)
    best = {}
    for query, reference, probability in zip(found.query_id.tolist(), found.reference_id.tolist(), found.probability.tolist(), strict=True):
        best.setdefault(query, (reference, probability))
    good = {name: "scene" for name, reason in expected.items() if reason == "good"}
    good |= {"cropped": "astronaut", "flipped": "chelsea", "half": "page"}
    assert {query: best[query][0] for query in good} == good
    assert min(best[query][1] for query in good) > 0.9
    written = [(row["query_id"], row["reference_id"]) for row in read_rows(output / "predictions.csv")]
    assert written == list(zip(found.query_id.tolist(), found.reference_id.tolist(), strict=True))
    assert "<html" in (output / "report.html").read_text("utf-8")


def broken_folder(folder, library, *, good=()):
    folder.mkdir()
    (folder / "bad.jpg").write_bytes(b"no picture at all, whatever it is called")
    for name in good:
        shutil.copy(library.queries / name, folder / name)
    return folder


def test_on_error_raise_stops_at_the_first_and_names_it(library, command, tmp_path):
    queries = broken_folder(tmp_path / "queries", library, good=["cropped.jpg"])
    places = ("--queries", queries, "--references", library.references, "--output", tmp_path / "out")
    code, _, complaint = command("run", *places, "--on-error", "raise", "--quiet")
    assert code == 1 and len(complaint.splitlines()) == 1
    assert str(queries / "bad.jpg") in complaint and "--on-error skip" in complaint
    (queries / "bad.jpg").write_bytes(b"")
    code, _, complaint = command("run", *places, "--on-error", "raise", "--quiet", "--fresh")
    assert code == 1 and str(queries / "bad.jpg") in complaint and len(complaint.splitlines()) == 1


@pytest.mark.parametrize("side", ["queries", "references"])
def test_a_side_without_one_good_picture(library, command, tmp_path, side):
    bad = broken_folder(tmp_path / "bad", library)
    good = tmp_path / "good"
    good.mkdir()
    shutil.copy(library.queries / "cropped.jpg", good)
    places = {"queries": good, "references": good} | {side: bad}
    words = [f"--{name}={place}" for name, place in places.items()]
    code, printed, complaint = command("run", *words, "--output", tmp_path / "out", "--quiet")
    listed = tmp_path / "out" / side / "errors.parquet"
    assert code == 1 and not printed and len(complaint.splitlines()) == 1
    assert f"none of the 1 {side} can be used, so there is nothing to compare, see {listed}; the first: {bad / 'bad.jpg'}" in complaint
    assert read_record(listed, Errors).code.tolist() == ["unsupported"]
    shutil.copy(library.queries / "half.png", bad)
    code, printed, complaint = command("run", *words, "--output", tmp_path / "out", "--quiet", "--fresh")
    assert code == 0 and "1 could not be used" in printed and f"1 of 2 {side} cannot be used" in complaint


def test_a_place_without_pictures(library, command, tmp_path):
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "absent", tmp_path / "*.jpg"):
        code, _, complaint = command("run", "--queries", place, "--references", library.references, "--output", tmp_path / "out", "--quiet")
        assert code == 1 and len(complaint.splitlines()) == 1 and str(place) in complaint


def test_both_stages_hold_the_same_pictures(finished):
    pictures = Stage.load(finished[0] / "queries" / "pictures", Pictures).read()
    keypoints = Stage.load(finished[0] / "queries" / "keypoints", Keypoints).read()
    assert len(pictures) == 13 and pictures.keypoints.sum() == len(keypoints)
    assert keypoints.image_id.tolist() == np.repeat(pictures.id, pictures.keypoints).tolist()
    assert pictures.keypoints.max() <= Strategy().query_keypoints.keypoints


def test_the_cache_gives_the_same_bytes_without_decoding(finished, library, small_shards, monkeypatch, tmp_path):
    from matcher import features

    job = Job(cache=str(tmp_path / "cache"))
    with small_shards():
        describe(library.queries, tmp_path / "first", side="query", job=job)
        monkeypatch.setattr(features, "extract", None)  # calling it would fail
        describe(library.queries, tmp_path / "second", side="query", job=job)
    for part in (finished[0] / "queries").rglob("part-*"):
        name = part.relative_to(finished[0] / "queries")
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes() == part.read_bytes()


def test_a_descriptor_adds_candidates(finished, library, tmp_path):
    settings = DescriptorSettings(backbone="timm:test_vit", weights=False, size=32, query_views=["whole", "flip"])
    summary = run(library.queries, library.references, tmp_path / "out", strategy=replace(Strategy(), descriptor=settings))
    views = Stage.load(tmp_path / "out" / "queries" / "descriptors", Descriptors).read()
    assert len(views) == 2 * summary.queries
    alone, both = (Stage.load(folder / "candidates", Candidates).read() for folder in (finished[0], tmp_path / "out"))
    by_votes, pairs = (set(zip(c.query_id.tolist(), c.reference_id.tolist(), strict=True)) for c in (alone, both))
    assert by_votes < pairs and len(pairs) == len(both) == summary.pairs
    assert set(both.query_id[both.source == "neighbours"].tolist()) == {file.stem for file in library.queries.iterdir()}
    probabilities = {}
    for folder in (finished[0], tmp_path / "out"):
        found = read_record(folder / "predictions.parquet", Predictions)
        probabilities[folder] = dict(zip(zip(found.query_id.tolist(), found.reference_id.tolist(), strict=True), found.score, strict=True))
    assert probabilities[finished[0]].items() <= probabilities[tmp_path / "out"].items()


def test_a_changed_descriptor_is_refused(library, tmp_path):
    (tmp_path / "queries").mkdir()
    shutil.copy(library.queries / "half.png", tmp_path / "queries")
    settings = DescriptorSettings(backbone="timm:test_vit", weights=False, size=32)
    describe(tmp_path / "queries", tmp_path / "out", side="query", strategy=replace(Strategy(), descriptor=settings))
    with pytest.raises(MatcherError, match=r"descriptor\.seed: was 0, now 1"):
        describe(tmp_path / "queries", tmp_path / "out", side="query", strategy=replace(Strategy(), descriptor=replace(settings, seed=1)))


def test_what_could_not_be_read_for_a_moment_is_told_each_time(library, tmp_path, caplog, monkeypatch):
    mine, away = shutil.copytree(library.queries, tmp_path / "mine"), tmp_path / "half.png"

    def listed(*arguments, **named):
        found = read_images(*arguments, **named)
        (mine / "half.png").rename(away)
        return found

    told = "1 queries could not be read, the first: " + str(mine / "half.png")
    with monkeypatch.context() as patch:
        patch.setattr("matcher.stages.describing.read_images", listed)
        describe(mine, tmp_path / "out", side="query")
    away.rename(mine / "half.png")
    assert told in caplog.text and "--fresh takes them in" in caplog.text
    caplog.clear()
    describe(mine, tmp_path / "out", side="query")
    assert told in caplog.text
    caplog.clear()
    describe(mine, tmp_path / "out", side="query", job=Job(fresh=True))
    assert told not in caplog.text and len(load_described(tmp_path / "out")[0].pictures) == len(list(mine.iterdir()))


def test_queries_described_as_references_are_told(finished, caplog):
    folder = finished[0]
    warn_of_side(folder / "queries", Strategy())
    assert not caplog.records
    warn_of_side(folder / "references", Strategy())
    assert "describe queries with --side query" in caplog.text


def test_what_was_loaded_is_kept_within_a_run_only(finished, tmp_path):
    folder = shutil.copytree(finished[0] / "references", tmp_path / "references")
    with loaded_once():
        found, fingerprint = load_described(folder)
        assert load_described(folder)[0] is found and load_described(finished[0] / "references")[0] is not found
        next((folder / "keypoints").glob("part-*.parquet")).write_bytes(b"no longer what it was")
        assert load_described(folder) == (found, fingerprint)
    with pytest.raises(MatcherError):
        load_described(folder)
    assert load_described(finished[0] / "references")[0] is not load_described(finished[0] / "references")[0]
