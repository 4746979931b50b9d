"""The output folder of a run: its lock, its log of settings, versions and timings, and the summary at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import yaml

from matcher import __version__
from matcher.errors import MatcherError
from matcher.index_card import CARD_FILE
from matcher.metrics.evaluation import Evaluation
from matcher.settings import Strategy
from matcher.stages.collection import Collection, is_collection
from matcher.stages.describing import ERRORS
from matcher.stages.predicting import load_fusion
from matcher.storage.aside import read_json, remove_temporaries, write_aside, write_json
from matcher.storage.lock import hold
from matcher.storage.manifest import MANIFEST_NAME
from matcher.storage.records import read_record, write_record
from matcher.storage.stage import Stage, remove_stage
from matcher.types import Candidates, Errors, PairScores, Pictures, Predictions

log = logging.getLogger("matcher")
TIMINGS = "timings.json"
RESULTS = (
    "predictions.csv",
    "report.html",
    "predictions.parquet",
    "fused.parquet",
    "evaluation.json",
    ERRORS,
    "config.yaml",
    "versions.json",
)
PACKAGES = ("numpy", "opencv-python", "faiss-cpu", "faiss-gpu", "pillow", "pyarrow", "torch")


@dataclass(frozen=True)
class RunSummary:
    """What a run found, in numbers."""

    output: Path
    queries: int
    references: int
    errors: int
    pairs: int
    copies: int  # queries with a prediction of at least one half
    seconds: dict[str, float]
    evaluation: Evaluation | None
    resumed: bool = False  # do the seconds count earlier sessions too?

    def as_dict(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in ("queries", "references", "errors", "pairs", "copies", "seconds")}
        return {"output": str(self.output), **fields, "evaluation": self.evaluation.as_dict() if self.evaluation else None}

    def __str__(self) -> str:
        stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items())
        bad = f"{self.errors} could not be used, see {self.output / ERRORS}\n" if self.errors else ""
        measured = f"{self.evaluation}\n" if self.evaluation else ""
        return (
            f"{measured}{self.copies:,} of {self.queries:,} queries are probably copies of one of {self.references:,} references\n"
            f"{bad}{sum(self.seconds.values()):.1f} s{' with all earlier sessions' if self.resumed else ''}: {stages}\n"
            f"{self.output / 'predictions.csv'}\n{self.output / 'report.html'}"
        )


class RunFolder:
    """A folder that one run at a time works in. Seconds add up over the sessions of a run that is resumed."""

    def __init__(self, output: str | PathLike[str], *, strategy: Strategy, fresh: bool) -> None:
        self.path, self.strategy, self.fresh = Path(output), strategy, fresh
        self.seconds: dict[str, float] = {}
        self.resumed = False
        self.evaluation: Evaluation | None = None

    def __enter__(self) -> Self:
        load_fusion(self.strategy)  # a model that is not there is missed before hours of work
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MatcherError(f"cannot make the folder {self.path}: {error.strerror}; choose another --output") from error
        self.lock = hold(self.path)
        remove_temporaries(self.path)
        if (self / TIMINGS).is_file():
            if self.fresh:
                self.clear()
            else:
                self.seconds = read_seconds(self / TIMINGS)
                self.resumed = bool(self.seconds)
        elif not (self / "queries").exists() and (strangers := [name for name in RESULTS[:2] if (self / name).exists()]):
            raise MatcherError(f"{self.path} holds {' and '.join(strangers)} that no run made: move them away, or choose another --output")
        return self

    def clear(self) -> None:
        """Remove what an earlier run left, results first, so that whatever happens now nobody takes them for those of this run."""
        for name in (*RESULTS, f"index/{CARD_FILE}"):
            (self / name).unlink(missing_ok=True)
        for pattern in ("*", "*/*"):
            for manifest in self.path.glob(f"{pattern}/{MANIFEST_NAME}"):
                remove_stage(manifest.parent)
        (self / TIMINGS).unlink()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        del self.lock

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Count the seconds of the block as those of a stage, even if it is stopped; not if it is refused."""
        began = time.perf_counter()
        try:
            yield
        except KeyboardInterrupt:
            self.count(name, time.perf_counter() - began)
            raise
        self.count(name, time.perf_counter() - began)

    def count(self, name: str, seconds: float) -> None:
        """Add to the seconds of a stage, and write them down."""
        self.seconds[name] = round(self.seconds.get(name, 0.0) + seconds, 3)
        write_json(self / TIMINGS, self.seconds)

    def keep(self, evaluation: Evaluation) -> None:
        """Write an evaluation beside the predictions and tell it in the summary."""
        self.evaluation = evaluation
        write_json(self / "evaluation.json", evaluation.as_dict())

    def summary(self, references: Path) -> RunSummary:
        """Gather the bad items of all stages, write them, the settings, versions and timings, and count; references that are a
        collection told theirs when they were added.

        The settings are written last because a stage may refuse them; then those that made the files there stay.
        """
        folders = [self / "queries", *([] if is_collection(references) else [references])]
        errors = Errors.concat(
            [
                *(read_record(folder / ERRORS, Errors) for folder in folders),
                Stage.load(self / "candidates", Candidates).errors(),
                Stage.load(self / "pair_scores", PairScores).errors(),
            ]
        )
        write_record(self / ERRORS, errors)
        with write_aside(self / "config.yaml") as file:
            file.write(yaml.safe_dump({"strategy": asdict(self.strategy)}, sort_keys=False).encode())
        write_json(self / "versions.json", {"matcher": __version__, **installed()})
        predictions = read_record(self / "predictions.parquet", Predictions)
        counts = [len(Stage.load(folder / "pictures", Pictures).read()) for folder in folders]
        counts += [len(Collection.read(references))] if is_collection(references) else []
        copies = len(np.unique(predictions.query_id[predictions.probability >= 0.5]))
        return RunSummary(
            self.path, counts[0], counts[1], len(errors), len(predictions), copies, self.seconds, self.evaluation, self.resumed
        )


def read_seconds(path: Path) -> dict[str, float]:
    """timings.json -> seconds by stage; a damaged one is said and counts as none, because nothing is computed from it."""
    try:
        return {name: float(seconds) for name, seconds in read_json(path).items()}
    except (MatcherError, AttributeError, TypeError, ValueError):
        log.warning("%s is damaged: seconds are counted from now on", path)
        return {}


def installed() -> dict[str, str]:
    """Versions of the packages that can change a result."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
