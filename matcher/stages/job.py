"""How a verb works; none of this changes what it finds."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from matcher.errors import UsageError
from matcher.settings import at_least
from matcher.storage.home import located


@dataclass(frozen=True)
class Job:
    """How a verb works, not what it finds: none of this changes a result.

    Args:
        workers: threads, or processes; 0 = one for each core
        engine: "local" works on threads of this machine, or, where two or more have much to do, in processes; "ray" in processes
            of this machine, or on the cluster of RAY_ADDRESS, whose machines see the same files under the same paths
        on_error: "skip" lists bad items in errors.parquet and goes on, "raise" stops at the first
        fresh: throw away what an earlier run left in the output folder instead of resuming it
        cache: folder of keypoints and of views that a pair model encoded, kept between runs under the picture's content and
            what made them; null = no cache
    """

    workers: int = 0
    engine: Literal["local", "ray"] = "local"
    on_error: Literal["skip", "raise"] = "skip"
    fresh: bool = False
    cache: str | Path | None = None

    def __post_init__(self) -> None:
        at_least(self, workers=0)
        if self.engine == "ray" and find_spec("ray") is None:
            raise UsageError("the engine ray is not installed: pip install 'matcher[ray]', or leave --engine out")

    @property
    def cache_folder(self) -> Path | None:
        return Path(located(self.cache)) if self.cache else None
