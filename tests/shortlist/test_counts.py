from types import SimpleNamespace

import numpy as np
import pytest

from matcher.crops import CropSet
from matcher.errors import UsageError
from matcher.features import FeatureSet, join
from matcher.geometry import from_box
from matcher.index import Index
from matcher.models.sift import LocalFeatures
from matcher.settings import CountSettings, IndexSettings
from matcher.shortlist.counts import elect_all, elect_by_source, frame_crops
from matcher.types import Candidates, Pictures, Views

SETTINGS = CountSettings()
OWN = 12  # keypoints of a reference


def features(rows):
    rows = np.asarray(rows, dtype=np.uint8).reshape(-1, 128)
    blank = np.zeros(len(rows), np.float32)
    return LocalFeatures(np.zeros((len(rows), 2), np.float32), blank, blank, rows, np.float32([1, 1]))


def side_of(found):
    names = [f"p{n}" for n in range(len(found))]
    sides = {"width": [10] * len(names), "height": [10] * len(names), "thumbnail": np.zeros((len(names), 768), np.uint8)}
    pictures = Pictures(id=names, path=names, file_key=names, pixel_key=names, keypoints=[len(f) for f in found], **sides)
    return FeatureSet(pictures, join(names, found))


@pytest.fixture(scope="module")
def references():
    """Three references whose rows are all unlike: 255 at one place, or shared out over two."""
    rows = np.zeros((3 * OWN, 128))
    for n in range(3 * OWN):
        rows[n, 3 * n] = 255
    return side_of([features(rows[start : start + OWN]) for start in (0, OWN, 2 * OWN)])


@pytest.fixture(scope="module")
def index(references):
    rows = references.keypoints.rows
    return Index.build(rows, np.arange(len(rows)), IndexSettings(kind="flat", gpu="no"), made_by="test")


def votes(*counts, squared=0.0):
    """So many keypoints for each of the three references, each this far (squared) from its nearest one -> query."""
    rows = []
    for reference, count in enumerate(counts):
        for n in range(count):
            row = np.zeros(128)
            cosine = 1 - squared / 2
            row[3 * (OWN * reference + n)], row[3 * (OWN * reference + n) + 1] = 255 * cosine, 255 * np.sqrt(1 - cosine**2)
            rows.append(np.round(row))
    return features(rows)


def elect(query, *sides):
    return next(elect_all([query], *sides))


@pytest.mark.parametrize(
    ("counts", "winner"),
    [
        ((4, 1, 0), (0, 4)),
        ((4, 3, 3), (0, 4)),
        ((2, 3, 7), (2, 7)),
        ((3, 1, 1), None),  # more than 3
        ((4, 4, 0), None),  # more than the runner-up
        ((9, 2, 9), None),
        ((0, 5, 0), None),  # alone: more than 5
        ((0, 6, 0), (1, 6)),
        ((0, 0, 0), None),
    ],
)
def test_who_wins(references, index, counts, winner):
    assert elect(votes(*counts), references, index, SETTINGS) == winner


@pytest.mark.parametrize(("squared", "wins"), [(0.0, True), (0.11, True), (0.135, False)])
def test_the_winners_votes_must_be_near(references, index, squared, wins):
    far = votes(8, 0, 0, squared=squared)
    query = features(np.concatenate([far.rows, votes(0, 2, 0).rows]))  # the others' votes are no matter
    assert (elect(query, references, index, SETTINGS) == (0, 8)) == wins
    half = features(np.concatenate([votes(4, 0, 0, squared=2 * squared).rows, votes(8, 1, 0).rows[4:]]))
    assert (elect(half, references, index, SETTINGS) == (0, 8)) == wins  # it is their mean that counts


def test_rules_are_settings(references, index):
    assert elect(votes(2, 1, 0), references, index, CountSettings(least=2)) == (0, 2)
    assert elect(votes(2, 0, 0), references, index, CountSettings(least=2)) is None
    assert elect(votes(2, 0, 0), references, index, CountSettings(alone=2)) == (0, 2)
    with pytest.raises(UsageError, match="alone must be at least 1, not 0"):
        CountSettings(alone=0)


def test_an_empty_index_elects_nobody():
    nothing = side_of([features([])])
    empty = Index.build(nothing.keypoints.rows, np.arange(0), IndexSettings(kind="flat", gpu="no"), made_by="test")
    assert elect(votes(8, 0, 0), nothing, empty, SETTINGS) is None


def test_whole_and_crop_elect_one_each(references, index):
    queries = side_of([votes(6, 1, 0), votes(0, 0, 7), votes(1, 1, 1)])
    frames = np.stack([from_box(0.1, 0.2, 0.5, 0.6), from_box(0, 0, 0.3, 0.3)])
    views = Views(image_id=["p0", "p1"], frame=frames, kind=["overlay"] * 2, confidence=[0.9, 0.5])
    crops = CropSet(queries, views, join(["p0", "p1"], [votes(0, 9, 1), votes(1, 2, 0)]))
    sides = references, index, SETTINGS
    assert list(elect_by_source(range(3), queries, crops, *sides)) == [(0, 0, "counts", 6), (0, 1, "crop_counts", 9), (1, 2, "counts", 7)]
    assert list(elect_by_source(range(1, 3), queries, crops, *sides)) == [(1, 2, "counts", 7)]
    assert list(elect_by_source(range(3), queries, None, *sides)) == [(0, 0, "counts", 6), (1, 2, "counts", 7)]
    assert list(elect_by_source([], queries, crops, *sides)) == []


def test_the_index_is_asked_once_for_all(references, index):
    asked = []
    counting = SimpleNamespace(search=lambda rows, k: asked.append(len(rows)) or index.search(rows, k))
    queries = [votes(6, 1, 0), votes(0, 0, 0), votes(0, 0, 7)]
    assert list(elect_all(queries, references, counting, SETTINGS)) == [elect(one, references, index, SETTINGS) for one in queries]
    assert asked == [14]
    assert list(elect_all([], references, counting, SETTINGS)) == []


def test_what_only_a_crop_found_has_the_crops_frame(references):
    queries, frame = side_of([votes(1), votes(1)]), from_box(0.1, 0.2, 0.5, 0.6)
    views = Views(image_id=["p1"], frame=frame[None], kind=["overlay"], confidence=[0.9])
    crops = CropSet(queries, views, join(["p1"], [votes(1)]))
    candidates = Candidates(
        query_id=["p0", "p1", "p1"],
        reference_id=["p0", "p0", "p1"],
        similarity=[9, 8, 7],
        source=["counts", "crop_counts", "counts+crop_counts"],
        query_frame=np.broadcast_to(np.eye(3), (3, 3, 3)),
        reference_frame=np.broadcast_to(np.eye(3), (3, 3, 3)),
    )
    assert np.array_equal(frame_crops(candidates, queries, crops).query_frame, [np.eye(3), frame, np.eye(3)])
    assert frame_crops(candidates, queries, None) is candidates
