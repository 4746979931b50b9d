"""The stage files of an ablation, in folders named by what decides them, and the seconds that each took."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from matcher import pipeline
from matcher.describe import wants
from matcher.settings import Strategy
from matcher.shortlist.rules import pairs_of
from matcher.shortlist.second_vote import SECOND_VOTES, voted_again
from matcher.stages.budgeting import keep_to_budget
from matcher.stages.job import Job
from matcher.stages.scoring import Place
from matcher.stages.strategies import read_strategy
from matcher.storage.aside import read_json, write_aside, write_json
from matcher.storage.stage import Stage
from matcher.storage.tables import write_table
from matcher.types import Candidates, PairScores
from matcher.views.choose import OVERLAYS, PROPOSALS, kinds_of_all

TIMINGS, STRATEGY = "timings.json", "strategy.yaml"
VIEWS = ("query_views", "reference_views")
Pair = tuple[str, str]  # ids


@dataclass(frozen=True)
class Described:
    """Both sides, described with all the views that any strategy of a group wants."""

    folder: Path
    strategy: Strategy

    @property
    def sides(self) -> tuple[Path, Path]:
        return self.folder / "queries", self.folder / "references"


class Bench:
    """The output folder of an ablation."""

    def __init__(self, output: Path, *, queries: Place, references: Place, job: Job) -> None:
        self.output, self.queries, self.references = output, queries, references
        self.job = replace(job, cache=job.cache or str(output / "cache"))
        self.per_pair: dict[tuple[str, bool], float] = {}  # seconds by the judges' name, and whether second votes found the pair
        known = read_json(output / TIMINGS) if (output / TIMINGS).is_file() and not job.fresh else {}
        self.seconds: dict[str, float] = known.get("seconds", {})
        self.finished: list[str] = known.get("finished", [])

    @property
    def without_cache(self) -> Job:
        """A row's seconds must not depend on what rows before it have kept."""
        return replace(self.job, cache=None)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Keep the seconds of the block under a name; those of the first time that it was finished, with those of stopped tries."""
        began, finished = time.perf_counter(), False
        try:
            yield
            finished = True
        finally:
            if name not in self.finished:
                self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - began, 3)
                self.finished += [name] if finished else []
                write_json(self.output / TIMINGS, {"seconds": self.seconds, "finished": self.finished})

    def describe(self, strategies: Mapping[str, Strategy]) -> dict[str, Described]:
        """Strategies by name -> what each looks at; those that differ in views only share it."""
        groups: dict[str, Described] = {}
        for names in share({name: asked_of(strategy) for name, strategy in strategies.items()}):
            made = self.find_described(with_all_views([strategies[name] for name in names]))
            self.describe_group(made)
            groups |= dict.fromkeys(names, made)
        return groups

    def find_described(self, strategy: Strategy) -> Described:
        """A strategy -> a folder where an earlier call described all that it asks for, and maybe more, else a new one."""
        asked, base = asked_of(strategy), self.output / "described"
        for place in sorted(base.glob(f"*/{STRATEGY}")):
            made = read_strategy([str(place)])
            there = asked_of(made)
            if all(there.get(key) == value for key, value in asked.items()) and views_of(strategy) <= views_of(made):
                return Described(place.parent, made)
        folder = base / short(asdict(strategy))
        folder.mkdir(parents=True, exist_ok=True)
        with write_aside(folder / STRATEGY) as file:
            file.write(yaml.safe_dump({"strategy": asdict(strategy)}).encode())
        return Described(folder, strategy)

    def describe_group(self, group: Described) -> None:
        """Keypoints first, then descriptors, so that each has its own seconds."""
        for place, folder, side in zip((self.queries, self.references), group.sides, ("query", "reference"), strict=True):
            for what, strategy in (("keypoints", replace(group.strategy, descriptor=None)), ("descriptors", group.strategy)):
                with self.timed(f"{what} of {side}, {group.folder.name}"):
                    pipeline.describe(place, folder, side=side, strategy=strategy, job=self.job)  # type: ignore[arg-type]

    def shortlist(self, name: str, group: Described, strategy: Strategy) -> Candidates:
        """A row of the grid -> its candidates."""
        index = group.folder / f"index-{short(strategy.index.identity)}"
        pipeline.index(group.sides[1], index, strategy=strategy, job=self.job)
        folder = self.candidates(name, group, strategy)
        with self.timed(folder.relative_to(self.output).as_posix()):
            pipeline.shortlist(*group.sides, index, folder, strategy=strategy, job=self.without_cache)
        if (seconds := strategy.budget.seconds_per_query) is not None:
            place = folder.with_name(f"budget-{folder.name}")
            folder = keep_to_budget(folder, *group.sides, place, seconds=seconds, strategy=strategy, job=self.without_cache)
        return Stage.load(folder, Candidates).read()

    def candidates(self, name: str, group: Described, strategy: Strategy) -> Path:
        """A row of the grid -> the folder of its candidates."""
        return self.output / "rows" / name / f"candidates-{short([group.folder.name, settings_of(strategy)])}"

    def shortlist_seconds(self, name: str, group: Described, strategy: Strategy) -> float:
        """Seconds that a row's candidates took."""
        return self.seconds[self.candidates(name, group, strategy).relative_to(self.output).as_posix()]

    def score_seconds(self, group: Described, strategy: Strategy, candidates: Candidates) -> float:
        """Seconds that judging a row's candidates takes, by what a pair of their kind took on average; known once ``score`` was called."""
        key = self.judges(group, strategy)
        return sum(self.per_pair[key, voted] for voted in voted_again(candidates.source))

    def score(
        self, strategies: Mapping[str, Strategy], groups: Mapping[str, Described], candidates: Mapping[str, Candidates]
    ) -> dict[str, PairScores]:
        """Rows and their candidates -> their pair scores; rows with the same judges have theirs scored together."""
        members: dict[str, list[str]] = {}
        for name, strategy in strategies.items():
            members.setdefault(self.judges(groups[name], strategy), []).append(name)
        scores: dict[str, PairScores] = {}
        for key, names in members.items():
            asked = {name: pairs_and_voted(candidates[name]) for name in names}
            strategy, sides = strategies[names[0]], groups[names[0]].sides
            parts = dict[bool, tuple[dict[Pair, int], PairScores]]()
            for voted in (False, True):  # a pair may be among the second votes of one row and not of another
                if pairs := sorted({pair for some in asked.values() for pair, again in some if again is voted}):
                    name = f"{key}-{short([pairs, SECOND_VOTES] if voted else pairs)}"
                    found = self.score_pairs(name, pairs, sides, strategy=strategy, voted=voted)
                    parts[voted] = {pair: n for n, pair in enumerate(pairs)}, found
                    self.per_pair[key, voted] = self.seconds[f"scores, {name}"] / len(pairs)
            scores |= {name: pick(parts, asked[name]) for name in names}
        return scores

    def score_pairs(self, name: str, pairs: list[Pair], sides: tuple[Path, Path], *, strategy: Strategy, voted: bool) -> PairScores:
        """Pairs, all of them found by second votes or none -> their scores, in a folder of that name."""
        folder = self.output / "scores" / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        columns = dict(zip(("query_id", "reference_id"), np.array(pairs, dtype=np.str_).T, strict=True))
        table = folder.with_suffix(".parquet")
        write_table(table, columns | ({"source": np.full(len(pairs), SECOND_VOTES)} if voted else {}))
        with self.timed(f"scores, {name}"):
            pipeline.score(table, *sides, folder, strategy=strategy, job=self.without_cache)
        return Stage.load(folder, PairScores).read()

    def judges(self, group: Described, strategy: Strategy) -> str:
        """What decides the scores of pairs -> a short name for it."""
        again, crop = strategy.shortlist.again, strategy.query_crop
        beside = ([asdict(again.query)] if again is not None else []) + ([asdict(crop)] if crop is not None else [])
        return short([group.folder.name, asdict(strategy.scorers), asdict(strategy.descriptor) if strategy.descriptor else None, *beside])


def pairs_and_voted(candidates: Candidates) -> list[tuple[Pair, bool]]:
    """Candidates (C,) -> the ids of each, and whether second votes found it."""
    return list(zip(pairs_of(candidates), voted_again(candidates.source), strict=True))


def pick(parts: Mapping[bool, tuple[Mapping[Pair, int], PairScores]], asked: Sequence[tuple[Pair, bool]]) -> PairScores:
    """Rows and scores of the pairs that second votes did (True) and did not find -> those of a row's candidates, in their order."""
    found, order = list[PairScores](), list[int]()
    for voted, (row, scores) in parts.items():
        mine = [n for n, (_, again) in enumerate(asked) if again is voted]
        found.append(scores.take(np.array([row[asked[n][0]] for n in mine], dtype=np.int64)))
        order += mine
    return PairScores.concat(found).take(np.argsort(order)) if found else PairScores.empty()


def share(asked: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Names, and what each asks of the description of pictures -> groups that can share one: none asks a thing otherwise than another."""
    groups: list[tuple[dict[str, Any], list[str]]] = []
    for name, wanted in asked.items():
        for told, names in groups:
            if all(told.get(key, value) == value for key, value in wanted.items()):
                told |= wanted
                names.append(name)
                break
        else:
            groups.append((dict(wanted), [name]))
    return [names for _, names in groups]


def asked_of(strategy: Strategy) -> dict[str, Any]:
    """What decides how a strategy's pictures are described, views aside; nothing of what it does not look at."""
    asked: dict[str, Any] = {name: asdict(getattr(strategy, name)) for name in ("images", "query_keypoints", "reference_keypoints")}
    if strategy.query_crop is not None:
        asked["query_crop"] = asdict(strategy.query_crop)
    if (descriptor := strategy.descriptor) is not None:
        asked["descriptor"] = {name: getattr(descriptor, name) for name in ("backbone", "weights", "seed", "size", "sizes", "batch_size")}
        names = [*descriptor.query_views, *descriptor.reference_views]
        if wants(names, OVERLAYS):
            asked["overlays"] = [descriptor.detector, asdict(descriptor.boxes)]
        if wants(names, PROPOSALS):
            asked["proposals"] = asdict(descriptor.proposals)
    return asked


def with_all_views(strategies: list[Strategy]) -> Strategy:
    """Strategies that can share a description -> one that describes all their views."""
    named = [strategy.descriptor for strategy in strategies if strategy.descriptor is not None]
    crop = next((strategy.query_crop for strategy in strategies if strategy.query_crop is not None), None)
    if not named:
        return replace(strategies[0], query_crop=crop)
    queries, references = (list(dict.fromkeys(view for one in named for view in getattr(one, side))) for side in VIEWS)
    found = {}
    for what in (OVERLAYS, PROPOSALS):
        found[what] = next((one for one in named if wants([*one.query_views, *one.reference_views], what)), named[0])
    descriptor = replace(
        named[0],
        query_views=queries,
        reference_views=references,
        detector=found[OVERLAYS].detector,
        boxes=found[OVERLAYS].boxes,
        proposals=found[PROPOSALS].proposals,
    )
    return replace(strategies[0], descriptor=descriptor, query_crop=crop)


def share_keypoints(strategies: Mapping[str, Strategy]) -> dict[str, Strategy]:
    """Strategies by name -> the same; those that look at no keypoints leave them to the first that does, so that pictures are shared."""
    looking = [strategy for strategy in strategies.values() if wants_keypoints(strategy)] or list(strategies.values())
    names = ("query_keypoints", "reference_keypoints", "query_crop")
    first = {name: getattr(looking[0], name) for name in names}
    return {name: strategy if wants_keypoints(strategy) else replace(strategy, **first) for name, strategy in strategies.items()}


def wants_keypoints(strategy: Strategy) -> bool:
    """Whether a strategy votes with keypoints, or judges by them."""
    scorers, shortlist = strategy.scorers, strategy.shortlist
    return shortlist.per_query > 0 or any(part is not None for part in (shortlist.counts, scorers.sift, scorers.match_count))


def views_of(strategy: Strategy) -> set[tuple[str, str]]:
    """Side and kind of every view that a strategy describes."""
    return {(side, kind) for side in VIEWS if strategy.descriptor for kind in kinds_of_all(getattr(strategy.descriptor, side))}


def settings_of(strategy: Strategy) -> dict[str, Any]:
    """What decides the candidates of described pictures."""
    return {name: value for name, value in asdict(strategy).items() if name in ("descriptor", "shortlist", "index", "budget", "query_crop")}


def short(value: Any) -> str:
    """Anything that is JSON -> a name for it."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10]
