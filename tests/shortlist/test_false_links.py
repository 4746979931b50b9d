"""Strangers whose similarities are known: directions drawn evenly on a sphere."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta

from matcher.background import Background
from matcher.errors import MatcherError, UsageError
from matcher.settings import DescriptorSettings, PostSettings, WhitenSettings
from matcher.shortlist.false_links import between_strangers, expect_false_links, thresholds_of

SETTINGS = DescriptorSettings(backbone="one", background="b", background_weight=0.0)


def strangers(count=1500, width=12, seed=0):
    rows = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    return Background(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.zeros((0, 16), np.uint8), {})


def true_threshold(share, width=12):
    """(1 + cosine) / 2 of two such directions follows a beta distribution."""
    return 2 * beta((width - 1) / 2, (width - 1) / 2).isf(share) - 1


def test_thresholds_are_those_of_the_true_distribution():
    found = expect_false_links(strangers(), SETTINGS, gallery=100)
    assert found.pairs == 250_000 and [row.queries for row in found.thresholds] == [1, 10, 100, 1_000, 10_000]
    assert [row.counted for row in found.thresholds] == [True, True, False, False, False]
    for row in found.thresholds:
        assert row.similarity.value == pytest.approx(true_threshold(1 / (100 * row.queries)), abs=0.03)
        assert row.similarity.low <= row.similarity.value <= row.similarity.high
    values = [row.similarity.value for row in found.thresholds]
    assert values == sorted(values)
    assert found.as_dict()["gallery"] == 100
    head, _, names, *rows, _, by, trust, note = str(found).split("\n")
    assert head.startswith("Against 100 references, a query that is a copy of nothing finds one as alike as this by chance")
    assert names.split()[:4] == ["how", "often", "at", "or"] and "By 250,000 pairs of strangers" in by and "row you can live with" in trust
    assert [row.endswith("extrapolated") for row in rows] == [False, False, True, True, True] and note.startswith("extrapolated: ")
    assert rows[0].split()[:4] == ["in", "every", "query", f"{found.thresholds[0].similarity.value:.4f}"]
    assert rows[4].startswith("in one of 10,000 ")


def test_more_references_need_a_higher_threshold():
    few, many = (expect_false_links(strangers(), SETTINGS, gallery=count) for count in (10, 1000))
    assert many.thresholds[0].similarity.value == pytest.approx(few.thresholds[2].similarity.value)


def test_similarities_are_normalised_by_strangers_that_are_neither():
    some = strangers(count=300)
    normalised = DescriptorSettings(backbone="one", background="b", background_weight=1.0, background_nearest=2)
    found, highest = between_strangers(some, normalised)
    queries, references, rest = np.array_split(some.rows, 3)
    penalty = np.sort(queries @ rest.T, axis=1)[:, -2:].mean(axis=1)
    assert np.allclose(found, queries @ references.T - penalty[:, None], atol=1e-3) and highest == pytest.approx(
        1 - penalty.min(), abs=1e-3
    )


def test_a_background_that_repeats_itself_has_no_rare_threshold():
    some = strangers(count=600)
    some.rows[200:400] = some.rows[:200]
    last = expect_false_links(some, SETTINGS, gallery=1000).thresholds[-1]
    assert np.isnan(last.similarity.value)
    lines = str(expect_false_links(some, SETTINGS, gallery=1000)).split("\n")
    assert ["in", "one", "of", "10,000", "-", "out", "of", "reach"] in map(str.split, lines)
    assert lines[-1].startswith("out of reach: some strangers are as")


def test_a_background_too_small_to_be_split_is_told_of():
    whitened = replace(SETTINGS, post=PostSettings(whiten=WhitenSettings(dim=100)))
    with pytest.raises(MatcherError, match="a third of the background's 300 pictures normalises the others: whiten to 100 numbers wants"):
        expect_false_links(strangers(count=300, width=100), whitened, gallery=10)


def test_extrapolation_meets_what_was_counted():
    some = np.random.default_rng(0).exponential(size=200_000)
    counted, rare = thresholds_of(some, [40.5 / len(some), 1e-6])
    assert counted == np.sort(some)[-40] and rare == pytest.approx(-np.log(1e-6), rel=0.15)


def test_what_cannot_be_said():
    with pytest.raises(MatcherError, match="holds 200 pictures: 300 are needed"):
        expect_false_links(strangers(count=200), SETTINGS, gallery=10)
    with pytest.raises(UsageError, match="gallery must be at least 1"):
        expect_false_links(strangers(), SETTINGS, gallery=0)
