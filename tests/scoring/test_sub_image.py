import numpy as np
import pytest

from matcher.errors import UsageError
from matcher.geometry import from_box, identity
from matcher.scoring.sub_image import SubImage, log_mean_exp
from matcher.settings import SubImageSettings, ViewPairs
from matcher.shortlist.similarity import PairSimilarity
from matcher.types import Descriptors, Pictures

WHOLE, LEFT, SMALL = identity(), from_box(0, 0, 0.5, 1), from_box(0.5, 0.5, 0.6, 0.6)


def describe(ids, kinds, frames, seed):
    rows = np.random.default_rng(seed).standard_normal((len(ids), 5)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Descriptors(image_id=ids, frame=frames, kind=kinds, confidence=np.ones(len(ids)), rows=rows)


def pictures(*ids):
    count, text = len(ids), [""] * len(ids)
    sizes = {"width": [200] * count, "height": [100] * count, "keypoints": [0] * count, "thumbnail": np.zeros((count, 768))}
    return Pictures(id=list(ids), path=text, file_key=text, pixel_key=text, **sizes)


@pytest.fixture
def both():
    queries = describe(list("qqqp"), ["whole", "left", "overlay", "whole"], [WHOLE, LEFT, SMALL, WHOLE], 1)
    references = describe(list("rrs"), ["whole", "left", "whole"], [WHOLE, LEFT, WHOLE], 2)
    return PairSimilarity(queries, references, np.array([0.1, 0.2, 0.3, 0.4], np.float32))


def compare(both, *rules, **settings):
    views = {"views": list(rules)} if rules else {}
    return SubImage(both, SubImageSettings(**views, **settings), pictures("q", "p"), pictures("r", "s"))


def all_of(both):
    """Rows 0 to 2 are views of q, columns 0 and 1 of r."""
    return (both.queries.rows[:3] @ both.references.rows[:2].T - both.penalty[:3, None]).astype(np.float64)


def test_by_default_the_closest_of_all(both):
    ours = compare(both)
    assert ours.compare("q", "r") == pytest.approx(all_of(both).max(), abs=1e-6)
    query, reference = np.unravel_index(all_of(both).argmax(), (3, 2))
    frames = ours.closest_views("q", "r")
    assert np.array_equal(frames[0], both.queries.frame[query]) and np.array_equal(frames[1], both.references.frame[reference])
    assert np.isnan([ours.compare("q", "gone"), ours.compare("gone", "r")]).all() and ours.closest_views("gone", "r") is None


def test_rules_and_handicaps(both):
    table = all_of(both)
    rules = ViewPairs(query=["whole"], reference=["left"]), ViewPairs(query=["left", "whole"], reference=["left"], handicap=0.5)
    assert compare(both, *rules).compare("q", "r") == pytest.approx(max(table[0, 1], table[1, 1] - 0.5), abs=1e-6)
    nothing = compare(both, ViewPairs(query=["turn90"]))
    assert np.isnan(nothing.compare("q", "r")) and nothing.closest_views("q", "r") is None


def test_combinations(both):
    values = np.sort(all_of(both).ravel())
    assert compare(both, combine="two_closest").compare("q", "r") == pytest.approx(values[-2:].mean(), abs=1e-6)
    one = compare(both, ViewPairs(query=["whole"]), combine="two_closest")
    assert one.compare("q", "s") == pytest.approx(compare(both, ViewPairs(query=["whole"])).compare("q", "s"), abs=1e-6)
    with pytest.raises(UsageError, match="sharpness must be above 0"):
        compare(both, combine="log_mean_exp", sharpness=0.0)
    soft = compare(both, combine="log_mean_exp", sharpness=7.0).compare("q", "r")
    assert soft == pytest.approx(np.log(np.exp(7 * values).mean()) / 7, abs=1e-6) and values.mean() < soft < values[-1]
    assert log_mean_exp(np.array([1000.0, 1000.0])) == pytest.approx(1000)


def test_small_parts_are_left_out_and_whole_pictures_never(both):
    table = all_of(both)  # in pictures of 200 x 100, the overlay is 20 x 10, the left half 100 x 100
    assert compare(both, smallest=11).compare("q", "r") == pytest.approx(table[:2].max(), abs=1e-6)
    assert compare(both, smallest=10).compare("q", "r") == pytest.approx(table.max(), abs=1e-6)
    assert compare(both, smallest=500).compare("q", "r") == pytest.approx(table[[0, 1]].max(), abs=1e-6)
