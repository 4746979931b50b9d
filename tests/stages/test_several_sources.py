"""A collage of two references: both are found, each with its region, from pictures to evaluation and report."""

import numpy as np
import pytest
from PIL import Image

from matcher import geometry, pipeline
from matcher.data.edits import Context, apply_edit, gather
from matcher.metrics.evaluation import evaluate
from matcher.metrics.location import measure_overlap
from matcher.metrics.truth import Edits, GroundTruth
from matcher.storage.records import read_record
from matcher.types import Predictions

PAIRS = {"collage": ("astronaut", "coffee"), "laid on": ("chelsea", "rocket")}
STRANGER = "motorcycle_left"


def shown(query, pixels):
    """The pictures of PAIRS as one query: side by side or one on the other, mirrored and with a margin."""
    context, kind = Context(lambda rng: pixels[STRANGER], canvas_side=480), {"collage": "cells", "laid on": "laid on"}[query]
    made = (gather([pixels[name] for name in PAIRS[query]], np.random.default_rng(seed), 1, context) for seed in range(50))
    picture = next(one for one in made if one.steps[0].parameters["kind"] == kind)
    for name in ("hflip", "pad"):
        picture = apply_edit(picture, name, 1, np.random.default_rng(0), context)
    return picture


@pytest.fixture(scope="module")
def collages(library, photos, tmp_path_factory):
    """The output of a run on two queries of two references each and a stranger, and the edits of the four pairs."""
    folder = tmp_path_factory.mktemp("collages")
    (folder / "queries").mkdir()
    Image.fromarray(photos[STRANGER]).save(folder / "queries" / "stranger.png")
    rows = []
    for query, names in PAIRS.items():
        picture = shown(query, photos)
        Image.fromarray(picture.pixels).save(folder / "queries" / f"{query}.jpg", quality=85)
        rows += [(query, name, alone.frame) for name, alone in zip(names, picture.each(), strict=True)]
    queries, references, frames = zip(*rows, strict=True)
    edits = Edits(query_id=queries, reference_id=references, families=["several"] * 4, severity=[2] * 4, covered=[0.3] * 4, frame=frames)
    truth = folder / "truth.csv"
    truth.write_text("query_id,reference_id\n" + "".join(f"{q},{r}\n" for q, r, _ in rows) + "stranger,\n")
    pipeline.run(folder / "queries", library.references, folder / "out", ground_truth=truth)
    return folder / "out", edits, GroundTruth.read(truth)


def test_both_references_are_found_with_their_regions(collages):
    output, edits, _ = collages
    found = read_record(output / "predictions.parquet", Predictions)
    row = {pair: n for n, pair in enumerate(zip(found.query_id.tolist(), found.reference_id.tolist(), strict=True))}
    for query, reference, frame in zip(edits.query_id.tolist(), edits.reference_id.tolist(), edits.frame, strict=True):
        n = row[query, reference]
        assert found.probability[n] > 0.5
        in_query, in_reference, error = measure_overlap(found.frame[n], frame)
        assert in_query > 0.8 and in_reference > 0.8 and error < 0.05
        assert geometry.is_mirrored(found.frame[n])
    sure = {pair for pair, n in row.items() if found.probability[n] > 0.5}
    assert sure == {(query, name) for query, names in PAIRS.items() for name in names}


def test_the_csv_the_evaluation_and_the_report_hold_both(collages, read_rows):
    output, edits, truth = collages
    best = [(row["query_id"], row["reference_id"]) for row in read_rows(output / "predictions.csv")][:4]
    assert set(best) == set(truth.pairs())
    measured = evaluate(output / "predictions.csv", truth, resamples=20)
    assert (measured.several.queries, measured.several.pairs) == (2, 4)
    assert measured.several.recall_of_sources.value == measured.several.all_sources.value == measured.recall_at_rank1.value == 1
    located = evaluate(output / "predictions.parquet", truth, edits=edits, resamples=20)
    assert located.location.found == 4 and located.location.share_iou_half.value == 1 and located.by_family[0].positives == 4
    page = (output / "report.html").read_text()
    assert "the query also shows coffee (" in page and "the query also shows astronaut (" in page
