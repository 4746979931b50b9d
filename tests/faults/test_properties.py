"""Tables of any text: each row becomes a picture or an error row, or the table is refused; none is lost, none made up."""

import csv

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matcher.errors import MatcherError
from matcher.images.table import read_images

ROWS = st.lists(st.tuples(st.text(max_size=6), st.sampled_from(["p.png", "./p.png", ".", "gone.png"]) | st.text(max_size=9)), max_size=4)
NAMES = ["id", "path"]


def is_plain(rows):
    """Are these rows such that nobody could refuse them?"""
    return len({id_ for id_, _ in rows}) == len(rows) and all(id_.isalnum() and path.isalnum() for id_, path in rows)


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_every_row_of_a_table_is_accounted_for(tmp_path, encode_scene, rows):
    (tmp_path / "p.png").write_bytes(encode_scene("PNG"))
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([NAMES, *rows])
    pq.write_table(
        pa.table({name: pa.array([row[at] for row in rows], pa.string()) for at, name in enumerate(NAMES)}), tmp_path / "t.parquet"
    )
    for name in ("t.csv", "t.parquet"):
        try:
            images, errors = read_images(tmp_path / name, "queries")
        except MatcherError as refused:
            assert name in str(refused)
            assert not rows or not is_plain(rows)
            continue
        assert sorted([*images.id.tolist(), *errors.id.tolist()]) == sorted(id_ for id_, _ in rows)
        assert set(images.path.tolist()) <= {str(tmp_path / "p.png")}
