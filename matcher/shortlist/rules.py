"""Rules on which views meet -> the nearest references of every query by descriptors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from matcher.errors import UsageError
from matcher.settings import DescriptorSettings, NearestViews, ViewPairs
from matcher.shortlist.neighbours import first_seen, neighbours
from matcher.shortlist.similarity import PairSimilarity
from matcher.types import Candidates, Descriptors, PairScores, Text
from matcher.views.choose import FOUND, Mask, choose, choose_first, kinds_of_all

Found = tuple[Text, Candidates]  # ids of the queries (P,), and their candidates, whose query_id may be that of a view
COLUMNS = ("reference_id", "similarity", "query_frame", "reference_frame")


def nearest(similarity: PairSimilarity, rules: Sequence[NearestViews]) -> Candidates:
    """Views of both sides and rules -> every pair that a rule finds, once, with its closest views; nearest first within a query."""
    found = [part for rule in rules for part in by_rule(similarity, rule)]
    query_id = np.concatenate([ids for ids, _ in found])
    reference_id, value, *frames = (np.concatenate([getattr(part, name) for _, part in found]) for name in COLUMNS)
    if not len(query_id):
        return Candidates.empty()
    pair = np.stack([first_seen(query_id), first_seen(reference_id)])
    order = np.lexsort((-value, pair[0]))
    best = order[np.sort(np.unique(pair[:, order], axis=1, return_index=True)[1])]
    columns = dict(zip(COLUMNS, (column[best] for column in (reference_id, value, *frames)), strict=True))
    return Candidates(query_id=query_id[best], source=np.full(len(best), "neighbours"), **columns)


def by_rule(similarity: PairSimilarity, rule: NearestViews) -> list[Found]:
    """Views of both sides and one rule -> what is found; by each descriptor of an ensemble, if the rule counts their votes."""
    if rule.votes is None or not similarity.members:
        return [by_list(similarity, rule)]
    found = [by_list(member, rule) for member in similarity.members]
    votes = Counter(pair for _, listed in found for pair in pairs_of(listed))
    won = [np.array([votes[pair] >= rule.votes for pair in pairs_of(listed)], dtype=bool) for _, listed in found]
    return [(ids[kept], listed.take(kept)) for (ids, listed), kept in zip(found, won, strict=True)]


def by_list(similarity: PairSimilarity, rule: NearestViews) -> Found:
    """Likewise, one list."""
    queries, references = similarity.queries, similarity.references
    rows = np.flatnonzero(meets(queries, rule))
    asked = queries.take(rows)
    if rule.each:
        asked = replace(asked, image_id=rows.astype(np.str_))
    others = references.take(choose(references.kind, rule.reference))
    penalty, length = similarity.penalty[rows] + np.float32(rule.handicap), similarity.length[rows]
    found = neighbours(asked, others, per_query=rule.per_query, penalty=penalty, length=length)
    return queries.image_id[found.query_id.astype(np.int64)] if rule.each else found.query_id, found


def pairs_of(listed: Candidates | PairScores) -> list[tuple[str, str]]:
    """Rows -> (query id, reference id) of each."""
    return list(zip(listed.query_id.tolist(), listed.reference_id.tolist(), strict=True))


def meets(queries: Descriptors, rule: ViewPairs) -> Mask:
    """Views of the queries (V,) -> which of them a rule asks, (V,)."""
    if rule.first and rule.query is not None:
        return choose_first(queries.image_id, queries.kind, rule.query)
    return choose(queries.kind, rule.query)


def check_rules(rules: Sequence[ViewPairs], settings: DescriptorSettings) -> None:
    """UsageError if a rule names a view that the descriptor's settings do not describe, or wants more votes than there are descriptors."""
    for rule in rules:
        if isinstance(rule, NearestViews) and (rule.votes or 0) > (most := len(settings.members)):
            raise UsageError(f"a rule wants votes of {rule.votes} descriptors, and descriptor.backbone names {most}")
        for side, names in (("query", rule.query), ("reference", rule.reference)):
            described = kinds_of_all(getattr(settings, f"{side}_views"))
            for name in names or ():
                if missing := sorted(kinds_of_all([name]) - described):
                    raise UsageError(
                        f"a rule wants the {side} view {name!r}, but descriptor.{side}_views does not describe {missing[0]!r}: add it there"
                    )


def check_found(rules: Sequence[ViewPairs], settings: DescriptorSettings | None) -> None:
    """UsageError if a rule names an unknown view, or one that must be found (overlays, proposals) and that the settings do not describe."""
    kinds_of_all([name for rule in rules for name in (*(rule.query or ()), *(rule.reference or ()))])
    found = [replace(rule, query=only_found(rule.query), reference=only_found(rule.reference)) for rule in rules]
    check_rules(found, settings or DescriptorSettings(backbone="", query_views=[], reference_views=[]))


def only_found(names: Sequence[str] | None) -> list[str]:
    """Names of views -> those that no plan knows."""
    return [name for name in names or () if name.partition("+")[0] in FOUND]
