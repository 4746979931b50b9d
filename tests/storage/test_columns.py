import pyarrow as pa

from matcher.storage.columns import stack


def test_columns_that_join_keep_their_kind_and_others_become_text():
    first = pa.table({"n": [1, 2], "x": [0.5, None], "when": pa.array([1, 2], pa.timestamp("ns")), "tags": [["a"], None]})
    second = pa.table({"n": [2.5], "x": ["half"], "tags": ["b"], "own": [True]})
    found = stack([first, second, pa.table({"n": pa.nulls(1)})])
    assert found.column("n").to_pylist() == [1.0, 2.0, 2.5, None]
    assert found.column("x").to_pylist() == ["0.5", None, "half", None]
    assert found.column("tags").to_pylist() == ["['a']", None, "b", None]
    assert found.column("when").type == pa.timestamp("ns") and found.column("own").to_pylist() == [None, None, True, None]
    assert stack([first]).equals(first)
