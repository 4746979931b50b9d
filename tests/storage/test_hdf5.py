"""The descriptor track's file, read by h5py from the format's description alone."""

import h5py
import numpy as np
import pytest

from matcher.errors import MatcherError
from matcher.storage.hdf5 import Vectors, read_vectors, write_vectors


def vectors(prefix, count, digits, width=4, seed=0):
    rng = np.random.default_rng(seed)
    ids = np.array([f"{prefix}{n:0{digits}d}" for n in rng.permutation(count)])
    return Vectors(ids, rng.standard_normal((count, width)).astype(np.float32))


@pytest.fixture
def sides():
    return vectors("Q", 7, 5), vectors("R", 9, 6, seed=1)


def test_an_independent_reader_takes_it(tmp_path, sides):
    write_vectors(tmp_path / "a.h5", *sides)
    with h5py.File(tmp_path / "a.h5", "r") as file:
        assert set(file) == {"query", "reference", "query_ids", "reference_ids"}
        assert file["query"].dtype == file["reference"].dtype == np.dtype("<f4")
        assert file["query_ids"].dtype == np.dtype("S6") and file["reference_ids"].dtype == np.dtype("S7")
        assert file["query"].shape == (7, 4) and file["reference"].shape == (9, 4)
        for name, side in zip(("query", "reference"), sides, strict=True):
            ids = [id_.decode() for id_ in file[f"{name}_ids"][()]]
            assert ids == sorted(side.ids.tolist())
            given = dict(zip(side.ids.tolist(), side.rows, strict=True))
            assert all(np.array_equal(row, given[id_]) for id_, row in zip(ids, file[name][()], strict=True))


def test_what_others_wrote_is_read(tmp_path, sides):
    with h5py.File(tmp_path / "b.h5", "w") as file:
        for name, side, form in zip(("query", "reference"), sides, ("S6", "S7"), strict=True):
            file.create_dataset(name, data=side.rows)
            file.create_dataset(f"{name}_ids", data=np.array([id_.encode() for id_ in side.ids], dtype=form))
    for found, side in zip(read_vectors(tmp_path / "b.h5"), sides, strict=True):
        assert found.ids.tolist() == side.ids.tolist() and np.array_equal(found.rows, side.rows)


def test_there_and_back(tmp_path, sides):
    long = Vectors(np.array(["a picture", "an öther", "z"]), sides[0].rows[:3])
    write_vectors(tmp_path / "a.h5", long, sides[1])
    queries, references = read_vectors(tmp_path / "a.h5")
    assert queries.ids.tolist() == ["a picture", "an öther", "z"] and np.array_equal(queries.rows, long.rows)
    assert references.ids.tolist() == sorted(sides[1].ids.tolist())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda q, r: (vectors("Q", 7, 5, width=257), vectors("R", 9, 6, width=257)),
            "query has 257 numbers a picture, the track takes 256",
        ),
        (lambda q, r: (vectors("Q", 7, 5, width=3), r), "queries have 3 numbers and references 4"),
        (
            lambda q, r: (Vectors(q.ids, np.where(q.ids[:, None] == "Q00003", np.nan, q.rows)), r),
            "query of Q00003 holds a value that is not finite",
        ),
        (lambda q, r: (Vectors(np.repeat("Q00001", 7), q.rows), r), "query_ids repeat themselves"),
        (lambda q, r: (Vectors(q.ids[:5], q.rows), r), "there are 5 ids of it"),
    ],
)
def test_what_the_track_does_not_take_is_refused_and_nothing_is_written(tmp_path, sides, change, told):
    with pytest.raises(MatcherError, match=told):
        write_vectors(tmp_path / "a.h5", *change(*sides))
    assert not list(tmp_path.iterdir())


def test_other_files_are_refused(tmp_path, sides):
    with pytest.raises(MatcherError, match="there is no file"):
        read_vectors(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no archive")
    with pytest.raises(MatcherError, match="cannot be read as HDF5 of the descriptor track"):
        read_vectors(tmp_path / "text.h5")
    with h5py.File(tmp_path / "working.h5", "w") as file:
        file.create_dataset("vectors", data=sides[0].rows)
    with pytest.raises(MatcherError, match="has no dataset 'query'"):
        read_vectors(tmp_path / "working.h5")
    write_vectors(tmp_path / "a.h5", *sides)
    (tmp_path / "cut.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:900])
    with pytest.raises(MatcherError, match="cannot be read as HDF5"):
        read_vectors(tmp_path / "cut.h5")
