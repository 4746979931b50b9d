"""The verbs, file to file; ``run`` calls them in order. Heavy imports happen inside, so that ``--help`` is quick."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from matcher.settings import Strategy

if TYPE_CHECKING:
    from pathlib import Path

OnError = Literal["skip", "raise"]


@dataclass(frozen=True)
class Job:
    """How a verb works, not what it finds: none of this changes a result.

    Args:
        workers: threads; 0 = one for each core
        on_error: "skip" lists bad items in errors.parquet and goes on, "raise" stops at the first
        fresh: throw away what an earlier run left in the output folder instead of resuming it
        cache: folder of keypoints kept between runs under the picture's content and the settings; null = no cache
    """

    workers: int = 0
    on_error: OnError = "skip"
    fresh: bool = False
    cache: str | None = None


def run(queries: str, references: str, output: str, *, strategy: Strategy = Strategy(), job: Job = Job(), ground_truth: str | None = None) -> Any:
    """Find which queries are edited copies of which references, and write predictions, report and every stage file.

    Args:
        queries: a folder (recursive), a glob, a list file, or a CSV/Parquet table with columns id and path
        references: likewise
        output: folder for everything that is written; running again with the same settings resumes
        strategy: what is done
        job: how it is done
        ground_truth: CSV with query_id,reference_id: mark right and wrong in the report, and evaluate
    """


def describe(images: str, output: str, *, side: Literal["query", "reference"] = "reference", strategy: Strategy = Strategy(), job: Job = Job()) -> Path:
    """Pictures -> their keypoints (and descriptors, if the strategy names a descriptor).

    Args:
        images: a folder (recursive), a glob, a list file, or a CSV/Parquet table with columns id and path
        output: folder of the stage files
        side: whose settings apply
    """


def index(described: str, output: str, *, strategy: Strategy = Strategy(), job: Job = Job()) -> Path:
    """Described references -> a searchable index.

    Args:
        described: the folder that `describe --side reference` wrote
        output: folder of the index
    """


def shortlist(described: str, index: str, output: str, *, strategy: Strategy = Strategy(), job: Job = Job()) -> Path:
    """Described queries and an index -> candidates.

    Args:
        described: the folder that `describe --side query` wrote
        index: the folder that `index` wrote
        output: folder of the candidates
    """


def score(pairs: str, queries: str, references: str, output: str, *, strategy: Strategy = Strategy(), job: Job = Job()) -> Path:
    """A list of candidate pairs -> their evidence, in the list's order and with the list's own columns.

    Args:
        pairs: CSV or Parquet with query_id and reference_id (or the candidates stage); other columns are carried through
        queries: the pictures, see run
        references: the pictures, see run
        output: folder of the pair_scores
    """


def fuse(pair_scores: str, output: str, *, strategy: Strategy = Strategy()) -> Path:
    """Pair scores -> one logit a pair.

    Args:
        pair_scores: what `score` wrote
        output: Parquet file
    """


def calibrate(fused: str, output: str, *, strategy: Strategy = Strategy()) -> Path:
    """Fused logits -> predictions with probabilities.

    Args:
        fused: what `fuse` wrote
        output: Parquet file; a CSV in the challenge's format is written beside it
    """


def fit_fusion(pair_scores: str, ground_truth: str, output: str, *, seed: int = 0) -> Any:
    """Labelled pair scores -> the fusion model that `fuse` and `calibrate` use.

    Args:
        pair_scores: what `score` or `run` wrote, on pairs that `synthesize` made; never those of an evaluation
        ground_truth: CSV with query_id,reference_id
        output: JSON file
    """


def compare(query: str, reference: str, *, strategy: Strategy = Strategy()) -> Any:
    """Two pictures -> is the first an edited copy of the second, which part, how sure, and why.

    Args:
        query: a picture
        reference: a picture
    """
