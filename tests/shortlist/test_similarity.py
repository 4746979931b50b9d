"""Similarities of an ensemble, and those of its members."""

from dataclasses import replace

import numpy as np
import pytest

from matcher.background import Background, load_background
from matcher.errors import UsageError
from matcher.geometry import identity
from matcher.postprocessing import move
from matcher.settings import DescriptorSettings, NearestViews, PostSettings, SampleSettings, StretchSettings
from matcher.shortlist import similarity
from matcher.shortlist.rules import nearest as nearest_references
from matcher.shortlist.similarity import compare_views
from matcher.types import Descriptors

SETTINGS = DescriptorSettings(backbone=["one", "two", "three"], background="b", background_weight=0.5, background_nearest=2)


def unit(rng, rows, parts=3, width=5):
    vectors = rng.standard_normal((rows, parts, width))
    return (vectors / np.linalg.norm(vectors, axis=2, keepdims=True)).astype(np.float32)


def describe(vectors, prefix):
    count = len(vectors)
    rows = vectors.reshape(count, -1) / np.sqrt(vectors.shape[1])
    frames = np.tile(identity(), (count, 1, 1))
    ids = [f"{prefix}{n // 2}" for n in range(count)]
    return Descriptors(image_id=ids, frame=frames, kind=["whole"] * count, confidence=np.ones(count), rows=rows)


@pytest.fixture
def sides(monkeypatch):
    rng = np.random.default_rng(0)
    query, reference, strangers = unit(rng, 6), unit(rng, 8), unit(rng, 9)
    flat = (strangers.reshape(9, -1) / np.sqrt(3)).astype(np.float32)
    made = Background(flat, np.zeros((0, 16), np.uint8), {})
    monkeypatch.setattr(similarity, "load_background", lambda settings, **sides: made if settings.background else None)
    return query, reference, strangers


def normalised(query, reference, strangers):
    """Unit vectors of one descriptor: similarities less half the mean of the two nearest strangers'."""
    return query @ reference.T - 0.5 * np.sort(query @ strangers.T, axis=1)[:, -2:].mean(axis=1)[:, None]


def between(found, queries=3, references=4):
    return np.block([[found.between(f"q{q}", f"r{r}") for r in range(references)] for q in range(queries)])


def test_every_member_is_normalised_by_its_own_part(sides):
    query, reference, strangers = sides
    found = compare_views(describe(query, "q"), describe(reference, "r"), SETTINGS)
    assert len(found.members) == 3
    for n, member in enumerate(found.members):
        expected = normalised(query[:, n], reference[:, n], strangers[:, n])
        assert np.allclose(between(member), expected, atol=1e-5) and not member.members
    together = [side.reshape(len(side), -1) / np.sqrt(3) for side in sides]
    assert np.allclose(between(found), normalised(*together), atol=1e-5)


def test_one_descriptor_has_no_members_and_no_background_takes_nothing_off(sides):
    query, reference, _ = sides
    alone = replace(SETTINGS, backbone="one", background=None)
    found = compare_views(describe(query, "q"), describe(reference, "r"), alone)
    assert not found.members and not found.penalty.any()


@pytest.mark.parametrize("empty", [0, 1])
def test_a_side_without_views(sides, empty):
    both = [describe(sides[0], "q"), describe(sides[1], "r")]
    both[empty] = Descriptors.empty()
    found = compare_views(*both, SETTINGS)
    assert len(found.members) == 3 and len(found.penalty) == len(both[0]) and not found.has("q0", "r0")


@pytest.mark.parametrize("post", [PostSettings(stretch=StretchSettings(nearest=3)), PostSettings(sample=SampleSettings(neighbours=5))])
def test_queries_of_other_lengths_are_compared_by_their_distance(sides, post):
    """1 - |q' - r|^2 / 2, which orders the references of a query as the published squared distance does; strangers likewise."""
    query, reference, strangers = (side.reshape(len(side), -1) / np.sqrt(3) for side in sides)
    moved = move(query, reference, strangers, post)
    longer = moved.queries * moved.length[:, None]
    alike, to_strangers = (1 - ((longer[:, None] - others[None]) ** 2).sum(axis=2) / 2 for others in (reference, strangers))
    for weight in (0.0, 0.5, 1.0):
        settings = replace(SETTINGS, backbone="one", post=post, background_weight=weight)
        found = between(compare_views(describe(sides[0], "q"), describe(sides[1], "r"), settings))
        nearest = np.sort(to_strangers, axis=1)[:, -settings.background_nearest :].mean(axis=1)
        assert np.allclose(found, alike - weight * nearest[:, None], atol=1e-5)


def test_the_nearest_under_a_length_are_those_of_a_slow_search(sides):
    settings = replace(SETTINGS, backbone="one", post=PostSettings(sample=SampleSettings(neighbours=5)))
    found = compare_views(describe(sides[0], "q"), describe(sides[1], "r"), settings)
    listed = nearest_references(found, [NearestViews(per_query=2)])
    for q in range(3):
        best = sorted(range(4), key=lambda r: -found.between(f"q{q}", f"r{r}").max())[:2]
        rows = listed.query_id == f"q{q}"
        assert listed.reference_id[rows].tolist() == [f"r{r}" for r in best]
        assert np.allclose(listed.similarity[rows], [found.between(f"q{q}", f"r{r}").max() for r in best], atol=1e-5)


def test_an_extra_dimension_does_what_subtraction_does(sides):
    """The challenge's trick: the penalty as one more coordinate. It never changes the order inside one query's view."""
    query, reference, strangers = (side.reshape(len(side), -1) / np.sqrt(3) for side in sides)
    found = between(compare_views(describe(sides[0], "q"), describe(sides[1], "r"), replace(SETTINGS, backbone="one")))
    bias = -0.5 * np.sort(query @ strangers.T, axis=1)[:, -2:].mean(axis=1)
    wider = np.column_stack([query, bias]) @ np.column_stack([reference, np.ones(len(reference))]).T
    assert np.allclose(found, wider, atol=1e-5)
    assert np.array_equal(np.argsort(-found, axis=1), np.argsort(-(query @ reference.T), axis=1))


def test_steps_need_a_background():
    with pytest.raises(UsageError, match=r"descriptor\.post moves descriptors away from a background"):
        load_background(DescriptorSettings(backbone="one", post=PostSettings(stretch=StretchSettings())))
