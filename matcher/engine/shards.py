"""The shards of a stage, by the engine that was asked for. The files do not depend on it."""

from __future__ import annotations

import multiprocessing
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

from matcher.engine import local
from matcher.engine.kernels import available_cores
from matcher.engine.local import R, Work
from matcher.storage.stage import Stage

PROCESS_SHARDS = 6  # that make a process worth beginning
Engine = Literal["local", "ray"]


def run_shards(
    stage: Stage[R],
    work: Work[R],
    *,
    engine: Engine = "local",
    workers: int = 0,
    whole: bool = False,
    apart: bool = False,
    label: str = "",
) -> None:
    """Stage and the work on a range of its items -> every shard of the stage done (see ``engine.local``, ``processes`` and ``on_ray``).

    Either engine goes on with what the other began: it computes the shards that are not done. ``whole``: the work on one shard
    uses all cores, or the GPU, by itself, so a machine works on one shard at a time. ``apart``: the work travels, and much of it is
    Python, so here it is done in processes where there is enough of it, else on threads.
    """
    if engine == "ray":
        from matcher.engine import on_ray

        on_ray.run_shards(stage, work, workers=workers, whole=whole, label=label)
    elif apart and not whole and (crew := processes_worth(stage, workers)) > 1:
        from matcher.engine import processes

        processes.run_shards(stage, work, workers=crew, label=label)
    else:
        local.run_shards(stage, work, workers=1 if whole else workers, label=label)


def processes_worth(stage: Stage[R], workers: int) -> int:
    """How many of the workers have so much to do that a process, which takes a second or two to begin, is worth it.

    0 where this process may begin no others (those of a multiprocessing.Pool).
    """
    if multiprocessing.current_process().daemon:
        return 0
    return min(workers or available_cores(), len(stage.pending()) // PROCESS_SHARDS)


def engine_started(engine: Engine, workers: int) -> AbstractContextManager[None]:
    """Within the block the engine stays up; without one, every stage starts it and stops it again (Ray takes seconds)."""
    if engine == "local":
        return nullcontext()
    from matcher.engine import on_ray

    return on_ray.connected(workers)
