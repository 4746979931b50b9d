"""Words against loops, on vocabularies small enough to count by hand."""

import numpy as np
import pytest

from matcher.errors import MatcherError, UsageError
from matcher.index import Index
from matcher.settings import IndexSettings
from matcher.visual_words import NEAR, WIDTH, companions, rarity, stored_words, words_of

AXES = np.eye(3, 4, dtype=np.float32)  # a vocabulary of three words


def near(words, *, seed=0, spread=0.1):
    """Words -> rows close to them: unit float32 (N, 4)."""
    rows = AXES[words] + spread * np.random.default_rng(seed).standard_normal((len(words), 4))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def build(rows, ids=None, *, words=AXES, **more):
    settings = IndexSettings(**{"kind": "words", "bits": 0, "gpu": "no"} | more)
    return Index.build(rows, np.arange(len(rows)) if ids is None else ids, settings, made_by="test", words=words)


def as_dict(found):
    return {(int(query), int(id_)): float(weight) for query, id_, weight in zip(*found, strict=True)}


def test_words_by_hand():
    stored, asked = [0, 0, 0, 1, 1, 2], [1, 2, 0]
    index = build(near(stored), ids=np.arange(6) * 10)
    assert words_of(index, near(asked, seed=1)).tolist() == asked
    idf = {0: np.log(6 / 3), 1: np.log(6 / 2), 2: np.log(6)}
    expected = {(q, 10 * r): (idf[word] / np.log(6)) ** 2 for q, word in enumerate(asked) for r in range(6) if stored[r] == word}
    assert as_dict(companions(index, near(asked, seed=1))) == pytest.approx(expected, abs=1e-6)
    ids, words = stored_words(index)
    assert dict(zip(ids.tolist(), words.tolist(), strict=True)) == dict(zip(range(0, 60, 10), stored, strict=True))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("bits", [0, 8, 64])
def test_companions_agree_with_a_slow_loop(bits, seed):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 60, (400, 16)).astype(np.uint8)
    queries = np.clip(rows[:30].astype(int) + rng.integers(-9, 10, (30, 16)), 0, 255).astype(np.uint8)
    index = build(rows, words=None, lists=12, bits=bits)
    centroids = index.inverted_file.quantizer.reconstruct_n().astype(float)
    word, asked = (((array[:, None] - centroids) ** 2).sum(axis=2).argmin(axis=1) for array in (rows.astype(float), queries.astype(float)))
    turned = np.random.default_rng(0)
    along = np.concatenate([np.linalg.qr(turned.standard_normal((16, 16)))[0] for _ in range(4)])[: max(bits, 8)]
    expected = {}
    for q, query in enumerate(queries):
        for r in np.flatnonzero(word == asked[q]):
            middle = centroids[word[r]]
            differ = np.count_nonzero((along @ (query - middle) < 0) != (along @ (rows[r] - middle) < 0)) / max(bits, 1) if bits else 0
            if differ <= NEAR:
                idf = np.log(len(rows) / (word == word[r]).sum()) / np.log(len(rows))
                expected[q, int(r)] = idf**2 * np.exp(-((differ / WIDTH) ** 2))
    found = as_dict(companions(index, queries))
    assert found == pytest.approx(expected, abs=1e-5)
    assert len(found) >= 30 and (bits == 0 or len(found) < (word[None] == asked[:, None]).sum())


def test_a_weight_depends_on_the_collection_and_companions_do_not():
    rows, query = near([0, 0, 1, 1, 2]), near([0], seed=1)
    index = build(rows)
    before = as_dict(companions(index, query))
    index.add(near([2] * 20, seed=2), np.arange(100, 120))  # others: the word is rarer now
    after = as_dict(companions(index, query))
    assert before.keys() == after.keys() and all(after[key] > before[key] for key in before)
    index.add(near([0], seed=3), [7])
    more = as_dict(companions(index, query))
    assert more.keys() == {*before, (0, 7)} and all(more[key] < after[key] for key in before)
    index.remove([7, 0])
    assert as_dict(companions(index, query)).keys() == {(0, 1)}
    assert rarity(build(near([0, 0])), np.array([0, 1])).tolist() == [0, 1]  # all rows have it, none has it


def test_saved_and_loaded_finds_the_same(tmp_path):
    rows = np.random.default_rng(0).integers(0, 60, (500, 16)).astype(np.uint8)
    index = build(rows, words=None, lists=10, bits=16)
    index.save(tmp_path)
    loaded = Index.load(tmp_path, made_by="test")
    assert as_dict(companions(index, rows[:50])) == as_dict(companions(loaded, rows[:50]))
    assert all(np.array_equal(first, second) for first, second in zip(stored_words(index), stored_words(loaded), strict=True))


def test_nothing_asked_and_nothing_there():
    for found in (companions(build(near([0, 1])), np.empty((0, 4), np.float32)), companions(build(near([])), near([0, 1]))):
        assert [len(part) for part in found] == [0, 0, 0]


def test_what_has_no_words_is_refused():
    rows = near([0, 1, 2])
    with pytest.raises(MatcherError, match="kind flat has no words"):
        companions(build(rows, words=None, kind="flat"), rows)
    with pytest.raises(UsageError, match="kind binary takes no words"):
        build(rows, kind="binary", bits=8)
    with pytest.raises(MatcherError, match="texts as ids"):
        companions(build(rows, ids=np.array(["a", "b", "c"])), rows)
    with pytest.raises(MatcherError, match="rows of"):
        words_of(build(rows), rows[:, :3])


@pytest.mark.parametrize(
    ("more", "said"), [({"bits": 12}, "multiple of 8"), ({"bits": -8}, "at least 0"), ({"bits": 0, "kind": "binary"}, "at least 8")]
)
def test_bits_are_checked(more, said):
    with pytest.raises(UsageError, match=said):
        IndexSettings(**{"kind": "words"} | more)
