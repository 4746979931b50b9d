import fcntl
import json
import resource
from types import SimpleNamespace

import faiss
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from matcher import index_lists
from matcher.errors import MatcherError, StaleStageError, UsageError
from matcher.index import ABSENT, Index
from matcher.index_card import check_same_maker
from matcher.index_kinds import LISTS, POINTS_PER_LIST, code_size, list_count, stored_rows
from matcher.index_lists import MappedLists
from matcher.settings import IndexSettings

KINDS = ["flat", "fp16", "ivf", "ivfpq", "binary", "words"]
MODEL = "model a, settings 1"


def clustered(count, dim=32, *, seed=0, bytes_=False):
    """Rows around 50 centres: unit float32, or uint8 of norm about 255."""
    rng, centres = np.random.default_rng(seed), np.random.default_rng(99).standard_normal((50, dim))
    rows = centres[rng.integers(0, 50, count)] + 0.5 * rng.standard_normal((count, dim))
    rows = np.abs(rows) if bytes_ else rows
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return np.rint(255 * rows).astype(np.uint8) if bytes_ else rows.astype(np.float32)


def brute(queries, rows, k):
    """Slow and obvious: all inner products in float64, nearest first, ties by place."""
    scale = 255.0**2 if rows.dtype == np.uint8 else 1.0
    similarity = queries.astype(np.float64) @ rows.astype(np.float64).T / scale
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(similarity, order, axis=1), order


def build(kind, rows, ids=None, **more):
    settings = IndexSettings(**{"kind": kind, "gpu": "no", "lists": 20, "probes": 20, "code_bytes": 8} | more)
    return Index.build(rows, np.arange(len(rows)) if ids is None else ids, settings, made_by=MODEL)


def same(first, second):
    return np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])


@pytest.mark.parametrize("bytes_", [False, True])
@pytest.mark.parametrize("kind", KINDS[:4])
def test_against_brute_force(kind, bytes_):
    rows, queries = clustered(3000, bytes_=bytes_), clustered(100, seed=1, bytes_=bytes_)
    expected, expected_ids = brute(queries, rows, 5)
    similarity, ids = build(kind, rows, ids=np.arange(3000) * 7 + 3, code_bytes=16).search(queries, 5)
    assert similarity.dtype == np.float32 and (np.diff(similarity, axis=1) <= 0).all()
    if kind == "ivfpq":
        truly = np.einsum("qd,qkd->qk", queries.astype(float), rows[(ids - 3) // 7].astype(float)) / (255.0**2 if bytes_ else 1)
        assert np.abs(truly - similarity).mean() < 0.03
        assert np.mean([expected_ids[i, 0] in (ids[i] - 3) // 7 for i in range(100)]) > 0.8
    else:  # all lists are probed
        assert np.allclose(similarity, expected, atol=1e-6 if kind == "flat" or bytes_ else 1e-3)
        assert ((ids - 3) // 7 == expected_ids).mean() > (0.999 if kind == "flat" else 0.97)


@pytest.mark.parametrize("bits", [8, 64, 256])
@pytest.mark.parametrize("bytes_", [False, True])
def test_binary_is_the_hamming_distance_of_signs(bits, bytes_):
    rows, queries = clustered(1500, bytes_=bytes_), clustered(40, seed=1, bytes_=bytes_)
    similarity, ids = build("binary", rows, bits=bits).search(queries, 5)
    sample = np.sort(np.random.default_rng(0).permutation(1500)[: 20 * POINTS_PER_LIST])
    mean = rows[sample].astype(float).mean(axis=0)
    rng = np.random.default_rng(0)
    along = np.concatenate([np.linalg.qr(rng.standard_normal((32, 32)))[0] for _ in range(8)])[:bits]
    differ = ((queries - mean) @ along.T < 0)[:, None] != ((rows - mean) @ along.T < 0)
    cosine = np.cos(np.pi * differ.sum(axis=2) / bits)  # all lists are probed
    assert np.abs(similarity - np.sort(cosine, axis=1)[:, ::-1][:, :5]).max() < 1e-3 + 4 / bits * (
        bits > 64
    )  # a sign may round the other way
    assert np.abs(np.take_along_axis(cosine, ids, axis=1) - similarity).max() < 1e-3 + 4 / bits * (bits > 64)
    truly = brute(queries, rows - mean, 1)[1][:, 0] if not bytes_ else brute(queries, rows, 1)[1][:, 0]
    assert (ids == truly[:, None]).any(axis=1).mean() > {8: 0.02, 64: 0.4, 256: 0.8}[bits]


def test_a_small_angle_is_estimated_from_the_bits():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((2000, 64)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    near = rows + 0.05 * rng.standard_normal(rows.shape)
    near = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)
    similarity, ids = build("binary", rows, bits=512).search(near[:200], 1)
    assert (ids[:, 0] == np.arange(200)).all()
    assert np.abs(similarity[:, 0] - (near[:200] * rows[:200]).sum(axis=1)).mean() < 0.02


@pytest.mark.parametrize("bytes_", [False, True])
def test_few_probes_still_find_most(bytes_):
    rows, queries = clustered(4000, bytes_=bytes_), clustered(200, seed=1, bytes_=bytes_)
    nearest = brute(queries, rows, 1)[1][:, 0]
    few = (build("ivf", rows, lists=64, probes=4).search(queries, 1)[1][:, 0] == nearest).mean()
    assert few > 0.7
    assert (build("ivf", rows, lists=64, probes=64).search(queries, 1)[1][:, 0] == nearest).mean() >= max(few, 0.97)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_added_is_found_and_what_is_removed_is_not(kind):
    rows = clustered(2000)
    index = build(kind, rows[:1500], code_bytes=16)
    index.add(rows[1500:], np.arange(1500, 2000))
    assert len(index) == 2000 and (index.search(rows[1500:], 1)[1][:, 0] == np.arange(1500, 2000)).mean() > 0.9
    index.remove(np.arange(1000, 2000, 2))
    assert len(index) == 1500 and not np.isin(index.search(rows, 10)[1], np.arange(1000, 2000, 2)).any()
    assert np.array_equal(index.ids(), np.setdiff1d(np.arange(2000), np.arange(1000, 2000, 2)))
    index.add(rows[1000:1001], np.array([1000]))
    assert 1000 in index.search(rows[1000:1001], 3)[1]


@pytest.mark.parametrize("bytes_", [False, True])
@pytest.mark.parametrize("kind", ["flat", "fp16", "ivf"])
def test_merged_is_built_at_once(kind, bytes_):
    rows, queries = clustered(2000, bytes_=bytes_), clustered(50, seed=1, bytes_=bytes_)
    merged = build(kind, rows[:1200])
    merged.merge(build(kind, rows[1200:], ids=np.arange(1200, 2000)))
    assert len(merged) == 2000 and same(merged.search(queries, 5), build(kind, rows).search(queries, 5))


@pytest.mark.parametrize("kind", ["ivf", "ivfpq", "binary", "words"])
def test_lists_learnt_together_are_joined(kind):
    rows, queries = clustered(2000), clustered(50, seed=1)
    whole, first = build(kind, rows), build(kind, rows)
    first.remove(np.arange(900, 2000))
    second = first.emptied()
    assert len(second) == 0 and len(first) == 900
    second.add(rows[900:], np.arange(900, 2000))
    first.merge(second)
    assert same(first.search(queries, 5), whole.search(queries, 5))
    assert len(second) == 1100 and second.search(queries, 1)[1].min() >= 900  # merging takes nothing away
    with pytest.raises(MatcherError, match="twice"):
        first.merge(second)


@pytest.mark.parametrize("kind", ["ivfpq", "binary", "words"])
def test_merging_codes_of_other_training_is_refused(kind):
    with pytest.raises(MatcherError, match=f"{kind}.*emptied"):
        build(kind, clustered(1000)).merge(build(kind, clustered(1000, seed=5), ids=np.arange(1000, 2000)))


def test_one_process_writes_an_index_in_a_folder_at_a_time(tmp_path):
    index = build("flat", clustered(200))
    index.save(tmp_path)
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(MatcherError, match="is working in"):
            index.save(tmp_path)
    assert Index.exists(tmp_path) and len(Index.load(tmp_path, made_by=MODEL)) == 200


@pytest.mark.parametrize("bytes_", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_finds_the_same(kind, bytes_, tmp_path):
    rows, queries = clustered(2000, bytes_=bytes_), clustered(50, seed=1, bytes_=bytes_)
    index = build(kind, rows, probes=5)
    assert not Index.exists(tmp_path / "deep" / "index")
    index.save(tmp_path / "deep" / "index")
    assert Index.exists(tmp_path / "deep" / "index")
    loaded = Index.load(tmp_path / "deep" / "index", made_by=MODEL, gpu="no")
    assert len(loaded) == 2000 and loaded.card == index.card and same(index.search(queries, 7), loaded.search(queries, 7))
    loaded.remove([3])
    assert len(loaded) == 1999


@pytest.mark.parametrize("kind", ["ivf", "ivfpq", "binary", "words"])
def test_on_disk_finds_the_same_and_cannot_be_changed(kind, tmp_path):
    rows, queries = clustered(2000, bytes_=True), clustered(50, seed=1, bytes_=True)
    index = build(kind, rows, on_disk=True, probes=5)
    index.save(tmp_path)
    loaded = Index.load(tmp_path, made_by=MODEL, gpu="no")
    assert isinstance(loaded._searcher, MappedLists)
    assert same(index.search(queries, 7), loaded.search(queries, 7))
    for change in (lambda: loaded.add(rows[:1], [5000]), lambda: loaded.remove([1]), lambda: loaded.save(tmp_path)):
        with pytest.raises(MatcherError, match="on_disk"):
            change()
    found = loaded.search(queries, 7)
    build(kind, rows[:1000]).save(tmp_path)  # over the file that is mapped
    assert same(loaded.search(queries, 7), found)
    memory = build(kind, rows[:900], ids=np.arange(5000, 5900))
    if kind == "ivf":
        memory.merge(loaded)
        assert len(memory) == 2900
    again = loaded.emptied()
    again.merge(loaded)
    assert len(again) == 2000 and again.card == index.card and same(again.search(queries, 7), found)
    with pytest.raises(UsageError, match="kind"):
        build("flat", rows, on_disk=True)


@pytest.mark.parametrize("kind", KINDS)
def test_mapped_finds_the_same_and_cannot_be_changed(kind, tmp_path):
    rows, queries = clustered(2000, bytes_=True), clustered(50, seed=1, bytes_=True)
    index = build(kind, rows, probes=5)
    index.save(tmp_path)
    mapped = Index.load(tmp_path, made_by=MODEL, mapped=True)
    assert same(index.search(queries, 7), mapped.search(queries, 7)) and len(mapped) == 2000
    if kind in LISTS:
        with pytest.raises(MatcherError, match="mapped"):
            mapped.add(rows[:1], [5000])
        build(kind, rows[:1000]).save(tmp_path)  # in place of the file that is mapped
        assert same(index.search(queries, 7), mapped.search(queries, 7))


def test_text_ids(tmp_path):
    rows = clustered(300)
    index = build("flat", rows, ids=np.array([f"é {i}" for i in range(300)]))
    index.remove(["é 5"])
    index.add(rows[5:6], ["again"])
    index.save(tmp_path)
    loaded = Index.load(tmp_path, made_by=MODEL)
    assert loaded.search(rows[4:7], 1)[1][:, 0].tolist() == ["é 4", "again", "é 6"]
    assert loaded.search(rows[:1], 301)[1][0, -1] == "" and set(loaded.ids()) == {f"é {i}" for i in range(300) if i != 5} | {"again"}
    other = build("flat", clustered(10, seed=3), ids=np.array([f"o{i}" for i in range(10)]))
    loaded.merge(other)
    assert len(loaded) == 310 and loaded.search(clustered(10, seed=3), 1)[1][3, 0] == "o3"
    with pytest.raises(MatcherError, match="é 7"):
        loaded.add(rows[:1], ["é 7"])
    with pytest.raises(MatcherError, match="texts"):
        loaded.add(rows[:1], [7])
    with pytest.raises(MatcherError, match="gone"):
        loaded.remove(["gone"])


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_bytes(kind, tmp_path):
    for name in ("a", "b"):
        build(kind, clustered(2000)).save(tmp_path / name)
    assert (tmp_path / "a/index.faiss").read_bytes() == (tmp_path / "b/index.faiss").read_bytes()
    assert (tmp_path / "a/card.json").read_bytes() == (tmp_path / "b/card.json").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 3, 100, 300])
def test_few_rows_and_more_neighbours_than_rows(kind, count, caplog):
    rows = clustered(count)
    with caplog.at_level("INFO", logger="matcher"):
        index = build(kind, rows, lists=None)
    similarity, ids = index.search(clustered(4, seed=1), count + 2)
    assert similarity.shape == ids.shape == (4, count + 2)
    assert np.isneginf(similarity[:, count:]).all() and (ids[:, count:] == ABSENT).all() and -1 not in ids
    if index.card.stored == "words":  # only the rows of one word are looked at
        assert count >= 20 and ((ids == ABSENT) == np.isneginf(similarity)).all() and (ids[:, 0] >= 0).all()
    else:
        assert (np.sort(ids[:, :count], axis=1) == np.arange(count)).all()
    if kind in LISTS and count < (20 if kind == "words" else 80):
        assert index.card.stored == "flat" and "too few" in caplog.text


def test_more_lists_than_can_be_trained_are_cut_with_a_word(caplog):
    with caplog.at_level("INFO", logger="matcher"):
        index = build("ivf", clustered(800), lists=500)
    assert index._searcher.nlist == 20 and "800 rows can train 20 lists" in caplog.text
    assert list_count(1_000_000, IndexSettings(kind="ivf")) == 2000


def test_no_queries():
    similarity, ids = build("flat", clustered(10)).search(np.empty((0, 32), np.float32), 4)
    assert similarity.shape == ids.shape == (0, 4)


def test_ties_come_in_the_order_of_their_ids():
    rows = np.repeat(clustered(1, bytes_=True), 9, axis=0)
    assert build("flat", rows, ids=np.arange(9)[::-1]).search(rows[:1], 9)[1].tolist() == [list(range(9))]


@pytest.mark.parametrize("kind", ["flat", "fp16", "ivf", "binary"])
def test_ties_at_the_last_place_are_those_with_the_smallest_ids(kind):
    """Whatever the order in which rows were added, and whatever stands beside them."""
    rows = np.concatenate([np.repeat(clustered(40, bytes_=True), 30, axis=0), clustered(800, seed=2, bytes_=True)])
    ids = np.random.default_rng(0).permutation(len(rows))
    similarity, found = build(kind, rows, ids=ids).search(rows[:1200:30], 45)
    everything, all_ids = build(kind, rows, ids=ids).search(rows[:1200:30], len(rows))
    assert np.array_equal(similarity, everything[:, :45]) and np.array_equal(found, all_ids[:, :45])
    assert (np.diff(found[:, :20], axis=1)[np.diff(similarity[:, :20], axis=1) == 0] > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_dropped_is_as_if_it_had_been_removed(kind):
    rows = clustered(1500, bytes_=True)
    index, gone = build(kind, rows, probes=4), np.arange(0, 1500, 2)
    dropped = index.search(rows[:60], 6, drop=lambda ids: (ids != ABSENT) & (ids % 2 == 0))
    index.remove(gone)
    assert same(dropped, index.search(rows[:60], 6))
    nothing = index.search(rows[:3], 2, drop=lambda ids: ids != ABSENT)
    assert np.isneginf(nothing[0]).all() and (nothing[1] == ABSENT).all()


@pytest.mark.parametrize("probes", [1, 3, 20])
@pytest.mark.parametrize("k", [1, 4, 400])
def test_list_by_list_finds_what_query_by_query_does(k, probes, monkeypatch):
    monkeypatch.setattr(index_lists, "AT_ONCE", 77)  # times that a query looks into a list
    rows, queries = clustered(3000, bytes_=True), clustered(101, seed=1, bytes_=True).astype(np.float32)
    searcher = build("ivf", rows, probes=probes)._searcher
    searcher.remove_ids(np.flatnonzero(searcher.quantizer.search(rows.astype(np.float32), 1)[1] == 4))  # a list without rows
    products, ids = searcher.search(queries, k)
    found, places = index_lists.search_by_list(searcher, queries, k)
    order = np.argsort(-np.where(places < 0, -1, found), axis=1, kind="stable")
    assert np.array_equal(np.take_along_axis(places, order, axis=1) < 0, ids < 0)
    assert np.array_equal(np.take_along_axis(found, order, axis=1)[ids >= 0], products[ids >= 0])
    seen, their = np.nonzero(places >= 0)
    assert np.array_equal(found[seen, their], np.einsum("nd,nd->n", queries[seen], rows[places[seen, their]].astype(np.float32)))


@pytest.mark.parametrize("kind", ["binary", "ivf"])  # on disk, and in memory
def test_products_with_centroids_begin_no_threads(kind, tmp_path):
    build(kind, clustered(2000, bytes_=True), on_disk=kind == "binary", bits=128).save(tmp_path)
    lists, seen = Index.load(tmp_path, made_by=MODEL, gpu="no")._searcher, []
    quantizer = lists.quantizer
    watched = SimpleNamespace(search=lambda *words: seen.append(blas_threads()) or quantizer.search(*words))
    with threadpool_limits(limits=2, user_api="blas"):
        if kind == "binary":
            lists.quantizer = watched
            lists.search(clustered(50, bytes_=True).astype(np.float32), 3)
        else:
            stand_in = SimpleNamespace(nprobe=4, quantizer=watched, search_preassigned_c=lists.search_preassigned_c)
            index_lists.search_by_list(stand_in, clustered(50, bytes_=True).astype(np.float32), 3)
        assert seen == [{1}] and blas_threads() == {2}


def blas_threads():
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


def test_lists_on_disk_take_four_bytes_for_an_id(tmp_path):
    rows = clustered(3000, 128, bytes_=True)
    build("binary", rows, on_disk=True, bits=128).save(tmp_path)
    assert (tmp_path / "codes.bin").stat().st_size + (tmp_path / "ids.bin").stat().st_size == 20 * 3000
    far = build("binary", rows, ids=np.arange(3000) + 2**40, on_disk=True, bits=128)
    far.save(tmp_path)
    assert (tmp_path / "ids.bin").stat().st_size == 8 * 3000
    assert same(far.search(rows[:20], 3), Index.load(tmp_path, made_by=MODEL).search(rows[:20], 3))


def test_uint8_rows_come_back_as_they_were():
    rows = clustered(1000, bytes_=True)
    for kind in ("flat", "fp16", "ivf"):
        assert np.array_equal(stored_rows(build(kind, rows)._searcher, np.arange(1000)), rows)


def test_another_maker_is_refused_naming_both(tmp_path):
    index = build("flat", clustered(10))
    index.save(tmp_path)
    with pytest.raises(StaleStageError, match=r"model a, settings 1.*model b"):
        Index.load(tmp_path, made_by="model b")
    with pytest.raises(StaleStageError, match=r"was made with other settings \(probes: was 2, now 4\): build it again"):
        check_same_maker("a1 {'kind': 'ivf', 'probes': 2}", "a1 {'kind': 'ivf', 'probes': 4}", "the index")
    with pytest.raises(StaleStageError, match=r"the index was made from other pictures, .* settings: build it again"):
        check_same_maker("a1 {'kind': 'ivf', 'probes': 2}", "b2 {'kind': 'ivf', 'probes': 2}", "the index")
    with pytest.raises(StaleStageError, match=r"made from other pictures, .* and with other settings \(probes: was 2, now 4\): build"):
        check_same_maker("a1 {'kind': 'ivf', 'probes': 2}", "b2 {'kind': 'ivf', 'probes': 4}", "the index")
    other = Index.build(clustered(5), np.arange(10, 15), IndexSettings(), made_by="model b")
    with pytest.raises(StaleStageError, match="model b"):
        index.merge(other)


def test_damaged_and_missing_files_are_refused(tmp_path):
    build("flat", clustered(100)).save(tmp_path)
    data, card = (tmp_path / "index.faiss").read_bytes(), (tmp_path / "card.json").read_text()
    for damaged in (data[:-1], b"", data[:500] + bytes([data[500] ^ 1]) + data[501:]):
        (tmp_path / "index.faiss").write_bytes(damaged)
        with pytest.raises(MatcherError, match="damaged"):
            Index.load(tmp_path, made_by=MODEL)
    (tmp_path / "index.faiss").unlink()
    with pytest.raises(MatcherError, match="damaged"):
        Index.load(tmp_path, made_by=MODEL)
    for wrong in (card[:50], json.dumps({"rows": 3}), "[]"):
        (tmp_path / "card.json").write_text(wrong)
        with pytest.raises(MatcherError, match="damaged"):
            Index.load(tmp_path, made_by=MODEL)
    with pytest.raises(MatcherError, match="no index"):
        Index.load(tmp_path / "nowhere", made_by=MODEL)


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_a_disk_without_room_is_told(tmp_path, kind):
    index, (soft, hard) = build(kind, clustered(1000), on_disk=kind == "ivf"), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(MatcherError, match=rf"cannot write {tmp_path}/(index\.faiss|codes\.bin): File too large"):
            index.save(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
    index.save(tmp_path)
    assert len(Index.load(tmp_path, made_by=MODEL)) == 1000


def test_a_changed_setting_of_a_card_is_refused(tmp_path):
    build("binary", clustered(3000)).save(tmp_path)
    text = (tmp_path / "card.json").read_text()
    (tmp_path / "card.json").write_text(text.replace('"stored": "binary"', '"stored": "cinary"'))
    with pytest.raises(MatcherError, match=r"card\.json is damaged"):
        Index.load(tmp_path, made_by=MODEL)


def test_wrong_rows_and_ids_are_refused():
    index, rows = build("flat", clustered(10)), clustered(3, seed=2)
    with pytest.raises(MatcherError, match="rows of"):
        index.search(clustered(2, dim=16), 1)
    with pytest.raises(MatcherError, match="rows of"):
        index.search(clustered(2, bytes_=True), 1)
    with pytest.raises(MatcherError, match="finite"):
        index.add(np.full((1, 32), np.nan, np.float32), [20])
    with pytest.raises(MatcherError, match=r"id 4 .*twice"):
        index.add(rows, [20, 4, 21])
    with pytest.raises(MatcherError, match=r"id 20 .*twice"):
        index.add(rows, [20, 20, 21])
    with pytest.raises(MatcherError, match="id 50"):
        index.remove([1, 50])
    with pytest.raises(ValueError, match="from 0"):
        index.add(rows, [-1, 20, 21])
    with pytest.raises(ValueError, match="k >= 1"):
        index.search(rows, 0)
    with pytest.raises(ValueError, match="one id a row"):
        index.add(rows, [20])
    assert len(index) == 10


def test_codes_cut_rows_into_equal_parts():
    assert [code_size(128, 32), code_size(384, 32), code_size(30, 16), code_size(7, 4), code_size(8, 100)] == [32, 32, 15, 1, 8]


def test_faiss_compares_bytes_the_faster_way():
    level = faiss.SIMDConfig.get_level_name() if hasattr(faiss, "SIMDConfig") else ""
    assert level != "AVX512_SPR"  # that which faiss 1.15.1 chooses by itself on a processor with AMX
