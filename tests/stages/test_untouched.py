"""Copies that nobody edited are found with certainty, whatever is on them; and a score does not depend on the other pictures."""

import io

import numpy as np
import pytest
from PIL import Image

from matcher.pipeline import run, score
from matcher.stages.job import Job
from matcher.storage.records import read_record
from matcher.storage.stage import Stage
from matcher.types import PairScores, Predictions

WITHOUT = ("microaneurysms", "chessboard_GRAY")  # left to the small pictures below
NAMES = (
    *("astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel"),
    *("horse", "logo", "moon", "page", "phantom", "retina", "rocket", "text"),
)
PLAIN = ("white", "grey", "ramp", "sunset", "vignette", "soft noise", "icon", "microaneurysms", "chessboard_GRAY")
VARIANTS = ("q60", "png", "half", "double")


def plain_pictures(photos):
    """Name -> RGB pictures on which keypoints have little or nothing to hold on to."""
    y, x = np.mgrid[0:200, 0:300].astype(np.float64)
    noise = np.random.default_rng(0).normal(0, 2, (200, 300, 3))
    radius = np.hypot(x / 300 - 0.5, y / 200 - 0.5)
    made = {
        "white": np.full((200, 300, 3), 255.0),
        "grey": np.full((150, 200, 3), 90.0),
        "ramp": np.repeat((x / 300 * 255)[..., None], 3, axis=2),
        "sunset": np.stack([120 + y * 0.6, 60 + y * 0.4, 140 - y * 0.5], axis=2),
        "vignette": np.stack([200 - 180 * radius, 190 - 150 * radius, 180 - 120 * radius], axis=2),
        "soft noise": 128 + noise,
        "icon": np.kron(np.random.default_rng(1).integers(0, 256, (8, 8, 3)), np.ones((8, 8, 1))),
    }
    return {name: pixels.clip(0, 255).astype(np.uint8) for name, pixels in made.items()} | {name: photos[name] for name in WITHOUT}


def saved(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def variants(picture):
    """A picture -> the bytes of its untouched copies by name; the same bytes are among the queries of the library."""
    half = max(picture.width // 2, 1), max(picture.height // 2, 1)
    double = picture.resize((picture.width * 2, picture.height * 2), Image.Resampling.BICUBIC)
    return {
        "q60": saved(picture, "JPEG", quality=60),
        "png": saved(picture, "PNG", compress_level=1),
        "half": saved(picture.resize(half, Image.Resampling.LANCZOS), "JPEG", quality=90),
        "double": saved(double, "PNG", compress_level=1),
    }


@pytest.fixture(scope="module")
def everything(photos, library, tmp_path_factory):
    """A run on the library and on untouched copies of many more references."""
    folder = tmp_path_factory.mktemp("everything")
    references, queries = folder / "references", folder / "queries"
    references.mkdir()
    queries.mkdir()
    for name, pixels in {**{name: photos[name] for name in NAMES}, **plain_pictures(photos)}.items():
        picture = Image.fromarray(pixels)
        picture.save(references / f"{name}.png")
        for variant, data in variants(picture).items():
            (queries / f"{name} {variant}.jpg").write_bytes(data)
    for file in library.queries.iterdir():
        (queries / file.name).write_bytes(file.read_bytes())
    run(queries, references, folder / "out", job=Job(workers=2))
    return folder / "out"


@pytest.fixture(scope="module")
def probabilities(everything):
    """(query id, reference id) -> probability."""
    found = read_record(everything / "predictions.parquet", Predictions)
    return dict(zip(zip(found.query_id.tolist(), found.reference_id.tolist(), strict=True), found.probability.tolist(), strict=True))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", [*NAMES, *PLAIN])
def test_an_untouched_copy_is_certain(probabilities, name, variant):
    assert probabilities.get((f"{name} {variant}", name), 0) > 0.999


def test_and_is_nothing_else(probabilities):
    wrong = [
        (query, reference)
        for (query, reference), probability in probabilities.items()
        if probability >= 0.5 and query.rpartition(" ")[0] in (*NAMES, *PLAIN) and query.rpartition(" ")[0] != reference
    ]
    assert wrong == []


def by_pair(scores):
    columns = np.column_stack([*scores.evidence.values(), scores.frame.reshape(len(scores), 9)])
    return {
        (query, reference): row.tobytes()
        for query, reference, row in zip(scores.query_id.tolist(), scores.reference_id.tolist(), columns, strict=True)
    }


def test_more_pictures_do_not_change_a_score(finished, everything):
    few, many = (by_pair(Stage.load(folder / "pair_scores", PairScores).read()) for folder in (finished[0], everything))
    common = few.keys() & many.keys()
    assert len(common) > 20
    assert all(few[pair] == many[pair] for pair in common)
    less, more = (read_record(folder / "predictions.parquet", Predictions) for folder in (finished[0], everything))
    known = dict(zip(zip(more.query_id, more.reference_id, strict=True), more.probability, strict=True))
    for query, reference, probability in zip(less.query_id, less.reference_id, less.probability, strict=True):
        assert known.get((query, reference), probability) == probability


def test_nor_do_other_pairs_in_the_list(finished, everything, tmp_path):
    scores = Stage.load(finished[0] / "pair_scores", PairScores).read()
    rows = np.random.default_rng(0).permutation(len(scores))[:15]
    lines = [f"{scores.query_id[row]},{scores.reference_id[row]}" for row in rows]
    (tmp_path / "pairs.csv").write_text("\n".join(["query_id,reference_id", *lines]) + "\n")
    score(tmp_path / "pairs.csv", everything / "queries", everything / "references", tmp_path / "scored")
    found = by_pair(Stage.load(tmp_path / "scored", PairScores).read())
    assert list(found.items()) == list(by_pair(scores.take(rows)).items())
