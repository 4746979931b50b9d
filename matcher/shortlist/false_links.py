"""How often strangers look alike: the similarity above which a query has a false link among so many references.

A background set holds strangers only. A third of it plays the queries, a third the references, a third the background that similarities
are normalised against. Their similarities show what share of pairs of strangers reaches a threshold, p(t); against M
references a query of a stranger expects M p(t) false links. Rarer thresholds than the pairs show are extrapolated by the generalised
Pareto distribution of what exceeds a high quantile (Pickands 1975), fitted by its moments (Hosking and Wallis 1987).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matcher.background import Background
from matcher.errors import MatcherError, UsageError
from matcher.geometry import identity
from matcher.metrics.bootstrap import Interval, percentile_interval
from matcher.metrics.summary import align, show_interval
from matcher.settings import DescriptorSettings
from matcher.shortlist.similarity import compare_with
from matcher.types import Descriptors, Float

LEAST = 300  # background pictures
TAIL = 1e-3  # share of the pairs that the tail is fitted on
COUNTED = 30  # pairs above a threshold from which on they are counted, not extrapolated
RESAMPLES = 200
EVERY = (1, 10, 100, 1_000, 10_000)  # queries


@dataclass(frozen=True)
class Threshold:
    """One false link is expected in ``queries`` queries of strangers, at this similarity or above."""

    queries: int
    similarity: Interval  # NaN = none is so rare: some strangers in this background are as alike as copies
    counted: bool  # false = extrapolated

    @property
    def reachable(self) -> bool:
        return not np.isnan(self.similarity.value)

    def cells(self) -> list[str]:
        """What a table says of it."""
        value, span = show_interval(self.similarity)
        note = "out of reach" if not self.reachable else "" if self.counted else "extrapolated"
        return ["in every query" if self.queries == 1 else f"in one of {self.queries:,}", value, span, note]


NOTES: tuple[tuple[str, Callable[[Threshold], bool]], ...] = (
    ("Trust similarities above that of the row you can live with.", lambda row: row.reachable),
    ("extrapolated: rarer than these pairs show, by the shape of their tail", lambda row: row.reachable and not row.counted),
    (
        "out of reach: some strangers are as alike as copies, so no similarity makes chance so rare: let keypoints judge too",
        lambda row: not row.reachable,
    ),
)


@dataclass(frozen=True)
class FalseLinks:
    """What to expect against a gallery of so many references, by so many pairs of strangers."""

    gallery: int
    pairs: int
    thresholds: tuple[Threshold, ...]

    def as_dict(self) -> dict[str, Any]:
        rows = [{"queries": t.queries, "similarity": vars(t.similarity), "counted": t.counted} for t in self.thresholds]
        return {"gallery": self.gallery, "pairs": self.pairs, "thresholds": rows}

    def __str__(self) -> str:
        many = f"{self.gallery:,} reference{'' if self.gallery == 1 else 's'}"
        head = f"Against {many}, a query that is a copy of nothing finds one as alike as this by chance (descriptor_similarity):"
        table = align(["how often", "at or above", "95 % interval", ""], [row.cells() for row in self.thresholds])
        notes = [text for text, told in NOTES if any(told(row) for row in self.thresholds)]
        counted = f"By {self.pairs:,} pairs of strangers, the background's pictures."
        return "\n".join([head, "", table, "", counted, *notes])


def expect_false_links(background: Background, settings: DescriptorSettings, *, gallery: int, seed: int = 0) -> FalseLinks:
    """A background and how its descriptors are compared -> thresholds, with 95 % intervals over resamples of the strangers that ask."""
    if gallery < 1:
        raise UsageError(f"gallery must be at least 1, not {gallery}")
    similarity, highest = between_strangers(background, settings)
    shares = [1 / (queries * gallery) for queries in EVERY]
    generator, count = np.random.default_rng(seed), len(similarity)
    drawn = (similarity[generator.integers(count, size=count)] for _ in range(RESAMPLES))
    spread = np.array([thresholds_of(one.ravel(), shares) for one in drawn])
    rows = []
    for queries, share, value, values in zip(EVERY, shares, thresholds_of(similarity.ravel(), shares), spread.T, strict=True):
        known = percentile_interval(value if value < highest else np.nan, np.minimum(values, highest))
        rows.append(Threshold(queries, known, share * similarity.size >= COUNTED))
    return FalseLinks(gallery, similarity.size, tuple(rows))


def between_strangers(background: Background, settings: DescriptorSettings) -> tuple[NDArray[np.float64], float]:
    """A background -> similarities of a third of its pictures with another (Q, R), as a run gives them, and the highest possible one."""
    if len(background.rows) < LEAST:
        raise MatcherError(
            f"the background holds {len(background.rows)} pictures: {LEAST} are needed to say how often strangers look alike"
        )
    queries, references, rest = (np.array_split(background.rows, 3)[n] for n in range(3))
    strangers = Background(rest, background.keys[:0], background.card)
    try:
        seen = compare_with(strangers, as_views(queries), as_views(references), settings)
    except UsageError as error:
        raise MatcherError(
            f"a third of the background's {len(background.rows):,} pictures normalises the others: {error}; make a larger one "
            "(matcher background --pictures)"
        ) from error
    cosine = seen.queries.rows.astype(np.float64) @ seen.references.rows.T
    return seen.length[:, None] * cosine - seen.penalty[:, None], float((seen.length - seen.penalty).max())


def as_views(rows: Float) -> Descriptors:
    count = len(rows)
    return Descriptors(
        image_id=np.arange(count).astype(np.str_),
        frame=np.broadcast_to(identity(), (count, 3, 3)),
        kind=np.full(count, "whole"),
        confidence=np.ones(count, dtype=np.float32),
        rows=rows / np.linalg.norm(rows, axis=1, keepdims=True),  # the file has them in half precision
    )


def thresholds_of(similarity: NDArray[np.float64], shares: Sequence[float]) -> list[float]:
    """Similarities of strangers (P,), and shares of all pairs -> the similarities that so many reach."""
    most = min(len(similarity) - 1, int(max([TAIL, *shares]) * len(similarity)) + COUNTED)
    falling = np.sort(np.partition(similarity, len(similarity) - most - 1)[-most - 1 :])[::-1]
    return [threshold_of(falling, share * len(similarity), tail=max(COUNTED, int(TAIL * len(similarity)))) for share in shares]


def threshold_of(falling: NDArray[np.float64], wanted: float, *, tail: int) -> float:
    """The highest similarities, falling -> that which ``wanted`` of them reach; of few, or less than one, by the ``tail`` highest."""
    if wanted >= COUNTED:
        return float(falling[min(int(wanted), len(falling)) - 1])
    start = float(falling[tail])
    excess = falling[:tail] - start
    ratio = excess.mean() ** 2 / max(excess.var(), 1e-18)
    shape, scale = (1 - ratio) / 2, excess.mean() * (1 + ratio) / 2
    rarity = wanted / tail
    return start - scale * float(np.log(rarity)) if abs(shape) < 1e-6 else start + scale / shape * (rarity**-shape - 1)
