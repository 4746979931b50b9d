"""Descriptors of views on both sides -> their similarities, normalised against a background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from matcher.background import Background, load_background
from matcher.postprocessing import move
from matcher.settings import DescriptorSettings
from matcher.shortlist.neighbours import Ints, rows_by_id
from matcher.types import Descriptors, Float, Pictures, Views


class PairSimilarity:
    """Views of both sides, and what is taken off the similarities of each query view (V,): the same numbers for any pair of pictures.

    ``members``: likewise by each descriptor of an ensemble alone; none if there is one descriptor. ``length``: what the cosines of
    each query view are multiplied by before (V,); none = 1.
    """

    def __init__(
        self,
        queries: Descriptors,
        references: Descriptors,
        penalty: Float,
        members: Sequence[PairSimilarity] = (),
        *,
        length: Float | None = None,
    ) -> None:
        self.queries, self.references, self.penalty, self.members = queries, references, penalty, members
        self.length = np.ones_like(penalty) if length is None else length
        self.query_rows, self.reference_rows = rows_by_id(queries.image_id), rows_by_id(references.image_id)

    def has(self, query_id: str, reference_id: str) -> bool:
        """Whether both pictures have views."""
        return query_id in self.query_rows and reference_id in self.reference_rows

    def views(self, query_id: str, reference_id: str) -> tuple[Views, Views]:
        """Two pictures -> their described views."""
        none = np.empty(0, dtype=np.int64)
        rows = self.query_rows.get(query_id, none), self.reference_rows.get(reference_id, none)
        return views_at(self.queries, rows[0]), views_at(self.references, rows[1])

    def between(self, query_id: str, reference_id: str) -> NDArray[np.float32]:
        """Two pictures with views -> similarities of all their view pairs (views of the query, views of the reference)."""
        query, reference = self.query_rows[query_id], self.reference_rows[reference_id]
        cosine: NDArray[np.float32] = self.queries.rows[query] @ self.references.rows[reference].T
        return self.length[query][:, None] * cosine - self.penalty[query][:, None]


def views_at(described: Descriptors, rows: Ints) -> Views:
    """Some rows of described views, without their vectors."""
    return Views(**{name: getattr(described, name)[rows] for name, _, _ in Views.columns()})


def compare_views(queries: Descriptors, references: Descriptors, settings: DescriptorSettings, **sides: Pictures) -> PairSimilarity:
    """Views of both sides, their pictures (``query``, ``reference``) -> similarities, moved and normalised if there is a background.

    MatcherError if a background picture is among theirs.
    """
    return compare_with(load_background(settings, **sides), queries, references, settings)


def compare_with(
    background: Background | None, queries: Descriptors, references: Descriptors, settings: DescriptorSettings
) -> PairSimilarity:
    """Views of both sides -> similarities. Those of each member of an ensemble, by its own part of the background, stand beside them."""

    def of_part(part: slice, length: float, members: Sequence[PairSimilarity] = ()) -> PairSimilarity:
        rows = [side.rows[:, part] * np.float32(length) for side in (queries, references)]
        if background is None:
            sides = replace(queries, rows=rows[0]), replace(references, rows=rows[1])
            return PairSimilarity(*sides, np.zeros(len(queries), dtype=np.float32), members)
        moved = move(rows[0], rows[1], background.rows[:, part] * np.float32(length), settings.post)
        sides = replace(queries, rows=moved.queries), replace(references, rows=moved.references)
        strangers = replace(background, rows=moved.background)
        offset: Float = (moved.length**2 - 1) / np.float32(2)  # what a similarity is less than <q', r>, and one to a stranger too
        penalty = offset * np.float32(1 - settings.background_weight)
        if len(queries):
            penalty += strangers.penalty(
                moved.queries * moved.length[:, None],
                weight=settings.background_weight,
                nearest=settings.background_nearest,
                skip=settings.background_skip,
            )
        return PairSimilarity(*sides, penalty, members, length=moved.length)

    count, width = len(settings.members), max(queries.rows.shape[1], references.rows.shape[1])  # a side without views has 0
    parts = [slice(n * width // count, (n + 1) * width // count) for n in range(count)] if count > 1 else []
    return of_part(slice(None), 1.0, [of_part(part, count**0.5) for part in parts])
