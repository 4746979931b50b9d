"""Tables of users: text stays text, what is missing or wrong is named, and what is written is read back."""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher.errors import MatcherError
from matcher.images.table import read_images
from matcher.storage.columns import from_arrow
from matcher.storage.tables import read_table, write_table

PAIRS = {"query_id": "text", "score": "float64"}


def test_csv_text_stays_text(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text('\ufeffquery_id,score,note\n007,1e-3,NA\n"a ""b"",\nc", ,\n', encoding="utf-8")
    table = read_table(path, columns=PAIRS)
    assert table["query_id"].to_pylist() == ["007", 'a "b",\nc']
    assert table["note"].to_pylist() == ["NA", ""]
    assert table["score"].to_pylist()[0] == 1e-3 and np.isnan(table["score"].to_pylist()[1])


def test_parquet_ids_become_text(tmp_path):
    path = tmp_path / "pairs.csv"  # the content decides
    columns = {"query_id": [7, 8], "reference_id": pa.array(["x", None]).dictionary_encode(), "score": ["1", "2"], "own": [[1], [2]]}
    pq.write_table(pa.table(columns), path)
    table = read_table(path, columns=PAIRS, optional={"reference_id": "text", "rank": "int64"})
    assert table["query_id"].to_pylist() == ["7", "8"] and table["reference_id"].to_pylist() == ["x", ""]
    assert table["score"].to_pylist() == [1.0, 2.0] and table["own"].to_pylist() == [[1], [2]]
    assert from_arrow(table["reference_id"], "text").tolist() == ["x", ""]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"id,score\na,1\n", "lacks the column 'query_id'; it has: id, score"),
        (b"query_id,score\na,1\nb,high\n", "column 'score', row 2: 'high' is not float64"),
        (b"query_id,score\na,1,2\n", "not a CSV table.*2 columns, got 3"),
        (b"query_id,score,score\na,1,2\n", "more than one column named 'score'"),
        (b"query_id,score\n\xff,1\n", "not a CSV table in UTF-8"),
        (b"\xff\xfe\x00,1\n", "not a CSV table in UTF-8"),
        (b"", "is empty"),
        (b"PAR1 but then something else", "not a whole Parquet file"),
    ],
)
def test_bad_tables_are_refused(content, sentence, tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_bytes(content)
    with pytest.raises(MatcherError, match=sentence) as caught:
        read_table(path, columns=PAIRS)
    assert str(path) in str(caught.value)


def test_text_that_is_no_utf8_is_refused(tmp_path):
    sign = pa.py_buffer(b"\xff\xfe")
    ids = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(bytes([0, 0, 0, 0, 2, 0, 0, 0])), sign])
    pq.write_table(pa.table({"query_id": ids, "id": ids, "path": ids}), tmp_path / "t.parquet")
    for read in (lambda path: read_table(path, columns={"query_id": "text"}), lambda path: read_images(path, "queries")):
        with pytest.raises(MatcherError, match=r"t\.parquet.*Invalid UTF8"):
            read(tmp_path / "t.parquet")


def test_an_id_with_a_nul_character_is_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"query_id,n\na,1\nb\0c,2\n")
    with pytest.raises(MatcherError, match=r"column 'query_id', row 2: 'b\\x00c' holds a NUL"):
        read_table(tmp_path / "a.csv", columns={"query_id": "text"})


def test_missing_table_and_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(MatcherError, match="cannot read"):
            read_table(path)


def test_float_ids_and_empty_integers_are_refused(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"query_id": [1.0], "rank": pa.array([None], pa.int64())}), path)
    with pytest.raises(MatcherError, match="ids are text or whole numbers"):
        read_table(path, columns={"query_id": "text"})
    with pytest.raises(MatcherError, match="'rank', row 1 is empty"):
        read_table(path, columns={"rank": "int64"})


def test_header_alone_is_an_empty_table(tmp_path):
    (tmp_path / "t.csv").write_text("query_id,score\n")
    table = read_table(tmp_path / "t.csv", columns=PAIRS)
    assert len(table) == 0 and table["score"].type == pa.float64()


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


def test_csv_round_trip(tmp_path):
    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.tuples(TEXT, st.floats(allow_infinity=False), st.floats(width=32, allow_infinity=False)), max_size=5))
    def check(rows):
        ids, numbers, halves = ([row[i] for row in rows] for i in range(3))
        columns = {"query_id": np.array(ids, dtype=np.str_), "score": np.array(numbers), "small": np.array(halves, dtype=np.float32)}
        write_table(tmp_path / "t.csv", columns)
        table = read_table(tmp_path / "t.csv", columns={**PAIRS, "small": "float32"})
        assert table["query_id"].to_pylist() == ids
        for name in ("score", "small"):
            np.testing.assert_array_equal(np.asarray(table[name]), columns[name])
        with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
            assert [row["query_id"] for row in csv.DictReader(file)] == ids

    check()


def test_csv_is_plain(tmp_path):
    columns = {"query_id": np.array(["007", "a,b"]), "score": np.array([0.9, np.nan], dtype=np.float32), "own": pa.array([None, 1])}
    write_table(tmp_path / "t.csv", columns)
    assert (tmp_path / "t.csv").read_text() == 'query_id,score,own\n007,0.9,\n"a,b",,1\n'


def test_parquet_table_round_trip(tmp_path):
    write_table(tmp_path / "t.parquet", {"id": np.array(["007", "b"]), "n": np.array([1, 2]), "own": pa.array([None, "x"])})
    table = read_table(tmp_path / "t.parquet")
    assert table.to_pydict() == {"id": ["007", "b"], "n": [1, 2], "own": [None, "x"]}
