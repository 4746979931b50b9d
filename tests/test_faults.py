from dataclasses import asdict

import pytest

from matcher.faults import find_fault, suggest
from matcher.settings import Strategy


@pytest.mark.parametrize(
    ("content", "key", "said"),
    [
        ({"scorers": {"sift": {"again": {"doubt": {"least": 30}}}}}, "s.scorers.sift.again.doubt", "most must be at least 30, not 20.0"),
        ({"scorers": {"sift": {"again": {"query": {"keypoints": -4}}}}}, "s.scorers.sift.again.query", "keypoints must be at least 0"),
        ({"scorers": {"sift": {"again": {"query": {"keypoints": 0}}}}}, "s.scorers.sift.again", "a second look needs keypoints"),
        (
            {"scorers": {"sift": {"again": {"query": {"kind": "sift"}}}}},
            "s.scorers.sift.again",
            "keypoints of kind sift (queries) and corners",
        ),
        ({"query_keypoints": {"kind": "sift"}}, "s", "keypoints of kind sift (queries) and corners (references) cannot be compared"),
        ({"scorers": {"sift": {"again": {"doubt": {"least": float("nan")}}}}}, "s.scorers.sift.again.doubt", "least must be at least 0"),
        ({"scorers": {"pair_model": {"model": "a", "sure": -3, "doubt": {}}}}, "s.scorers.pair_model", "sure and doubt exclude each other"),
        ({"scorers": {"sift": {"again": True}}}, "s.scorers.sift.again", "must be keys and values, not True"),
        ({"shortlist": {"descriptor": [{}, {"per_query": 0}]}}, "s.shortlist.descriptor", "per_query must be at least 1, not 0"),
        ({"scorers": {"pair_model": {"model": "a", "views": [{"querry": []}]}}}, "s.scorers.pair_model.views.querry", None),
        ({"shortlist": {"descriptor": [{"per": 2}]}}, "s.shortlist.descriptor.per", None),
        ({"scorers": {"sift": {"agin": {}}}}, "s.scorers.sift.agin", None),
        ({"query_keypoints": {"keypoints": None}}, "s.query_keypoints.keypoints", "must not be null; leave it out for its default"),
        ({"fusion": None}, "s.fusion", "must not be null"),
        ({"shortlist": {"support": float("nan")}}, "s.shortlist", "support must be at least 0"),
        ({"descriptor": {"backbone": "a", "post": None}}, "s.descriptor.post", "must not be null"),
        (
            {"descriptor": {"backbone": "a", "post": {"subtract": {"nearest": 0}}}},
            "s.descriptor.post.subtract",
            "nearest must be at least 1",
        ),
        ([], "s", "must be keys and values, not []"),
    ],
)
def test_the_innermost_key_that_does_not_fit(content, key, said):
    fault = find_fault(Strategy, content, "s")
    assert fault.key == key and (fault.said is None if said is None else fault.said.startswith(said))


@pytest.mark.parametrize(
    "content",
    [
        {},
        asdict(Strategy()),
        {"scorers": {"sift": None, "pair_model": {"model": "a", "doubt": {}}}, "descriptor": {"backbone": "a"}},
        {"descriptor": {}},  # what lacks and what is of the wrong kind is the parser's to tell
        {"budget": {"pairs_per_query": "many"}},
        {"shortlist": {"descriptor": 3}},
    ],
)
def test_no_fault_where_none_is(content):
    assert find_fault(Strategy, content, "s") is None


def test_a_name_spelt_alike_is_offered_and_no_other():
    assert suggest("keypoint", iter(["full", "keypoints", "d2lv"])) == "; did you mean keypoints?"
    assert suggest("fusion/keypoint.json", ["fusion/keypoints.json"]) == "; did you mean fusion/keypoints.json?"
    assert suggest("fusion/nothere.json", ["fusion/separate.json"]) == ""  # folder and ending are no likeness
    assert suggest("keypoint", ["full", "d2lv"]) == suggest("keypoint", []) == ""
