"""The verbs of a run, file to file; ``run`` calls them in order. Heavy imports happen inside, so that ``--help`` is quick."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Literal

from matcher.settings import Strategy
from matcher.stages.job import Job
from matcher.verb import verb

MYPY = False  # true to type checkers; jsonargparse would run the imports below a TYPE_CHECKING, for one second
if MYPY:
    from matcher.metrics.evaluation import Evaluation
    from matcher.stages.comparing import Comparison
    from matcher.stages.running import RunSummary

Side = Literal["query", "reference"]
Place = str | PathLike[str]


@verb
def run(
    queries: Place,
    references: Place,
    output: Place,
    *,
    strategy: Strategy = Strategy(),
    job: Job = Job(),
    ground_truth: Place | None = None,
) -> RunSummary:
    """Find which queries are edited copies of which references, and write predictions, a report and every stage file.

    Args:
        queries: a folder (recursive), a glob, a list file, or a CSV/Parquet table with columns id and path
        references: likewise, or a collection that `add` made
        output: folder for everything that is written; running again with the same settings resumes
        strategy: what is done
        job: how it is done
        ground_truth: CSV with query_id,reference_id: evaluate, and mark right and wrong in the report
    """
    from matcher.engine.shards import engine_started
    from matcher.stages.budgeting import keep_to_budget
    from matcher.stages.collection import is_collection
    from matcher.stages.describing import loaded_once
    from matcher.stages.readiness import check_ready, read_truth
    from matcher.stages.running import RunFolder

    check_ready(strategy, queries=queries, references=references)
    if ground_truth is not None:
        read_truth(ground_truth, queries=queries, references=references)
    with engine_started(job.engine, job.workers), RunFolder(output, strategy=strategy, fresh=job.fresh) as folder, loaded_once():
        with folder.timed("describe queries"):
            described_queries = describe(queries, folder / "queries", side="query", strategy=strategy, job=job)
        if is_collection(references):
            described_references = indexed = Path(references)
        else:
            with folder.timed("describe references"):
                described_references = describe(references, folder / "references", side="reference", strategy=strategy, job=job)
            with folder.timed("index"):
                indexed = index(described_references, folder / "index", strategy=strategy, job=job)
        described = described_queries, described_references
        with folder.timed("shortlist"):
            candidates = shortlist(*described, indexed, folder / "candidates", strategy=strategy, job=job)
        if (seconds := strategy.budget.seconds_per_query) is not None:
            with folder.timed("measure the pace"):
                candidates = keep_to_budget(candidates, *described, folder / "budget", seconds=seconds, strategy=strategy, job=job)
        with folder.timed("score"):
            scored = score(candidates, *described, folder / "pair_scores", strategy=strategy, job=job)
        with folder.timed("fuse"):
            fused = fuse(scored, folder / "fused.parquet", strategy=strategy)
        with folder.timed("calibrate"):
            predictions = calibrate(fused, folder / "predictions.parquet", strategy=strategy)
        if ground_truth is not None:
            with folder.timed("evaluate"):
                folder.keep(evaluate(predictions, ground_truth))
        with folder.timed("report"):
            report(predictions, *described, folder / "report.html", ground_truth=ground_truth, strategy=strategy)
        return folder.summary(described_references)


@verb
def add(references: Place, collection: Place, *, strategy: Strategy = Strategy(), job: Job = Job()) -> Path:
    """Pictures -> a collection of references that `run`, `shortlist`, `score` and `report` take, made or made larger.

    Pictures that are in it unchanged are passed over, so a folder that grows may be added again and again.

    Args:
        references: a folder (recursive), a glob, a list file, or a CSV/Parquet table with columns id and path
        collection: folder of the collection
        strategy: what is done; the same for all that is ever added, and for the searches
        job: how it is done
    """
    from matcher.stages.collecting import add_references

    return add_references(references, Path(collection), strategy=strategy, job=job)


@verb
def remove(ids: Place, collection: Place) -> Path:
    """Ids -> the collection without these pictures: searches skip them.

    Args:
        ids: CSV or Parquet table with a column id
        collection: folder of the collection
    """
    from matcher.stages.collecting import remove_references

    return remove_references(ids, Path(collection))


@verb
def describe(images: Place, output: Place, *, side: Side = "reference", strategy: Strategy = Strategy(), job: Job = Job()) -> Path:
    """Pictures -> their keypoints (and descriptors, if the strategy names a descriptor).

    Args:
        images: a folder (recursive), a glob, a list file, or a CSV/Parquet table with columns id and path
        output: folder of the stage files
        side: whose settings apply
        strategy: what is done
        job: how it is done
    """
    from matcher.stages.describing import describe_path

    return describe_path(images, Path(output), side=side, strategy=strategy, job=job)


@verb
def index(described: Place, output: Place, *, strategy: Strategy = Strategy(), job: Job = Job()) -> Path:
    """Described references -> a searchable index of their keypoints.

    Args:
        described: the folder that `describe --side reference` wrote
        output: folder of the index
        strategy: what is done
        job: how it is done
    """
    from matcher.stages.shortlisting import build_index

    return build_index(Path(described), Path(output), strategy=strategy, job=job)


@verb
def shortlist(queries: Place, references: Place, index: Place, output: Place, *, strategy: Strategy = Strategy(), job: Job = Job()) -> Path:
    """Described queries, described references and their index -> candidates.

    Args:
        queries: the folder that `describe --side query` wrote
        references: the folder that `describe --side reference` wrote, or a collection
        index: the folder that `index` wrote, or the same collection
        output: folder of the candidates
        strategy: what is done
        job: how it is done
    """
    from matcher.stages.shortlisting import shortlist_pairs

    return shortlist_pairs(Path(queries), Path(references), Path(index), Path(output), strategy=strategy, job=job).folder


@verb
def score(pairs: Place, queries: Place, references: Place, output: Place, *, strategy: Strategy = Strategy(), job: Job = Job()) -> Path:
    """A list of candidate pairs -> their evidence, in the list's order and with the list's own columns.

    Args:
        pairs: CSV or Parquet with query_id and reference_id, or a folder of candidates; other columns are carried through, and pairs
            whose column source names `second votes` are judged by the keypoints of these
        queries: the pictures (see run), or the folder that `describe --side query` wrote
        references: likewise
        output: folder of the pair scores
        strategy: what is done
        job: how it is done
    """
    from matcher.stages.scoring import score_list

    return score_list(pairs, queries, references, Path(output), strategy=strategy, job=job)


@verb
def fuse(pair_scores: Place, output: Place, *, strategy: Strategy = Strategy()) -> Path:
    """Pair scores -> the same with one logit a pair.

    Args:
        pair_scores: the folder that `score` wrote
        output: Parquet file
        strategy: what is done
    """
    from matcher.stages.predicting import fuse_scores

    return fuse_scores(Path(pair_scores), Path(output), strategy=strategy)


@verb
def calibrate(fused: Place, output: Place, *, strategy: Strategy = Strategy()) -> Path:
    """Fused pair scores -> predictions with probabilities, as Parquet and as CSV in the challenge's format.

    Args:
        fused: the file that `fuse` wrote
        output: Parquet file; the CSV is written beside it
        strategy: what is done
    """
    from matcher.stages.predicting import calibrate_scores

    return calibrate_scores(Path(fused), Path(output), strategy=strategy)


@verb
def evaluate(predictions: Place, ground_truth: Place, *, edits: Place | None = None, resamples: int = 1000, seed: int = 0) -> Evaluation:
    """Predictions and the truth -> uAP, recall at precision 0.9, recall at 1 and 10, calibration and location, with intervals.

    Args:
        predictions: predictions.parquet, or a CSV with query_id,reference_id,score
        ground_truth: CSV with query_id,reference_id; an empty reference_id means a copy of nothing
        edits: CSV with families, severity, covered and frame, for tables by edit and for location
        resamples: bootstrap resamples of the queries
        seed: of the resamples
    """
    from matcher.metrics.evaluation import evaluate as measure

    return measure(Path(predictions), Path(ground_truth), edits=Path(edits) if edits is not None else None, resamples=resamples, seed=seed)


@verb
def report(
    predictions: Place,
    queries: Place,
    references: Place,
    output: Place,
    *,
    ground_truth: Place | None = None,
    limit: int = 500,
    strategy: Strategy = Strategy(),
) -> Path:
    """Predictions -> one HTML page with both pictures of every pair and the region found in each.

    Args:
        predictions: predictions.parquet
        queries: the pictures (see run), or the folder that `describe` wrote of them
        references: likewise
        output: HTML file
        ground_truth: CSV with query_id,reference_id: mark right, wrong and missed
        limit: most predictions shown
        strategy: how its pictures are decoded, and where they may lie
    """
    from matcher.stages.reporting import report_files

    images = strategy.images
    return report_files(predictions, queries, references, Path(output), ground_truth=ground_truth, limit=limit, image_settings=images)


@verb
def compare(query: Place, reference: Place, *, strategy: Strategy = Strategy()) -> Comparison:
    """Two pictures -> is the first an edited copy of the second, which part, how sure, and why.

    Args:
        query: a picture
        reference: a picture
        strategy: what is done
    """
    from matcher.stages.comparing import compare_pictures

    return compare_pictures(query, reference, strategy=strategy)
