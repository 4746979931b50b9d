"""Every step against a slow version, by its formula; and the properties that the published versions have."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from matcher.errors import UsageError
from matcher.postprocessing import move, nearest, sample, smoothed, stretch, subtract, unit, whitener
from matcher.settings import PostSettings, SampleSettings, StretchSettings, SubtractSettings, WhitenSettings

QUICK = examples(max_examples=30, deadline=None)


def rows(count, width=6, seed=0):
    return unit(np.random.default_rng(seed).standard_normal((count, width)) + 0.4)


def one(x):
    return x / np.sqrt(sum(value**2 for value in x))


def closest(x, others, count):
    return sorted(range(len(others)), key=lambda n: -float(x @ others[n]))[:count]


@QUICK
@given(st.integers(0, 1000), st.integers(1, 8))
def test_the_nearest_are_those_with_the_largest_products(seed, count):
    some, others = rows(5, seed=seed), rows(9, seed=seed + 1)
    found = nearest(some, others, count)
    assert [list(each) for each in found] == [closest(x, others, count) for x in some]
    own = nearest(others, others, count, own=0)
    assert all(n not in each for n, each in enumerate(own))


@QUICK
@given(st.integers(0, 1000), st.integers(1, 3))
def test_subtraction_agrees_with_a_slow_one(seed, iterations):
    some, strangers = rows(4, seed=seed), rows(12, seed=seed + 1).astype(np.float64)
    settings = SubtractSettings(nearest=3, weight=0.4, iterations=iterations, smooth_nearest=4)
    smooth = np.array([one(sum((t @ strangers[j]) ** 3 * strangers[j] for j in closest(t, strangers, 4))) for t in strangers])
    assert np.allclose(smoothed(strangers, settings), smooth, atol=1e-6)
    for x, found in zip(some.astype(np.float64), subtract(some, smoothed(strangers, settings), settings), strict=True):
        for _ in range(iterations):
            x = one(x - 0.4 * sum(smooth[j] for j in closest(x, smooth, 3)) / 3)
        assert np.allclose(found, x, atol=1e-6) and np.linalg.norm(found) == pytest.approx(1, abs=1e-6)


def test_subtraction_of_nothing_changes_nothing_and_of_itself_only_the_length():
    some, strangers = rows(4), rows(12, seed=1)
    assert np.allclose(subtract(some, strangers, SubtractSettings(weight=0.0, nearest=3)), some, atol=1e-6)
    alone = subtract(some, np.concatenate([some[:1], -some[:1]]), SubtractSettings(nearest=1))
    assert np.allclose(alone[0], some[0], atol=1e-6)  # N(x (1 - weight)) = x


@QUICK
@given(st.integers(0, 1000), st.booleans())
def test_sample_normalisation_agrees_with_a_slow_one(seed, by_dimension):
    some, strangers = rows(3, seed=seed).astype(np.float64), rows(12, seed=seed + 1).astype(np.float64)
    settings = SampleSettings(neighbours=5, nearest=2, weight=1.8, by_dimension=by_dimension)
    for q, found in zip(some, sample(some, strangers, settings), strict=True):
        around = [strangers[j] for j in closest(q, strangers, 5)]
        away = [q - t for t in around]
        if by_dimension:
            norms = [np.sqrt(sum(difference[d] ** 2 for difference in away)) for d in range(6)]
            away = [difference / norms for difference in away]
        else:
            away = [one(difference) for difference in away]
        c = max(0, np.mean([1 - (q - t) @ (q - t) / 2 for t in around[:2]]))  # from the squared distance, as published
        assert np.allclose(found, q + 1.8 * np.sqrt(c) * one(sum(away) / 5), atol=1e-6)


def test_stretching_agrees_with_a_slow_one():
    some, strangers = rows(3), rows(12, seed=1)
    for q, found in zip(some, stretch(some, strangers, StretchSettings(nearest=4)), strict=True):
        assert np.allclose(found, 2.5 * np.mean([q @ strangers[j] for j in closest(q, strangers, 4)]) * q, atol=1e-6)


def test_whitened_strangers_vary_alike_in_every_direction():
    strangers = unit(np.random.default_rng(0).standard_normal((400, 6)) * [5, 3, 2, 1, 0.5, 0.2])
    project = whitener(strangers, WhitenSettings(dim=4))
    mean, (values, vectors) = strangers.mean(axis=0), np.linalg.eigh(np.cov(strangers.T, bias=True))
    slow = (strangers - mean) @ (vectors[:, ::-1] / np.sqrt(values[::-1]))[:, :4]
    slow /= np.linalg.norm(slow, axis=1, keepdims=True)
    found = project(strangers)
    assert found.shape == (400, 4) and np.allclose(np.abs(found), np.abs(slow), atol=1e-3)  # eigenvectors have no sign
    assert np.allclose(found @ found.T, slow @ slow.T, atol=2e-3)
    with pytest.raises(UsageError, match="more strangers than 6; there are 6"):
        whitener(strangers[:6], WhitenSettings())


def test_the_steps_come_in_their_order():
    queries, references, strangers = rows(4), rows(5, seed=1), rows(200, seed=2)
    post = PostSettings(WhitenSettings(dim=5), SubtractSettings(nearest=3), SampleSettings(neighbours=9), StretchSettings())
    project = whitener(strangers, WhitenSettings(dim=5))
    smooth = smoothed(project(strangers), post.subtract)
    others = subtract(project(strangers), smooth, post.subtract, own=True)
    slow = subtract(project(queries), smooth, post.subtract)
    slow = stretch(sample(slow, others, post.sample), others, post.stretch)
    found = move(queries, references, strangers, post)
    assert np.allclose(found.queries * found.length[:, None], slow, atol=1e-5)
    assert np.allclose(np.linalg.norm(found.queries, axis=1), 1, atol=1e-6) and len(set(found.length.tolist())) == 4
    assert np.allclose(found.references, subtract(project(references), smooth, post.subtract), atol=1e-6)


def test_without_steps_nothing_moves():
    queries, references, strangers = rows(4), rows(5, seed=1), rows(9, seed=2)
    found = move(queries, references, strangers, PostSettings())
    assert found.queries is queries and found.references is references and found.background is strangers and (found.length == 1).all()


@pytest.mark.parametrize("step", [SubtractSettings(nearest=3), SampleSettings(neighbours=5), StretchSettings()])
def test_a_row_is_its_own_affair(step):
    """What becomes of a row depends on it and on the strangers, never on the company."""
    some, strangers = rows(6), rows(20, seed=1)
    act = {SubtractSettings: subtract, SampleSettings: sample, StretchSettings: stretch}[type(step)]
    assert np.allclose(act(some, strangers, step)[2:3], act(some[2:3], strangers, step), atol=1e-6)
    assert act(some[:0], strangers, step).shape == (0, 6)


@pytest.mark.parametrize(
    "wrong", [lambda: SampleSettings(neighbours=2, nearest=3), lambda: StretchSettings(factor=0), lambda: SubtractSettings(nearest=0)]
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(UsageError):
        wrong()


def test_more_neighbours_than_strangers_are_refused():
    with pytest.raises(UsageError, match="10 nearest strangers are asked for, and the background holds 5"):
        subtract(rows(2), rows(5), SubtractSettings())


def test_published_constants_are_the_defaults():
    assert (SubtractSettings().nearest, SubtractSettings().weight, SubtractSettings().iterations) == (10, 0.35, 1)
    assert (SubtractSettings().smooth_nearest, SubtractSettings().smooth_power) == (10, 3)
    assert (SampleSettings().neighbours, SampleSettings().nearest, SampleSettings().weight) == (100, 3, 1.8)
    assert SampleSettings().by_dimension and (StretchSettings().nearest, StretchSettings().factor) == (5, 2.5)
    assert (WhitenSettings().power, WhitenSettings().dim) == (0.5, None)
