from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher.errors import UsageError
from matcher.geometry import identity
from matcher.settings import DescriptorSettings, NearestViews, ViewPairs
from matcher.shortlist.rules import check_found, check_rules, nearest
from matcher.shortlist.similarity import PairSimilarity
from matcher.types import Descriptors

NAMES = ["whole", "flip", "left", "overlays"]
KINDS = ["whole", "flip", "left", "overlay"]


def describe(rng, prefix, count):
    """Pictures of which each has some of the views."""
    ids, kinds = [], []
    for n in range(count):
        for kind in rng.permutation(KINDS)[: rng.integers(1, 5)]:
            ids.append(f"{prefix}{n}")
            kinds.append(kind)
    rows = rng.standard_normal((len(ids), 6)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Descriptors(image_id=ids, frame=np.tile(identity(), (len(ids), 1, 1)), kind=kinds, confidence=np.ones(len(ids)), rows=rows)


def slow(both, rules):
    """Every rule, every query, every view, every reference."""
    similarity = both.queries.rows @ both.references.rows.T - both.penalty[:, None]
    best = {}
    for rule in rules:
        asked = {}  # what keeps references of its own -> views of the query
        for q, (query, kind) in enumerate(zip(both.queries.image_id, both.queries.kind, strict=True)):
            mine = both.queries.kind[both.queries.image_id == query].tolist()
            names = rule.query or NAMES
            if rule.first and rule.query:
                names = [name for name in names if KINDS[NAMES.index(name)] in mine][:1]
            if kind in [KINDS[NAMES.index(name)] for name in names]:
                asked.setdefault((query, q) if rule.each else (query,), []).append(q)
        meant = [KINDS[NAMES.index(name)] for name in rule.reference or NAMES]
        for (query, *_), rows in asked.items():
            of = {}
            for r in np.flatnonzero(np.isin(both.references.kind, meant)):
                reference = both.references.image_id[r]
                of[reference] = max([of.get(reference, -np.inf), *(similarity[q, r] - rule.handicap for q in rows)])
            for reference in sorted(of, key=lambda name: -of[name])[: rule.per_query]:
                best[query, reference] = max(best.get((query, reference), -np.inf), of[reference])
    return best


some = st.none() | st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True)
rule = st.builds(
    NearestViews,
    query=some,
    reference=some,
    first=st.booleans(),
    each=st.booleans(),
    handicap=st.sampled_from([0.0, 0.3]),
    per_query=st.integers(1, 4),
)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.lists(rule, min_size=1, max_size=3))
def test_agrees_with_a_slow_loop(seed, rules):
    rng = np.random.default_rng(seed)
    queries, references = describe(rng, "q", 4), describe(rng, "r", 6)
    both = PairSimilarity(queries, references, rng.uniform(0, 0.5, len(queries)).astype(np.float32))
    found, expected = nearest(both, rules), slow(both, rules)
    pairs = list(zip(found.query_id.tolist(), found.reference_id.tolist(), strict=True))
    assert set(pairs) == set(expected)
    assert np.allclose(found.similarity, [expected[pair] for pair in pairs], atol=1e-5)
    for query in set(found.query_id.tolist()):
        assert (np.diff(found.similarity[found.query_id == query]) <= 0).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), rule, st.integers(1, 3))
def test_votes_keep_what_enough_lists_hold(seed, rule, votes):
    rng = np.random.default_rng(seed)
    queries, references = describe(rng, "q", 4), describe(rng, "r", 6)
    members = []
    for _ in range(3):
        sides = [replace(side, rows=rng.permutation(side.rows)) for side in (queries, references)]
        members.append(PairSimilarity(*sides, rng.uniform(0, 0.5, len(queries)).astype(np.float32)))
    rule = replace(rule, each=False)
    lists = [slow(member, [rule]) for member in members]
    expected = {pair: max(one.get(pair, -np.inf) for one in lists) for pair in set().union(*lists)}
    expected = {pair: value for pair, value in expected.items() if sum(pair in one for one in lists) >= votes}
    found = nearest(PairSimilarity(queries, references, np.zeros(len(queries)), members), [replace(rule, votes=votes)])
    pairs = list(zip(found.query_id.tolist(), found.reference_id.tolist(), strict=True))
    assert set(pairs) == set(expected)
    assert np.allclose(found.similarity, [expected[pair] for pair in pairs], atol=1e-5)


def test_with_each_the_votes_are_about_a_view():
    """Two descriptors find one reference, each by another view of the query: no view has both votes."""
    frames, ones = np.tile(identity(), (2, 1, 1)), np.ones(2)
    axes = np.eye(4, dtype=np.float32)

    def of(query_rows, reference_rows):
        queries = Descriptors(image_id=["q", "q"], frame=frames, kind=["whole", "left"], confidence=ones, rows=query_rows)
        references = Descriptors(image_id=["r", "s"], frame=frames, kind=["whole"] * 2, confidence=ones, rows=reference_rows)
        return PairSimilarity(queries, references, np.zeros(2, dtype=np.float32))

    first, second = of(axes[[0, 1]], axes[[0, 1]]), of(axes[[1, 0]], axes[[0, 1]])
    both = PairSimilarity(first.queries, first.references, first.penalty, [first, second])
    assert len(nearest(both, [NearestViews(per_query=1, each=True, votes=2)])) == 0
    assert set(nearest(both, [NearestViews(per_query=1, each=True, votes=1)]).reference_id.tolist()) == {"r", "s"}
    assert nearest(both, [NearestViews(per_query=1, votes=2)]).reference_id.tolist() == ["r"]  # both break the tie alike


def test_rules_name_what_is_described():
    settings = DescriptorSettings(backbone="x", query_views=["whole", "overlays"], reference_views=["grid2"])
    check_rules([NearestViews(), NearestViews(query=["overlays"], reference=["grid2_1_1"])], settings)
    with pytest.raises(UsageError, match=r"wants the reference view 'whole', but descriptor.reference_views does not describe 'whole'"):
        check_rules([NearestViews(reference=["whole"])], settings)


def test_no_more_votes_than_descriptors():
    check_rules([NearestViews(votes=2)], DescriptorSettings(backbone=["x", "grey:x"]))
    with pytest.raises(UsageError, match=r"wants votes of 3 descriptors, and descriptor.backbone names 2"):
        check_rules([NearestViews(votes=3)], DescriptorSettings(backbone=["x", "grey:x"]))
    with pytest.raises(UsageError, match="votes must be at least 1"):
        NearestViews(votes=0)


def test_what_must_be_found_is_described():
    settings = DescriptorSettings(backbone="x", query_views=["whole", "overlays"])
    check_found([ViewPairs(query=["overlays", "third_grid"], reference=["tiles"]), ViewPairs()], settings)
    check_found([ViewPairs(query=["third_grid"])], None)
    with pytest.raises(UsageError, match="wants the reference view 'proposals'"):
        check_found([ViewPairs(reference=["proposals"])], settings)
    with pytest.raises(UsageError, match="wants the query view 'overlays'"):
        check_found([ViewPairs(query=["overlays"])], None)
    with pytest.raises(UsageError, match="no view named 'wholle'"):
        check_found([ViewPairs(query=["wholle"])], None)
