"""Rules on which views meet -> the nearest references of every query by descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from matcher.errors import UsageError
from matcher.settings import DescriptorSettings, NearestViews, ViewPairs
from matcher.shortlist.neighbours import PairSimilarity, first_seen, neighbours
from matcher.types import Candidates, Descriptors, Text
from matcher.views.choose import Mask, choose, choose_first, kinds_of


def nearest(similarity: PairSimilarity, rules: Sequence[NearestViews]) -> Candidates:
    """Views of both sides and rules -> every pair that a rule finds, once, with its closest views; nearest first within a query."""
    parts = [by_rule(similarity, rule) for rule in rules]
    ids = [np.concatenate([part[0] for part in parts]), np.concatenate([part[1].reference_id for part in parts])]
    values, frames = ([np.concatenate([getattr(part[1], name) for part in parts]) for name in names] for names in (("similarity",), FRAMES))
    query_of, reference_of = (first_seen(column) if len(column) else np.empty(0, dtype=np.int64) for column in ids)
    order = np.lexsort((-values[0], query_of))
    best = order[np.sort(np.unique(np.stack([query_of, reference_of])[:, order], axis=1, return_index=True)[1])]
    return Candidates(
        query_id=ids[0][best],
        reference_id=ids[1][best],
        similarity=values[0][best],
        source=np.full(len(best), "neighbours"),
        **{name: column[best] for name, column in zip(FRAMES, frames, strict=True)},
    )


FRAMES = ("query_frame", "reference_frame")


def by_rule(similarity: PairSimilarity, rule: NearestViews) -> tuple[Text, Candidates]:
    """Views of both sides and one rule -> ids of the queries (P,), and their candidates (whose query_id may be that of a view)."""
    queries, references = similarity.queries, similarity.references
    rows = np.flatnonzero(meets(queries, rule))
    asked = queries.take(rows)
    if rule.each:
        asked = replace(asked, image_id=rows.astype(np.str_))
    others = references.take(choose(references.kind, rule.reference))
    found = neighbours(asked, others, per_query=rule.per_query, penalty=similarity.penalty[rows] + np.float32(rule.handicap))
    return queries.image_id[found.query_id.astype(np.int64)] if rule.each else found.query_id, found


def meets(queries: Descriptors, rule: ViewPairs) -> Mask:
    """Views of the queries (V,) -> which of them a rule asks, (V,)."""
    if rule.first and rule.query is not None:
        return choose_first(queries.image_id, queries.kind, rule.query)
    return choose(queries.kind, rule.query)


def check_rules(rules: Sequence[ViewPairs], settings: DescriptorSettings) -> None:
    """UsageError if a rule names a view that the descriptor's settings do not describe."""
    for rule in rules:
        for side, names in (("query", rule.query), ("reference", rule.reference)):
            described = {kind for name in getattr(settings, f"{side}_views") for kind in kinds_of(name)}
            for name in names or ():
                if missing := [kind for kind in kinds_of(name) if kind not in described]:
                    raise UsageError(
                        f"a rule wants the {side} view {name!r}, but descriptor.{side}_views does not describe {missing[0]!r}: add it there"
                    )
