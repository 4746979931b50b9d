"""The table of the demo, on predictions made by hand."""

import numpy as np

from matcher.demo import tabulate
from matcher.storage.records import write_record
from matcher.types import Predictions


def test_each_reference_of_a_query_has_its_row(tmp_path):
    rows = [("a", "1", 0.9), ("a", "2", 0.8), ("b", "1", 0.7), ("b", "3", 0.6), ("c", "3", 0.55), ("d", "3", 0.2)]
    query_id, reference_id, score = (list(column) for column in zip(*rows, strict=True))
    ones = np.ones(len(rows))
    found = Predictions(
        query_id=query_id, reference_id=reference_id, frame=np.tile(np.eye(3), (len(rows), 1, 1)), score=score, probability=score,
        query_covered=ones, reference_covered=ones, flip=ones < 0,
    )  # fmt: skip
    write_record(tmp_path / "predictions.parquet", found)
    (tmp_path / "edits.csv").write_text(
        "query_id,reference_id,families\na,1,several\na,2,several\nb,2,several\nb,1,several\nc,,crop\nd,,blur\n"
    )
    (tmp_path / "references.csv").write_text("reference_id,path\n1,one.png\n2,two.png\n3,three.png\n")
    table = [(row[0], row[1], row[-1]) for row in tabulate(tmp_path, tmp_path / "predictions.parquet")]
    copies = [("a", "one", "right"), ("a", "two", "right"), ("b", "three", "wrong"), ("b", "one", "right")]
    assert table == [*copies, ("c", "three", "wrong"), ("d", "nothing", "right")]
