"""The stage files of an ablation, in folders named by what decides them, and the seconds that each took."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from matcher import pipeline
from matcher.settings import Strategy
from matcher.stages.job import Job
from matcher.stages.scoring import Place
from matcher.storage.aside import read_json, write_json
from matcher.storage.stage import Stage
from matcher.storage.tables import write_table
from matcher.types import Candidates, PairScores

TIMINGS = "timings.json"
VIEWS = ("query_views", "reference_views")


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
        self.per_pair: dict[str, float] = {}  # seconds by the judges' name
        self.seconds: dict[str, float] = read_json(output / TIMINGS) if (output / TIMINGS).is_file() else {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Keep the seconds of the block under a name; those of the first time that it was finished, with those of stopped tries."""
        began, done = time.perf_counter(), f"{name}, finished"
        try:
            yield
        except BaseException:
            self.keep(name, self.seconds.get(name, 0.0) + time.perf_counter() - began)
            raise
        if done not in self.seconds:
            self.keep(name, self.seconds.get(name, 0.0) + time.perf_counter() - began)
            self.keep(done, 1.0)

    def keep(self, name: str, seconds: float) -> None:
        self.seconds[name] = round(seconds, 3)
        write_json(self.output / TIMINGS, self.seconds)

    def describe(self, strategies: Mapping[str, Strategy]) -> dict[str, Described]:
        """Strategies by name -> what each looks at; those that differ in views only share it."""
        members: dict[str, list[str]] = {}
        keys = {name: (keypoint_key(s), descriptor_key(s)) for name, s in strategies.items()}
        for name, (keypoints, descriptor) in keys.items():
            shared = [other for other in keys.values() if other[0] == keypoints and descriptor in ("", other[1]) and other[1]]
            members.setdefault("-".join(shared[0] if shared else (keypoints, descriptor)), []).append(name)
        groups: dict[str, Described] = {}
        for key, names in members.items():
            made = Described(self.output / "described" / key, with_all_views([strategies[name] for name in names]))
            self.describe_group(made)
            groups |= dict.fromkeys(names, made)
        return groups

    def describe_group(self, group: Described) -> None:
        """Keypoints first, then descriptors, so that each has its own seconds."""
        for place, folder, side in zip((self.queries, self.references), group.sides, ("query", "reference"), strict=True):
            for what, strategy in (("keypoints", replace(group.strategy, descriptor=None)), ("descriptors", group.strategy)):
                with self.timed(f"{what} of {side}, {group.folder.name}"):
                    pipeline.describe(place, folder, side=side, strategy=strategy, job=self.job)  # type: ignore[arg-type]

    def shortlist(self, name: str, group: Described, strategy: Strategy) -> Candidates:
        """A row of the grid -> its candidates."""
        index = group.folder / f"index-{short(asdict(strategy.index))}"
        pipeline.index(group.sides[1], index, strategy=strategy, job=self.job)
        folder = self.candidates(name, group, strategy)
        with self.timed(folder.relative_to(self.output).as_posix()):
            pipeline.shortlist(*group.sides, index, folder, strategy=strategy, job=self.job)
        return Stage.load(folder, Candidates).read()

    def candidates(self, name: str, group: Described, strategy: Strategy) -> Path:
        """A row of the grid -> the folder of its candidates."""
        return self.output / "rows" / name / f"candidates-{short([group.folder.name, settings_of(strategy)])}"

    def shortlist_seconds(self, name: str, group: Described, strategy: Strategy) -> float:
        """Seconds that a row's candidates took."""
        return self.seconds[self.candidates(name, group, strategy).relative_to(self.output).as_posix()]

    def score_seconds(self, group: Described, strategy: Strategy) -> float:
        """Seconds that a pair took with a row's judges, on average; known once ``score`` was called."""
        return self.per_pair[self.judges(group, strategy)]

    def score(
        self, strategies: Mapping[str, Strategy], groups: Mapping[str, Described], candidates: Mapping[str, Candidates]
    ) -> dict[str, PairScores]:
        """Rows and their candidates -> their pair scores; rows with the same judges have theirs scored together."""
        members: dict[str, list[str]] = {}
        for name, strategy in strategies.items():
            members.setdefault(self.judges(groups[name], strategy), []).append(name)
        scores: dict[str, PairScores] = {}
        for key, names in members.items():
            pairs = sorted({pair for name in names for pair in pairs_of(candidates[name])})
            folder = self.output / "scores" / f"{key}-{short(pairs)}"
            folder.parent.mkdir(parents=True, exist_ok=True)
            table, strategy = folder.with_suffix(".parquet"), strategies[names[0]]
            queries, references = ([pair[side] for pair in pairs] for side in (0, 1))
            write_table(table, {"query_id": np.array(queries, np.str_), "reference_id": np.array(references, np.str_)})
            with self.timed(f"scores, {folder.name}"):
                pipeline.score(table, *groups[names[0]].sides, folder, strategy=strategy, job=replace(self.job, cache=None))
            self.per_pair[key] = self.seconds[f"scores, {folder.name}"] / max(len(pairs), 1)
            found = Stage.load(folder, PairScores).read()
            row = {pair: n for n, pair in enumerate(pairs)}
            scores |= {name: found.take(np.array([row[pair] for pair in pairs_of(candidates[name])], dtype=np.int64)) for name in names}
        return scores

    def judges(self, group: Described, strategy: Strategy) -> str:
        """What decides the scores of pairs -> a short name for it."""
        return short([group.folder.name, asdict(strategy.scorers), asdict(strategy.descriptor) if strategy.descriptor else None])


def with_all_views(strategies: list[Strategy]) -> Strategy:
    """Strategies that differ in views only, as far as pictures are described -> one that describes them all."""
    named = [strategy.descriptor for strategy in strategies if strategy.descriptor is not None]
    if not named:
        return strategies[0]
    queries, references = (list(dict.fromkeys(view for one in named for view in getattr(one, side))) for side in VIEWS)
    detector = next((one.detector for one in named if one.detector is not None), None)
    return replace(strategies[0], descriptor=replace(named[0], query_views=queries, reference_views=references, detector=detector))


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


def keypoint_key(strategy: Strategy) -> str:
    """What decides the keypoints of pictures -> a short name for it."""
    crop = asdict(strategy.query_crop) if strategy.query_crop else None
    return short([asdict(strategy.images), asdict(strategy.query_keypoints), asdict(strategy.reference_keypoints), crop])


def descriptor_key(strategy: Strategy) -> str:
    """What decides a strategy's descriptors of one view -> a short name for it; empty if it has none."""
    if strategy.descriptor is None:
        return ""
    aside = (*VIEWS, "detector", "background", "background_weight", "background_nearest")
    return short({name: value for name, value in asdict(strategy.descriptor).items() if name not in aside})


def settings_of(strategy: Strategy) -> dict[str, Any]:
    """What decides the candidates of described pictures."""
    return {name: value for name, value in asdict(strategy).items() if name in ("descriptor", "shortlist", "index", "budget", "query_crop")}


def pairs_of(candidates: Candidates) -> list[tuple[str, str]]:
    return list(zip(candidates.query_id.tolist(), candidates.reference_id.tolist(), strict=True))


def short(value: Any) -> str:
    """Anything that is JSON -> a name for it."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10]
