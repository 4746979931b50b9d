"""The challenge's formats and ours: predictions as CSV, descriptors as HDF5."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from matcher.errors import MatcherError, UsageError
from matcher.metrics.predicted import ScoredPairs, write_predictions_csv
from matcher.settings import Strategy
from matcher.shortlist.similarity import compare_views
from matcher.stages.describing import load_described
from matcher.stages.descriptors import Side, descriptor_of, load_descriptors
from matcher.storage.aside import refuse_inputs
from matcher.storage.hdf5 import Vectors, read_vectors, write_vectors
from matcher.types import Descriptors, Float
from matcher.views.choose import choose

SIDES: tuple[tuple[str, Side], ...] = (("queries", "query"), ("references", "reference"))
HDF5 = (".h5", ".hdf5")
AT_ONCE = 1 << 25  # distances looked at together


def convert_file(source: Path, output: Path, *, rows: int, strategy: Strategy) -> Path:
    """A file or folder -> the other format. UsageError if that pair is none, MatcherError if the source is not what its name says."""
    if rows < 1:
        raise UsageError(f"rows must be at least 1, not {rows}")
    if not source.exists():
        raise MatcherError(f"there is no file or folder {source}")
    refuse_inputs(output, source)
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix.lower() in HDF5 and source.is_dir():
        write_vectors(output, *described_vectors(source, strategy))
    elif output.suffix.lower() == ".csv":
        pairs = rank(*read_vectors(source), rows=rows) if source.suffix.lower() in HDF5 else best(ScoredPairs.read(source), rows)
        write_predictions_csv(output, pairs.query_id, pairs.reference_id, pairs.score)
    else:
        raise UsageError(
            f"no way from {source} to {output}: predictions (.parquet, .csv) and descriptors (.h5) become .csv, "
            "and the folder of a run with descriptors becomes .h5"
        )
    return output


def described_vectors(folder: Path, strategy: Strategy) -> tuple[Vectors, Vectors]:
    """Folder of a run -> a vector for each picture of both sides: of the whole picture, after the steps of ``descriptor.post``."""
    settings = descriptor_of(strategy)
    if lacking := [name for name, _ in SIDES if not (folder / name).is_dir()]:
        raise MatcherError(
            f"{folder} holds no {lacking[0]}: name the folder of a run, or one with what `describe` wrote as queries and references"
        )
    queries, references = (load_descriptors(folder / name, side=side, strategy=strategy)[0] for name, side in SIDES)
    pictures = {side: load_described(folder / name)[0].pictures for name, side in SIDES}
    seen = compare_views(whole(queries), whole(references), settings, **pictures)
    return Vectors(seen.queries.image_id, seen.queries.rows * seen.length[:, None]), Vectors(seen.references.image_id, seen.references.rows)


def whole(described: Descriptors) -> Descriptors:
    """Described views -> those of whole pictures. MatcherError if there are none."""
    found = described.take(choose(described.kind, ["whole"]))
    if not len(found):
        raise MatcherError("the descriptor track takes one vector of each whole picture, and no whole picture is described")
    return found


def best(pairs: ScoredPairs, rows: int) -> ScoredPairs:
    """Predictions -> the ``rows`` with the highest scores, highest first, equal ones in the order of their ids."""
    return pairs.take(np.lexsort((pairs.reference_id, pairs.query_id, -pairs.score))[:rows])


def rank(queries: Vectors, references: Vectors, *, rows: int) -> ScoredPairs:
    """Vectors of both sides -> the ``rows`` closest pairs of all, as the challenge ranks them: by minus the squared distance."""
    found: list[ScoredPairs] = []
    height = max(1, AT_ONCE // max(len(references.ids), 1))
    farthest = np.inf
    for start in range(0, len(queries.ids), height):
        squared = distances(queries.rows[start : start + height], references.rows)
        q, r = np.nonzero(squared <= farthest)
        found.append(ScoredPairs.from_scores(queries.ids[start + q], references.ids[r], -squared[q, r]))
        if sum(map(len, found)) > 2 * rows:
            found = [best(ScoredPairs.concat(found), rows)]
            farthest = -float(found[0].score[-1])
    return best(ScoredPairs.concat(found), rows)


def distances(queries: Float, references: Float) -> np.ndarray:
    """Rows (Q, d) and (R, d) -> squared distances (Q, R), 0 at least."""
    product = queries.astype(np.float64) @ references.astype(np.float64).T
    lengths = np.square(queries, dtype=np.float64).sum(axis=1)[:, None] + np.square(references, dtype=np.float64).sum(axis=1)
    return np.maximum(lengths - 2 * product, 0)
