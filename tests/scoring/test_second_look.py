from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from matcher.errors import ImageError
from matcher.geometry import corners, from_box, invert
from matcher.images.decode import content_key
from matcher.models.sift import extract
from matcher.scoring import sift
from matcher.scoring.nearest import nearest_two
from matcher.scoring.second_look import SecondLook, agreeing, leaves_doubt
from matcher.settings import Doubt, ImageSettings, SecondLookSettings, SiftScorerSettings, SiftSettings
from matcher.views.render import render

COARSE = SiftSettings(short_side=120, keypoints=120)
ANYTHING = SecondLookSettings(doubt=Doubt(least=0, most=np.inf))


@pytest.fixture
def small_copy(pictures, tmp_path):
    """Paths of a picture with a small copy pasted into it, and of the original; where the copy lies in the picture."""
    box = (0.1, 0.55, 0.37, 0.82)
    copy = render(pictures["coffee"], from_box(0, 0, 1, 1), (130, 173))
    page = np.array(Image.fromarray(pictures["chelsea"]).resize((640, 480)))
    page[264:394, 64:237] = copy
    paths = tmp_path / "page.png", tmp_path / "coffee.png"
    Image.fromarray(page).save(paths[0])
    Image.fromarray(pictures["coffee"]).save(paths[1])
    return tuple(map(str, paths)), box


def verifier(paths, calls=None):
    images = tuple(np.array(Image.open(path).convert("RGB")) for path in paths)

    def verify(query, reference):
        if calls is not None:
            calls.append((len(query), len(reference)))
        return sift.judge(
            query, reference, nearest_two(query, [reference])[0], (lambda: images[0], lambda: images[1]), SiftScorerSettings()
        )

    return verify


def files(paths):
    return tuple((path, content_key(Path(path).read_bytes())) for path in paths)


def look(settings=ANYTHING, cache=None):
    return SecondLook(settings, image_settings=ImageSettings(), cache=cache)


def test_a_second_look_finds_more_of_a_small_copy(small_copy):
    paths, box = small_copy
    verify = verifier(paths)
    first = verify(*(extract(np.array(Image.open(path).convert("RGB")), COARSE) for path in paths))
    second = look().improve(first, files(paths), verify)
    assert first[0]["sift_inliers"] < 10 and second[0]["sift_inliers"] > max(3 * first[0]["sift_inliers"], 20)
    found = corners(invert(second[1]))
    assert np.abs(found.min(axis=0) - box[:2]).max() < 0.02 and np.abs(found.max(axis=0) - box[2:]).max() < 0.02


@pytest.mark.parametrize(("support", "looked"), [(2.9, False), (3.0, True), (19.9, True), (20.0, False)])
def test_only_doubt_asks_for_it(small_copy, support, looked):
    paths, _ = small_copy
    calls: list[tuple[int, int]] = []
    first = dict(sift.NOTHING) | {"sift_support": support}, None
    found = look(SecondLookSettings()).improve(first, files(paths), verifier(paths, calls))
    assert len(calls) == looked and (found is first) != looked
    assert all(count > COARSE.keypoints for pair in calls for count in pair)


def test_what_is_proved_is_in_no_doubt():
    evidence = {"sift_support": 5.0}
    assert leaves_doubt(evidence, Doubt()) and leaves_doubt(evidence | {"identical": 0.0, "untouched": 0.0}, Doubt())
    assert not leaves_doubt(evidence | {"identical": 1.0}, Doubt()) and not leaves_doubt(evidence | {"untouched": 1.0}, Doubt())


@pytest.mark.parametrize(
    ("before", "after", "counts"), [(np.nan, np.nan, 2), (0.2, np.nan, 1), (0.2, 0.1, 1), (0.2, 0.2, 2), (np.nan, 0.1, 2)]
)
def test_the_look_with_which_more_pixels_agree_counts(small_copy, before, after, counts):
    paths, _ = small_copy
    first, second = ((dict(sift.NOTHING) | {"sift_support": 5.0, "sift_agreeing": share}, None) for share in (before, after))
    assert look().improve(first, files(paths), lambda *_: second) is (first, second)[counts - 1]


def test_the_share_that_agrees_is_none_where_nothing_could_be_compared():
    assert agreeing({"sift_agreeing": np.nan}) == 0 and agreeing({"sift_agreeing": 0.3}) == 0.3


@pytest.mark.parametrize("voted", [True, False])
def test_what_a_second_vote_found_is_looked_at_with_its_keypoints(small_copy, voted):
    paths, _ = small_copy
    calls: list[tuple[int, int]] = []
    first = dict(sift.NOTHING) | {"sift_support": 5.0}, None
    second = SecondLook(ANYTHING, voters=COARSE, image_settings=ImageSettings(), cache=None)
    second.improve(first, files(paths), verifier(paths, calls), voted=voted)
    ((of_query, of_reference),) = calls
    assert (of_query <= COARSE.keypoints) == voted and of_reference > COARSE.keypoints


def test_keypoints_are_found_once_and_kept(small_copy, tmp_path, monkeypatch):
    paths, _ = small_copy
    kept = look(cache=tmp_path / "cache")
    assert kept.of_query(*files(paths)[0]) is kept.of_query(*files(paths)[0])
    found = kept.of_query(*files(paths)[0])
    monkeypatch.setattr("matcher.features.extract", lambda *_: pytest.fail("found again"))
    again = look(cache=tmp_path / "cache").of_query(*files(paths)[0])
    assert np.array_equal(again.rows, found.rows) and np.array_equal(again.point, found.point)


def test_a_picture_that_is_gone_is_an_image_error(small_copy):
    paths, _ = small_copy
    described = files(paths)
    Path(paths[0]).unlink()
    with pytest.raises(ImageError, match=r"page\.png"):
        look().improve((dict(sift.NOTHING) | {"sift_support": 5.0}, None), described, verifier([paths[1], paths[1]]))


def test_a_picture_that_is_another_one_by_now_is_an_image_error(small_copy):
    paths, _ = small_copy
    described = files(paths)
    Path(paths[0]).write_bytes(Path(paths[1]).read_bytes())
    with pytest.raises(ImageError, match=r"page\.png has changed since it was described: describe the pictures again") as raised:
        look().improve((dict(sift.NOTHING) | {"sift_support": 5.0}, None), described, verifier(paths))
    assert raised.value.code == "changed"
