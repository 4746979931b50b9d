"""Records come back from Parquet exactly, the same record gives the same bytes, and a wrong file is refused with a sentence."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from matcher.errors import MatcherError
from matcher.storage.records import read_extra, read_metadata, read_record, write_record
from matcher.types import Candidates, Descriptors, Errors, Keypoints, PairScores, Predictions, Record, Views

KINDS = [Views, Descriptors, Keypoints, Candidates, PairScores, Predictions, Errors]
WORD = st.text(st.characters(exclude_characters="\0"), max_size=8)  # lone surrogates among them: file names that are no unicode


@st.composite
def records(draw, kind):
    rows = draw(st.integers(0, 6))
    values = {}
    for name, dtype, shape in kind.columns():
        size = (rows, *(s if isinstance(s, int) else draw(st.integers(1, 5)) for s in shape))
        if dtype == "text":
            values[name] = draw(st.lists(WORD, min_size=rows, max_size=rows, unique=name in kind.keys))
        elif kind is Descriptors and name == "rows":
            raw = np.random.default_rng(draw(st.integers(0, 99))).normal(size=size)
            values[name] = raw / np.linalg.norm(raw, axis=1, keepdims=True)
        elif name == "probability":
            values[name] = draw(hnp.arrays(np.float64, size, elements=st.floats(0, 1)))
        else:
            values[name] = draw(hnp.arrays(np.dtype(dtype), size))
    if issubclass(kind, PairScores):
        names = draw(st.lists(st.text(min_size=1, max_size=5, alphabet="ab_.é"), max_size=3, unique=True))
        values["evidence"] = {name: draw(hnp.arrays(np.float32, rows)) for name in names}
    return kind(**values)


def same(first: Record, second: Record) -> None:
    assert type(first) is type(second)
    for name, _, _ in first.columns():
        a, b = getattr(first, name), getattr(second, name)
        assert a.shape == b.shape and (a.dtype == b.dtype or a.dtype.kind == "U"), name
        assert a.tolist() == b.tolist() if a.dtype.kind == "U" else a.tobytes() == b.tobytes(), name
    if isinstance(first, PairScores):
        assert list(first.evidence) == list(second.evidence)
        assert all(first.evidence[n].tobytes() == second.evidence[n].tobytes() for n in first.evidence)


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind, tmp_path):
    @settings(max_examples=15, deadline=None)
    @given(records(kind))
    def check(record):
        write_record(tmp_path / "a.parquet", record)
        write_record(tmp_path / "b.parquet", record)
        same(record, read_record(tmp_path / "a.parquet", kind))
        assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()

    check()


@pytest.mark.parametrize("kind", KINDS)
def test_empty_record_and_empty_slice(kind, tmp_path):
    write_record(tmp_path / "a.parquet", kind.empty())
    same(kind.empty(), read_record(tmp_path / "a.parquet", kind))


def test_no_rows_keep_their_width(tmp_path):
    rows = np.ones((3, 7)) / np.sqrt(7)
    some = Descriptors(image_id=list("abc"), frame=np.zeros((3, 3, 3)), kind=list("abc"), confidence=np.ones(3), rows=rows)
    write_record(tmp_path / "a.parquet", some.take(slice(0, 0)))
    assert read_record(tmp_path / "a.parquet", Descriptors).rows.shape == (0, 7)


def test_bytes_do_not_depend_on_memory_layout(tmp_path):
    frames = np.random.default_rng(0).normal(size=(4, 3, 3))
    for name, layout, ids in (("a", frames, np.array(list("abcd"))), ("b", np.asfortranarray(frames), np.array(list("abcd"), dtype="U50"))):
        write_record(tmp_path / name, Views(image_id=ids, frame=layout, kind=["whole"] * 4, confidence=np.ones(4)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def keypoints(count: int) -> Keypoints:
    rng = np.random.default_rng(1)
    ids = np.repeat([f"picture number {i}" for i in range(count // 100)], 100)
    numbers = {"point": rng.random((count, 2)), "size": rng.random(count), "angle": rng.random(count)}
    return Keypoints(image_id=ids, rows=rng.integers(0, 256, (count, 128)), **numbers)


def test_keypoints_take_little_more_than_their_numbers(tmp_path):
    record = keypoints(2000)
    write_record(tmp_path / "k.parquet", record)
    same(record, read_record(tmp_path / "k.parquet", Keypoints))
    assert (tmp_path / "k.parquet").stat().st_size < 1.1 * 2000 * (128 + 4 * 4)


def test_another_tool_reads_plain_columns(tmp_path):
    frames = np.arange(18.0).reshape(2, 3, 3)
    pairs = PairScores(query_id=["007", "q"], reference_id=["r", "s"], frame=frames, evidence={"inliers": [np.nan, 3]})
    write_record(tmp_path / "p.parquet", pairs)
    table = pq.read_table(tmp_path / "p.parquet")
    assert table["query_id"].to_pylist() == ["007", "q"]
    assert table["frame"].to_pylist()[1] == frames[1].ravel().tolist()
    assert table["evidence.inliers"].null_count == 0 and np.isnan(table["evidence.inliers"][0].as_py())


def test_metadata_and_extra_columns_come_back(tmp_path):
    errors = Errors(id=["a", "b"], path=["", ""], stage=["s", "s"], code=["c", "c"], message=["m", "m"])
    extra = {"label": np.array(["007", "é"]), "rank": pa.array([1, None]), "evidence.mine": np.array([0.5, np.nan])}
    write_record(tmp_path / "e.parquet", errors, metadata={"made by": "test"}, extra=extra)
    same(errors, read_record(tmp_path / "e.parquet", Errors))
    assert read_metadata(tmp_path / "e.parquet") == {"made by": "test"}
    table = read_extra(tmp_path / "e.parquet")
    assert table.column_names == list(extra)
    assert table["label"].to_pylist() == ["007", "é"] and table["rank"].to_pylist() == [1, None]


@pytest.mark.parametrize("name", ["query_id", "evidence.mine"])
def test_extra_column_with_a_taken_name_is_refused(name, tmp_path):
    with pytest.raises(MatcherError, match=f"'{name}'.*rename it"):
        write_record(tmp_path / "p.parquet", PairScores.empty(), extra={name: np.empty(0)})
    assert list(tmp_path.iterdir()) == []


def test_extra_column_of_another_length_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'label' has 1 rows"):
        write_record(tmp_path / "p.parquet", Errors.empty(), extra={"label": np.array(["x"])})


def refused(path, kind, sentence):
    with pytest.raises(MatcherError, match=sentence) as caught:
        read_record(path, kind)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_wrong_files_are_refused(tmp_path):
    path = tmp_path / "a.parquet"
    refused(path, Views, "cannot read .*No such file")
    refused(tmp_path, Views, "cannot read .*directory")
    write_record(path, Errors.empty())
    refused(path, Views, "holds Errors, not Views")
    pq.write_table(pa.table({"id": ["a"]}), path)
    refused(path, Errors, "not one of matcher's records")
    path.write_bytes(b"")
    refused(path, Errors, "damaged")


def rewrite(path, change) -> None:
    table = pq.read_table(path)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.drop_columns(["size", "angle"]), "lacks the columns size, angle of Keypoints; it has image_id, point, rows"),
        (
            lambda t: t.set_column(1, "point", pa.array([[0.0]] * 100, pa.list_(pa.float32(), 1))),
            "column point: has 1 numbers a row, not 2",
        ),
        (lambda t: t.set_column(1, "point", pa.array([[0.0, 0.0]] * 100)), "column point: holds list<.*, not rows of float32"),
        (lambda t: t.set_column(2, "size", pa.array(["x"] * 100)), "column size: holds string, not float32"),
        (lambda t: t.set_column(2, "size", pa.array([None] * 100, pa.float32())), "column size: has empty cells"),
        (lambda t: t.set_column(0, "image_id", pa.array(range(100))), "column image_id: holds int64, not text"),
    ],
)
def test_wrong_columns_are_refused(change, sentence, tmp_path):
    path = tmp_path / "k.parquet"
    write_record(path, keypoints(100))
    rewrite(path, change)
    refused(path, Keypoints, sentence)


def test_newer_schema_is_refused(tmp_path):
    path = tmp_path / "e.parquet"
    write_record(path, Errors.empty())
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"matcher.schema_version": b"2"}), path)
    refused(path, Errors, "schema version 2, this matcher reads 1")


def test_damaged_values_are_refused(tmp_path):
    path = tmp_path / "k.parquet"
    write_record(path, keypoints(300))
    whole = path.read_bytes()
    for place in (len(whole) // 2, len(whole) // 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refused(path, Keypoints, "damaged")
    for length in (1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(path, Keypoints, "damaged")


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "e.parquet"
    write_record(path, Errors.empty())
    before = path.read_bytes()
    with pytest.raises(pa.ArrowNotImplementedError):
        write_record(path, Errors.empty(), extra={"odd": pa.array([], pa.month_day_nano_interval())})
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["e.parquet"]


def test_unwritable_folder_is_named(tmp_path):
    with pytest.raises(MatcherError, match=r"cannot write .*gone.*e\.parquet"):
        write_record(tmp_path / "gone" / "e.parquet", Errors.empty())


def test_any_changed_byte_is_refused(tmp_path):
    path, believed = tmp_path / "e.parquet", 0
    write_record(path, Errors.of([("a", "p", "s", "c", "m")]), extra={"note": np.array(["n"])})
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        try:
            assert read_record(path, Errors).id.tolist() == ["a"] and read_extra(path).to_pydict() == {"note": ["n"]}
            believed += 1
        except MatcherError as error:
            assert "e.parquet is damaged" in str(error)
    assert believed == len(b"matchcrc")  # a change of the mark itself makes it a file without one


def test_a_file_that_another_tool_wrote_anew_is_read(tmp_path):
    path = tmp_path / "e.parquet"
    write_record(path, Errors.of([("a", "p", "s", "c", "m")]))
    pq.write_table(pq.read_table(path), path)
    assert read_record(path, Errors).id.tolist() == ["a"]
