"""The shards of a stage, by the engine that was asked for. The files do not depend on it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

from matcher.engine import local
from matcher.engine.local import R, Work
from matcher.storage.stage import Stage

Engine = Literal["local", "ray"]


def run_shards(stage: Stage[R], work: Work[R], *, engine: Engine = "local", workers: int = 0, whole: bool = False, label: str = "") -> None:
    """Stage and the work on a range of its items -> every shard of the stage done (see ``engine.local`` and ``engine.on_ray``).

    Either engine goes on with what the other began: it computes the shards that are not done. ``whole``: the work on one shard
    uses all cores, or the GPU, by itself, so a machine works on one shard at a time.
    """
    if engine == "ray":
        from matcher.engine import on_ray

        on_ray.run_shards(stage, work, workers=workers, whole=whole, label=label)
    else:
        local.run_shards(stage, work, workers=1 if whole else workers, label=label)


def engine_started(engine: Engine, workers: int) -> AbstractContextManager[None]:
    """Within the block the engine stays up; without one, every stage starts it and stops it again (Ray takes seconds)."""
    if engine == "local":
        return nullcontext()
    from matcher.engine import on_ray

    return on_ray.connected(workers)
