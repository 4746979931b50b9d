"""An index on a GPU: torch's products on every device there is against faiss on the CPU, and who is asked when."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import pytest
import torch

import matcher.index
import matcher.index_gpu
from matcher.errors import MatcherError
from matcher.index import ABSENT, Index
from matcher.index_gpu import Products, faiss_gpus, on_gpu, resources, sees_gpu
from matcher.models.device import torch_sees_gpu
from matcher.settings import IndexSettings

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
HERE = torch.cuda.is_available() or faiss_gpus() > 0


def drawn(count, dtype="float32", *, seed=0, most=256):
    rng = np.random.default_rng(seed)
    if dtype == "uint8":
        return rng.integers(0, most, (count, 128)).astype(np.uint8)
    rows = rng.standard_normal((count, 24)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def build(kind, rows, gpu="no", **more):
    return Index.build(rows, 3 * np.arange(len(rows))[::-1] + 5, IndexSettings(kind=kind, gpu=gpu, **more), made_by="a")


@pytest.fixture
def torch_on(monkeypatch):
    """A device of torch -> indexes that are to be on a GPU are there."""

    def begin(device):
        made = []
        monkeypatch.setattr(matcher.index_gpu, "torch_sees_gpu", lambda: True)
        monkeypatch.setattr(matcher.index_gpu, "faiss_gpus", lambda: 0)
        monkeypatch.setattr(matcher.index, "on_gpu", lambda searcher, card: made.append(Products(searcher, card, device)) or made[-1])
        return made

    return begin


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("block", [7, 1000])
@pytest.mark.parametrize("at_once", [1, 50, 2**26])
@pytest.mark.parametrize(("kind", "dtype"), [("flat", "uint8"), ("fp16", "uint8"), ("flat", "float32"), ("fp16", "float32")])
def test_products_find_what_faiss_finds_on_the_cpu(monkeypatch, torch_on, device, block, at_once, kind, dtype):
    monkeypatch.setattr(matcher.index_gpu, "BLOCK", block)
    monkeypatch.setattr(matcher.index_gpu, "AT_ONCE", at_once)
    rows, queries = drawn(90, dtype), drawn(11, dtype, seed=1)
    expected, ids = build(kind, rows).search(queries, 6)
    made = torch_on(device)
    similarity, found = build(kind, rows, "auto").search(queries, 6)
    assert len(made) == 1 and np.array_equal(found, ids)
    assert np.array_equal(similarity, expected) if dtype == "uint8" else np.allclose(similarity, expected, atol=3e-7)


@pytest.mark.parametrize("device", DEVICES)
def test_ties_fall_as_on_the_cpu_and_few_rows_leave_room(torch_on, device):
    rows = np.repeat(drawn(4, "uint8"), 5, axis=0)
    expected = build("fp16", rows).search(rows, 7)
    torch_on(device)
    found = build("fp16", rows, "yes").search(rows, 7)
    assert all(np.array_equal(*both) for both in zip(expected, found, strict=True))
    similarity, ids = build("flat", rows[:3], "yes").search(rows[:1], 5)
    assert np.isneginf(similarity[0, 3:]).all() and (ids[0, 3:] == ABSENT).all() and sorted(ids[0, :3]) == [5, 8, 11]
    emptied = build("flat", rows[:1], "yes")
    emptied.remove([5])
    assert (emptied.search(rows[:2], 2)[1] == ABSENT).all()


def test_rows_take_no_more_bytes_than_keep_them_exactly(torch_on):
    made = torch_on("cpu")
    for kind, dtype, size in (("flat", "uint8", 1), ("fp16", "uint8", 1), ("flat", "float32", 4), ("fp16", "float32", 2)):
        build(kind, drawn(3, dtype), "yes").search(drawn(1, dtype), 1)
        assert made[-1].blocks[0].element_size() == size


def test_a_changed_index_is_copied_again(torch_on):
    made = torch_on("cpu")
    rows = drawn(20, "uint8")
    index = build("fp16", rows, "auto")
    assert index.search(rows, 1)[1][:, 0].tolist() == [5 + 3 * n for n in range(19, -1, -1)]
    index.remove([5])
    assert index.search(rows[19:], 1)[1][0, 0] != 5
    index.add(rows[19:], [5])
    assert index.search(rows[19:], 1)[1][0, 0] == 5 and len(made) == 3


@pytest.mark.skipif(HERE, reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_an_error_only_if_asked_for():
    with pytest.raises(MatcherError, match=r"neither faiss nor torch sees a GPU: set index.gpu to auto, or ask matcher doctor"):
        build("flat", drawn(10), "yes")
    with pytest.raises(MatcherError, match=r"faiss, which searches its lists, sees no GPU"):
        build("ivf", drawn(400), "yes", lists=4)
    assert build("flat", drawn(10), "auto").search(drawn(1), 1)[1].shape == (1, 1)


def test_torch_takes_no_inverted_lists(torch_on):
    torch_on("cpu")
    assert [sees_gpu(kind) for kind in ("flat", "fp16", "ivf", "words")] == [True, True, False, False]


def test_memory_that_is_not_enough_is_an_error_only_if_asked_for(monkeypatch):
    def full(searcher, card):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(matcher.index_gpu, "torch_sees_gpu", lambda: True)
    monkeypatch.setattr(matcher.index, "on_gpu", full)
    rows = drawn(9, "uint8")
    assert build("fp16", rows, "auto").search(rows, 1)[1][3, 0] == 5 + 3 * 5
    with pytest.raises(MatcherError, match="cannot search this fp16 index: CUDA out of memory"):
        build("fp16", rows, "yes").search(rows, 1)


def test_memory_that_ends_in_a_search_leaves_the_cpu(monkeypatch, torch_on):
    made = torch_on("cpu")

    def full(self, queries, k):
        raise torch.OutOfMemoryError("CUDA out of memory")

    rows = drawn(9, "uint8")
    index = build("fp16", rows, "auto")
    index.search(rows, 1)
    monkeypatch.setattr(Products, "nearest", full)
    assert index.search(rows, 1)[1][3, 0] == 5 + 3 * 5 and index.search(rows, 1)[1][3, 0] == 5 + 3 * 5 and len(made) == 1
    with pytest.raises(MatcherError, match="cannot search this fp16 index: CUDA out of memory"):
        build("fp16", rows, "yes").search(rows, 1)


def test_threads_share_one_copy(torch_on):
    made, rows = torch_on("cpu"), drawn(2000, "uint8")
    index = build("fp16", rows, "auto")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: index.search(rows[n : n + 1], 1)[1][0, 0], range(40)))
    assert found == [5 + 3 * (1999 - n) for n in range(40)] and len(made) == 1


def test_an_index_travels_without_its_copy(torch_on):
    made, rows = torch_on("cpu"), drawn(20, "uint8")
    index = build("fp16", rows, "auto")
    expected = index.search(rows, 3)
    for other in (pickle.loads(pickle.dumps(index)), copy.deepcopy(index)):
        assert other._gpu is None and all(np.array_equal(*both) for both in zip(other.search(rows, 3), expected, strict=True))
    assert len(made) == 3


class FakeGpu:
    """What faiss-gpu would make of an index: as here, and no more than 2,048 neighbours."""

    def __init__(self, index):
        self.index, self.asked = index, []

    def search(self, rows, k):
        self.asked.append(k)
        assert k <= 2048
        return self.index.search(rows, k)


@pytest.fixture
def faiss_on(monkeypatch):
    options = []
    resources.cache_clear()
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "GpuClonerOptions", type("Options", (), {"useFloat16": False}), raising=False)

    def to_gpu(resources, device, index, chosen):
        assert isinstance(index, faiss.Index)
        flat = isinstance(index, faiss.IndexIDMap2)
        options.append((type(faiss.downcast_index(index.index) if flat else index).__name__, chosen.useFloat16))
        return FakeGpu(faiss.clone_index(index))

    monkeypatch.setattr(faiss, "index_cpu_to_gpu", to_gpu, raising=False)
    yield options
    resources.cache_clear()


@pytest.mark.skipif(faiss_gpus() > 0, reason="faiss has a GPU here")
def test_faiss_keeps_flat_rows_on_the_gpu_in_half_precision_where_the_index_does(faiss_on):
    rows = drawn(20, "uint8")
    for kind, halves in (("flat", False), ("fp16", True)):
        expected, found = build(kind, rows).search(rows, 3), build(kind, rows, "yes").search(rows, 3)
        assert all(np.array_equal(*both) for both in zip(expected, found, strict=True))
        assert faiss_on[-1] == ("IndexFlatIP", halves)


@pytest.mark.skipif(faiss_gpus() > 0, reason="faiss has a GPU here")
@pytest.mark.parametrize("kind", ["ivf", "ivfpq", "binary", "words"])
def test_what_faiss_cannot_search_on_a_gpu_is_searched_on_the_cpu(faiss_on, kind, tmp_path):
    rows = drawn(600, "uint8")
    for on_disk in (False, True):
        index = build(kind, rows, lists=4, on_disk=on_disk)
        expected = index.search(rows, 3)
        index.save(tmp_path / str(on_disk))
        faiss_on.clear()
        found = Index.load(tmp_path / str(on_disk), made_by="a").search(rows, 3)
        assert all(np.array_equal(*both) for both in zip(expected, found, strict=True))
        there = not on_disk and kind in ("ivf", "ivfpq")
        assert bool(faiss_on) == there
        if not there:
            why = "lists on disk are" if on_disk else f"an index of kind {kind} is"
            with pytest.raises(MatcherError, match=rf"{why} searched on the CPU: set index.gpu to auto"):
                Index.load(tmp_path / str(on_disk), made_by="a", gpu="yes")


@pytest.mark.skipif(faiss_gpus() > 0, reason="faiss has a GPU here")
def test_faiss_is_asked_up_to_its_limit(faiss_on):
    rows = drawn(2100)
    index = build("flat", rows, "auto")
    index.search(rows[:2], 1)
    assert index._gpu.asked == [2] and index.search(rows[:1], 2090)[1].shape == (1, 2090) and index._gpu.asked == [2]


@pytest.mark.skipif(not HERE, reason="no GPU here")
@pytest.mark.parametrize("kind", ["flat", "fp16"])
def test_the_gpu_finds_the_same(kind):
    rows, queries = drawn(5000, "uint8"), drawn(300, "uint8", seed=1)
    expected, found = build(kind, rows).search(queries, 5), build(kind, rows, "yes").search(queries, 5)
    assert all(np.array_equal(*both) for both in zip(expected, found, strict=True))


def test_torch_is_asked_once(monkeypatch):
    torch_sees_gpu.cache_clear()
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: asked.append(1) or True)
    assert torch_sees_gpu(look=True) and torch_sees_gpu(look=True) and len(asked) == 1
    torch_sees_gpu.cache_clear()


def test_the_copy_is_made_by_whom_the_gpu_obeys(monkeypatch, faiss_on):
    monkeypatch.setattr(matcher.index_gpu, "Products", lambda searcher, card, device: device)
    index = build("flat", drawn(3))
    assert isinstance(on_gpu(index._searcher, index.card), FakeGpu)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    assert on_gpu(index._searcher, index.card) == "cuda"
