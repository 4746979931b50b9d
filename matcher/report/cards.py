"""One card for each pair on the page: two pictures, two outlines, and what is known about the pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import nan

import numpy as np
from numpy.typing import NDArray

from matcher.report.drawing import Outline, are_apart, outline_pair
from matcher.report.judging import PROBABLE, Pair, order_rows
from matcher.report.thumbnails import Thumbnail
from matcher.report.words import also_in_words, evidence_in_words, location_in_words, spoke_in_words
from matcher.types import Predictions


@dataclass(frozen=True)
class Side:
    """One of the two pictures of a pair."""

    name: str  # query or reference
    id: str
    picture: Thumbnail
    outline: Outline | None
    learned: Outline | None  # the pair model's, where the outline is somebody else's


@dataclass(frozen=True)
class Card:
    """A pair as the page shows it. ``probability`` and the shares are NaN where there is none."""

    query: Side
    reference: Side
    probability: float
    query_covered: float
    reference_covered: float
    words: list[str]
    state: str  # right, wrong, or "" = not judged
    missed: bool  # a true pair below the threshold at which the page opens
    truth: str  # the true references of a wrong prediction's query, "" = copy of nothing or not wrong


@dataclass(frozen=True)
class Dealer:
    """Makes cards of pairs: the predictions, what is known of them, and the pictures of both sides by id."""

    predictions: Predictions
    states: Sequence[str]  # (P,) see judging.judge
    truths: Mapping[str, Sequence[str]]  # query id -> its true references
    queries: Mapping[str, Thumbnail]
    references: Mapping[str, Thumbnail]

    def card(self, row: int, *, missed: bool = False) -> Card:
        """A row of the predictions -> its card."""
        p, state = self.predictions, self.states[row]
        pair = str(p.query_id[row]), str(p.reference_id[row])
        covered = float(p.query_covered[row]), float(p.reference_covered[row])
        evidence = {name: float(values[row]) for name, values in p.evidence.items()}
        spoke = spoke_in_words(evidence, p.frame[row], p.patch_frame[row])
        return Card(
            *self.sides(pair, p.frame[row], p.patch_frame[row]), float(p.probability[row]), *covered,
            words=location_in_words(*covered, bool(p.flip[row])) + self.also(pair, p.frame[row]) + evidence_in_words(evidence) + spoke,
            state=state, missed=missed, truth=", ".join(self.truths.get(pair[0], ())) if state == "wrong" else "",
        )  # fmt: skip

    def card_of_never_predicted(self, pair: Pair) -> Card:
        """A true pair that is not among the predictions -> its card."""
        nowhere = np.full((3, 3), nan)
        words = self.also(pair, nowhere)
        return Card(*self.sides(pair, nowhere, nowhere), nan, nan, nan, words=words, state="right", missed=True, truth="")

    @cached_property
    def probable(self) -> dict[str, list[int]]:
        """Query ids -> the rows of their probable predictions, most probable first."""
        rows: dict[str, list[int]] = {}
        for row in order_rows(self.predictions).tolist():
            if self.predictions.probability[row] >= PROBABLE:
                rows.setdefault(str(self.predictions.query_id[row]), []).append(row)
        return rows

    def also(self, pair: Pair, frame: NDArray[np.float64]) -> list[str]:
        """A pair and its frame -> what else its query is probably a copy of, in words."""
        p = self.predictions
        others = [row for row in self.probable.get(pair[0], ()) if p.reference_id[row] != pair[1]]
        return also_in_words([(str(p.reference_id[row]), float(p.probability[row]), are_apart(frame, p.frame[row])) for row in others])

    def sides(self, pair: Pair, frame: NDArray[np.float64], patch_frame: NDArray[np.float64]) -> tuple[Side, Side]:
        """Ids, and the frame query -> reference and the pair model's (NaN = none) -> both pictures with their outlines."""
        query, reference = self.queries[pair[0]], self.references[pair[1]]
        sizes = (query.width, query.height), (reference.width, reference.height)
        found = [one and replace(one, is_learned=np.array_equal(frame, patch_frame)) for one in outline_pair(frame, *sizes)]
        learned = (None, None) if np.array_equal(frame, patch_frame) else outline_pair(patch_frame, *sizes)
        return Side("query", pair[0], query, found[0], learned[0]), Side("reference", pair[1], reference, found[1], learned[1])
