import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher.errors import MatcherError
from matcher.geometry import from_box
from matcher.index import Index
from matcher.settings import IndexSettings
from matcher.shortlist.neighbours import neighbours
from matcher.types import Descriptors


def describe(ids, rng, dim=8, rows=None):
    rows = rng.standard_normal((len(ids), dim)).astype(np.float32) if rows is None else rows
    frames = np.stack([from_box(0, 0, 1, (i + 1) / len(ids)) for i in range(len(ids))]) if len(ids) else np.empty((0, 3, 3))
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return Descriptors(image_id=ids, frame=frames, kind=["whole"] * len(ids), confidence=np.ones(len(ids)), rows=rows)


def slow(queries, references, per_query, penalty=0.0):
    """Every pair of pictures, every pair of views."""
    similarity = queries.rows @ references.rows.T - np.reshape(penalty, (-1, 1))
    answer = []
    for query in dict.fromkeys(queries.image_id.tolist()):
        pairs = []
        for place, reference in enumerate(dict.fromkeys(references.image_id.tolist())):
            views = [
                (-similarity[q, r], r, q)
                for q in np.flatnonzero(queries.image_id == query)
                for r in np.flatnonzero(references.image_id == reference)
            ]
            value, r, q = min(views)
            pairs.append((value, place, query, reference, q, r))
        answer += sorted(pairs)[:per_query]
    return answer


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 9), st.integers(1, 6), st.integers(1, 5))
def test_agrees_with_a_slow_loop(seed, references, views, queries, per_query):
    rng = np.random.default_rng(seed)
    q = describe(rng.permutation(np.repeat([f"q{i}" for i in range(queries)], rng.integers(1, 4, queries))), rng)
    r = describe(rng.permutation(np.repeat([f"r{i}" for i in range(references)], rng.integers(1, views + 1, references))), rng)
    found, expected = neighbours(q, r, per_query=per_query), slow(q, r, per_query)
    assert list(zip(found.query_id.tolist(), found.reference_id.tolist(), strict=True)) == [(e[2], e[3]) for e in expected]
    assert np.allclose(found.similarity, [-e[0] for e in expected], atol=1e-5)
    assert np.array_equal(found.query_frame, q.frame[[e[4] for e in expected]])
    assert np.array_equal(found.reference_frame, r.frame[[e[5] for e in expected]])
    assert set(found.source.tolist()) == {"neighbours"}


def test_many_near_views_of_one_reference_do_not_crowd_out_the_others():
    rng = np.random.default_rng(0)
    base = rng.standard_normal(8)
    rows = np.concatenate([base + 1e-3 * rng.standard_normal((300, 8)), rng.standard_normal((5, 8))])
    references = describe(["loud"] * 300 + list("abcde"), rng, rows=rows)
    found = neighbours(describe(["q"], rng, rows=base[None]), references, per_query=4)
    assert found.reference_id[0] == "loud" and len(set(found.reference_id.tolist())) == 4


def test_equal_views_go_to_what_comes_first():
    rng = np.random.default_rng(0)
    rows = np.tile(rng.standard_normal((1, 8)), (6, 1))
    found = neighbours(describe(["q", "q"], rng, rows=rows[:2]), describe(["b", "a", "b", "c", "a", "c"], rng, rows=rows), per_query=2)
    assert found.reference_id.tolist() == ["b", "a"]
    assert np.array_equal(found.reference_frame, describe(["b", "a", "b", "c", "a", "c"], rng, rows=rows).frame[:2])


def test_more_asked_than_there_is_and_nothing_at_all():
    rng = np.random.default_rng(0)
    some, none = describe(["a", "b", "a"], rng), Descriptors.empty()
    assert len(neighbours(some, some, per_query=50)) == 4
    assert len(neighbours(none, some, per_query=5)) == 0
    assert len(neighbours(some, none, per_query=5)) == 0


def test_with_lists_every_query_keeps_its_nearest_when_all_are_probed():
    rng = np.random.default_rng(0)
    references = describe([f"r{i // 3}" for i in range(900)], rng)
    queries = describe([f"q{i // 2}" for i in range(20)], rng)
    lists = Index.build(references.rows, np.arange(900), IndexSettings(kind="ivf", lists=8, probes=8), made_by="m")
    exact, ours = neighbours(queries, references, per_query=5), neighbours(queries, references, per_query=5, index=lists)
    assert (exact.reference_id == ours.reference_id).mean() > 0.95
    few = Index.build(references.rows, np.arange(900), IndexSettings(kind="ivf", lists=8, probes=1), made_by="m")
    narrow = neighbours(queries, references, per_query=300, index=few)  # one list cannot hold them all: it ends all the same
    assert 0 < len(narrow) < 10 * 300


def test_an_index_of_other_references_is_refused():
    rng = np.random.default_rng(0)
    index = Index.build(rng.standard_normal((3, 8)).astype(np.float32), np.arange(3), IndexSettings(), made_by="m")
    with pytest.raises(MatcherError, match="3 rows"):
        neighbours(describe(["q"], rng), describe(["a", "b"], rng), per_query=1, index=index)


@pytest.mark.parametrize("per_query", [1, 3, 50])
def test_what_is_taken_off_a_view_is_taken_off_before_the_best_is_chosen(per_query):
    rng = np.random.default_rng(3)
    queries, references = describe([f"q{n // 4}" for n in range(24)], rng), describe([f"r{n // 3}" for n in range(60)], rng)
    penalty = rng.uniform(-0.8, 0.8, 24).astype(np.float32)
    found, expected = neighbours(queries, references, per_query=per_query, penalty=penalty), slow(queries, references, per_query, penalty)
    assert list(zip(found.query_id.tolist(), found.reference_id.tolist(), strict=True)) == [(e[2], e[3]) for e in expected]
    assert np.allclose(found.similarity, [-e[0] for e in expected], atol=1e-5)
    assert np.array_equal(found.query_frame, queries.frame[[e[4] for e in expected]])
    assert not np.array_equal(found.query_frame, neighbours(queries, references, per_query=per_query).query_frame)


def test_nobody_asked_for_means_nobody():
    some = describe(["a", "b", "a"], np.random.default_rng(0))
    assert len(neighbours(some, some, per_query=0)) == 0
