"""What a strategy asks for one query, and what a reference takes: counted, and timed where it was done."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from matcher.features import FeatureSet
from matcher.scoring.pair_model import view_pairs
from matcher.scoring.sub_image import SubImage
from matcher.settings import Strategy
from matcher.shortlist.similarity import PairSimilarity
from matcher.stages.ablation_bench import Bench, Described, pairs_of, wants_keypoints
from matcher.stages.describing import load_described
from matcher.stages.descriptors import DESCRIPTORS, compare_descriptors
from matcher.storage.stage import Stage
from matcher.types import Candidates, Descriptors, PairScores

KEYPOINT_BYTES = 128 + 2 * 4 + 4 + 4  # rows, place, size and angle, as they are stored


@dataclass(frozen=True)
class Cost:
    """Means over the queries, and over the references.

    Attributes:
        pairs: candidates judged
        views: views of a query that the descriptor sees
        passes: view pairs that the pair model judges
        seconds: of a query, from its file to its scores, on the machine that made the stages
        reference_seconds: to describe a reference
        reference_bytes: keypoints and descriptors (float32) that are searched
    """

    pairs: float
    views: float
    passes: float
    seconds: float
    reference_seconds: float
    reference_bytes: float


def view_shares(group: Described, similarity: PairSimilarity | None) -> list[float]:
    """The described views of either side, and those that a strategy asks for -> its share of each."""
    if similarity is None:
        return [0.0, 0.0]
    described = [len(Stage.load(folder / DESCRIPTORS, Descriptors).read()) for folder in group.sides]
    return [len(asked) / max(all_of, 1) for asked, all_of in zip((similarity.queries, similarity.references), described, strict=True)]


def count_passes(
    queries: FeatureSet, references: FeatureSet, similarity: PairSimilarity | None, strategy: Strategy, scores: PairScores
) -> int:
    """Pair scores -> how many view pairs the pair model judged."""
    settings, rules = strategy.scorers.pair_model, strategy.scorers.sub_image
    if settings is None:
        return 0
    sub_image = SubImage(similarity, rules, queries.pictures, references.pictures) if similarity and rules else None
    look = partial(view_pairs, similarity=similarity, sub_image=sub_image, rules=settings.views)
    judged = scores.take(np.isfinite(scores.evidence["pair_logit"]))
    pairs = ((queries.number[q], references.number[r]) for q, r in pairs_of(judged))
    return sum(len(look(queries.pictures.take([query]), references.pictures.take([reference]))) for query, reference in pairs)


def count_cost(bench: Bench, name: str, group: Described, strategy: Strategy, candidates: Candidates, scores: PairScores) -> Cost:
    """A row of the grid, its candidates and their scores -> its cost.

    A stage that rows share is charged to each by its share: of the views, or of the pairs.
    """
    (queries, _), (references, _) = (load_described(folder) for folder in group.sides)
    similarity, _ = compare_descriptors(*group.sides, references.pictures, strategy)
    counts = len(queries) or 1, len(references) or 1
    shares = view_shares(group, similarity)
    describing = [
        (bench.seconds.get(f"keypoints of {side}, {group.folder.name}", 0.0) if wants_keypoints(strategy) else 0.0)
        + bench.seconds.get(f"descriptors of {side}, {group.folder.name}", 0.0) * share
        for side, share in zip(("query", "reference"), shares, strict=True)
    ]
    judging = bench.score_seconds(group, strategy, candidates)
    keypoints = len(references.keypoints) * KEYPOINT_BYTES if wants_keypoints(strategy) else 0
    return Cost(
        pairs=len(scores) / counts[0],
        views=len(similarity.queries) / counts[0] if similarity else 0.0,
        passes=count_passes(queries, references, similarity, strategy, scores) / counts[0],
        seconds=(describing[0] + bench.shortlist_seconds(name, group, strategy) + judging) / counts[0],
        reference_seconds=describing[1] / counts[1],
        reference_bytes=(keypoints + (similarity.references.rows.nbytes if similarity else 0)) / counts[1],
    )
