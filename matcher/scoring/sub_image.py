"""Descriptors of the views of both pictures -> one similarity a pair: local to global, global to local, or both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from matcher.geometry import Array, corners
from matcher.settings import SubImageSettings
from matcher.shortlist.rules import meets
from matcher.shortlist.similarity import PairSimilarity
from matcher.types import Descriptors, Pictures
from matcher.views.choose import Mask, choose


class SubImage:
    """Compares pictures by those of their views that the rules let meet. A pair's number depends on its two pictures alone.

    Args:
        similarity: descriptors of the views of both sides
        settings: the rules, and how what they say becomes one number
        queries: whose sizes decide which views are too small
        references: likewise
    """

    def __init__(self, similarity: PairSimilarity, settings: SubImageSettings, queries: Pictures, references: Pictures) -> None:
        self.similarity, self.settings = similarity, settings
        large = [
            large_enough(views, pictures, settings.smallest)
            for views, pictures in ((similarity.queries, queries), (similarity.references, references))
        ]
        self.rules = [
            (meets(similarity.queries, rule) & large[0], choose(similarity.references.kind, rule.reference) & large[1], rule.handicap)
            for rule in settings.views
        ]

    def compare(self, query_id: str, reference_id: str) -> float:
        """Two pictures -> their similarity, -2 to 2 or so; NaN if none of their views meet."""
        met = self.between(query_id, reference_id)
        return combine(met[np.isfinite(met)], self.settings)

    def closest_views(self, query_id: str, reference_id: str) -> tuple[Array, Array] | None:
        """Two pictures -> the frames of their closest view pair; None if none meet."""
        met = self.between(query_id, reference_id)
        if not np.isfinite(met).any():
            return None
        reference, query = np.unravel_index(met.T.argmax(), met.T.shape)
        seen = self.similarity.views(query_id, reference_id)
        return seen[0].frame[query], seen[1].frame[reference]

    def between(self, query_id: str, reference_id: str) -> NDArray[np.float64]:
        """Two pictures -> similarities of all their view pairs (views of the query, views of the reference), -inf where none meet."""
        if not self.similarity.has(query_id, reference_id):
            return np.empty((0, 0))
        rows, columns = self.similarity.query_rows[query_id], self.similarity.reference_rows[reference_id]
        between = self.similarity.between(query_id, reference_id)
        best = np.full(between.shape, -np.inf)
        for query, reference, handicap in self.rules:
            met = np.outer(query[rows], reference[columns])
            best[met] = np.maximum(best[met], between[met] - handicap)
        return best


def combine(values: NDArray[np.float64], settings: SubImageSettings) -> float:
    """Similarities of the view pairs that met (M,) -> one; NaN if there is none."""
    if not len(values):
        return float("nan")
    if settings.combine == "two_closest":
        return float(np.sort(values)[-2:].mean())
    if settings.combine == "log_mean_exp":
        return log_mean_exp(settings.sharpness * values) / settings.sharpness
    return float(values.max())


def log_mean_exp(values: NDArray[np.floating]) -> float:
    """Numbers (M,), M >= 1 -> the log of the mean of their exponentials."""
    top = float(values.max())
    return top + float(np.log(np.mean(np.exp(values - top))))


def large_enough(views: Descriptors, pictures: Pictures, smallest: int) -> Mask:
    """Views (V,), their pictures and a number of pixels -> False where a part of the picture is smaller, (V,)."""
    if smallest <= 0:
        return np.ones(len(views), dtype=bool)
    place = {id_: row for row, id_ in enumerate(pictures.id.tolist())}
    sizes = np.stack([pictures.width, pictures.height], axis=1)[[place[id_] for id_ in views.image_id.tolist()]]
    sides = np.array([shorter_side(frame, size) for frame, size in zip(views.frame, sizes, strict=True)])
    return (sides >= smallest) | (sides >= sizes.min(axis=1) * 0.999)


def shorter_side(frame: Array, size_wh: NDArray[np.int64]) -> float:
    """Frame of a view and its picture's size -> the view's shorter side in pixels."""
    points = corners(frame) * size_wh
    return float(min(np.linalg.norm(points[1] - points[0]), np.linalg.norm(points[2] - points[1])))
