from math import nan

import numpy as np
import pytest

from matcher.report.words import also_in_words, evidence_in_words, fact_in_words, location_in_words, percent, spoke_in_words


def test_evidence_reads_as_sentences() -> None:
    words = evidence_in_words({"sift_agreement": 0.91, "sift_inlier_ratio": 0.62, "sift_inliers": 143.0})
    assert words == ["143 matching keypoints agree on one transform (62 % of those that could)", "the pictures' pixels agree there (0.91)"]


def test_absent_evidence_is_not_shown() -> None:
    assert evidence_in_words({"sift_inliers": nan, "identical": nan, "other": nan}) == []
    assert evidence_in_words({"identical": 0.0}) == []
    assert evidence_in_words({"identical": 1.0}) == ["the same file or the same pixels"]


def test_unknown_evidence_is_named() -> None:
    assert evidence_in_words({"cosine": 0.123456, "identical": 1.0}) == ["the same file or the same pixels", "cosine = 0.1235"]


@pytest.mark.parametrize(
    ("inliers", "words"),
    [
        (0, "no matching keypoints agree on one transform"),
        (1, "1 matching keypoint agrees on one transform"),
        (1234, "1,234 matching keypoints agree on one transform"),
    ],
)
def test_inliers_without_ratio(inliers: float, words: str) -> None:
    assert evidence_in_words({"sift_inliers": inliers}) == [words]


def test_order_is_that_of_the_table() -> None:
    words = evidence_in_words({"sift_agreement": 0.9, "sift_spread": 0.25, "sift_inliers": 2.0, "identical": 1.0})
    assert [phrase.split()[0] for phrase in words] == ["the", "2", "the", "the"]
    assert words[2] == "the matches spread over 25 % of the found region"


def test_ratio_without_inliers_and_degrees_of_agreement() -> None:
    assert evidence_in_words({"sift_inlier_ratio": 0.5}) == ["50 % of the keypoints that could match agree on one transform"]
    for agreement, words in ((0.5, "agree in part"), (-0.2, "hardly agree")):
        assert evidence_in_words({"sift_agreement": agreement}) == [f"the pictures' pixels {words} there ({agreement:.2f})"]


@pytest.mark.parametrize(
    ("probability", "words"),
    [(0.0, "0 %"), (1.0, "100 %"), (0.997, "99.7 %"), (0.99999, "> 99.9 %"), (1e-9, "< 0.1 %"), (0.9994, "99.9 %"), (nan, "")],
)
def test_percent_never_rounds_to_certainty(probability: float, words: str) -> None:
    assert percent(probability) == words


def test_location_in_words() -> None:
    assert location_in_words(0.6, 0.337, False) == ["shows 34 % of the reference, on 60 % of the query"]
    assert location_in_words(1.0, 0.001, True) == ["shows less than 1 % of the reference, on all of the query", "mirrored left to right"]
    assert location_in_words(nan, nan, False) == ["where the copy lies was not found"]


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "no keypoint looks the same in both"),
        (1, "1 keypoint looks the same in both, wherever they lie"),
        (1234, "1,234 keypoints look the same in both, wherever they lie"),
    ],
)
def test_what_match_counts_say(count: float, words: str) -> None:
    assert evidence_in_words({"match_count": count}) == [words]
    none = np.full((3, 3), nan)
    assert spoke_in_words({"match_count": count}, none, none) == ["looked at by match counts; none found a region"]


def test_what_a_pair_model_says() -> None:
    told = {"pair_covered_reference": 0.31, "pair_logit": 4.26, "pair_covered_query": 1.0}
    assert evidence_in_words(told) == [
        "the pair model takes it for a copy (+4.3)",
        "it sees all of its view of the query in the reference, and 31 % of the reference in the query",
    ]
    assert evidence_in_words({"pair_logit": -3.04, "pair_covered_query": nan, "pair_covered_reference": nan}) == [
        "the pair model takes it for no copy (-3.0)"
    ]


def test_who_spoke_and_whose_the_region_is() -> None:
    one, other, none = np.eye(3), 2 * np.eye(3), np.full((3, 3), nan)
    both = {"sift_inliers": 9.0, "pair_logit": 1.0, "descriptor_similarity": nan, "identical": 0.0}
    assert spoke_in_words(both, one, other) == ["looked at by keypoints, the pair model; the region is that of keypoints"]
    assert spoke_in_words({"pair_logit": 1.0}, one, one) == ["looked at by the pair model; the region is that of the pair model"]
    assert spoke_in_words(both, none, none) == ["looked at by keypoints, the pair model; none found a region"]
    assert spoke_in_words(both, None, other) == ["looked at by keypoints, the pair model"]
    assert spoke_in_words(both | {"untouched": 1.0}, one, other) == ["looked at by keypoints, the pair model; it is the whole picture"]
    assert spoke_in_words({"identical": 1.0}, one, none) == []


def test_facts_in_words() -> None:
    assert [fact_in_words(value) for value in (12400, 81.53, "a b", True, None)] == ["12,400", "81.5", "a b", "yes", "None"]
    assert fact_in_words({"read_images": 1.5, "score": [1, 2]}) == "read images 1.5, score 1, 2"


def test_further_references_of_a_query_are_named_and_many_are_counted() -> None:
    assert also_in_words([]) == []
    assert also_in_words([("r1", 0.998, True), ("r2", 0.6, False)]) == ["the query also shows r1 (99.8 %, elsewhere), r2 (60.0 %)"]
    assert also_in_words([(f"r{n}", 0.5, False) for n in range(6)])[0].endswith("r3 (50.0 %), 2 more")
