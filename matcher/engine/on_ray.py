"""Shards of a stage on Ray: in processes of this machine, or on a cluster (RAY_ADDRESS) whose machines share a file system.

Ray only says who computes which shard. The list of shards is the manifest's, a worker writes the parts itself, under the paths
that this process uses, and a bad item is a row of ``Errors``: nothing hangs on blocks or checkpoints of Ray Data. matcher must be
installed on every machine. In a cluster with GPUs only the machines that have one work, and share them among their workers.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import ceil
from typing import Any, Generic, NamedTuple

import ray
import threadpoolctl
from ray.exceptions import RayError, RayTaskError

from matcher.engine.kernels import available_cores, single_thread_here, single_threaded_kernels
from matcher.engine.local import SECONDS_TO_FINISH, R, Work, write_shard
from matcher.engine.progress import progress
from matcher.errors import MatcherError
from matcher.storage.stage import Stage

RETRIES = 2  # of a shard whose worker died
log = logging.getLogger("matcher")


def run_shards(stage: Stage[R], work: Work[R], *, workers: int = 0, whole: bool = False, label: str = "") -> None:
    """Stage and the work on a range of its items -> every shard of the stage done, as ``engine.local`` does it.

    ``work`` goes to every worker once, by cloudpickle; arrays in it are shared by the workers of a machine, and what it holds in a
    ``Once`` is made there. ``workers``: processes; 0 = one for each core of the machine or cluster. A shard whose worker died is
    computed again by another; MatcherError if that happened three times.
    """
    pending, label = stage.pending(), label or stage.folder.name
    left = sum(len(stage.shard(number)) for number in pending)
    with ExitStack() as stack:
        if pending:
            stack.enter_context(connected(workers))
        advance = stack.enter_context(progress(label, stage.items, done=stage.items - left))
        if not pending:
            return
        crew = Crew(stage, work, workers=workers, whole=whole)
        try:
            for number in crew.finish(pending):
                advance(len(stage.shard(number)))
        except KeyboardInterrupt:
            log.info("%s: stopping; finished shards are kept", label)
            crew.abandon()
            raise


@contextmanager
def connected(workers: int) -> Iterator[None]:
    """Within the block Ray is at hand: as it is already, the cluster of RAY_ADDRESS, or processes here, which end with the block."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    try:
        if address := os.environ.get("RAY_ADDRESS"):
            ray.init(address=address, **quiet)
        else:
            ray.init(address="local", num_cpus=workers or available_cores(), include_dashboard=False, **quiet)
    except Exception as error:  # a start that takes too long is raised as just that
        where = f"the cluster of RAY_ADDRESS={address}" if address else "Ray on this machine"
        raise MatcherError(f"cannot reach {where}: {' '.join(str(error).split())}") from error
    try:
        yield
    finally:
        ray.shutdown()


class Share(NamedTuple):
    """How many workers there can be, and what each may use."""

    workers: int
    cores: int
    gpus: float

    @property
    def threads(self) -> int:
        """OpenMP threads of a worker that uses its machine whole, as many as here."""
        asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
        return int(asked) if asked.isdecimal() else self.cores


def share_out(machines: list[dict[str, float]], *, whole: bool) -> Share:
    """Resources of the machines -> one worker for each core, or for each machine or GPU if one uses it whole."""
    machines = [one for one in machines if one.get("GPU", 0) >= 1] or [one for one in machines if one.get("CPU", 0) >= 1] or [{"CPU": 1}]
    cores = [max(1, int(one.get("CPU", 0))) for one in machines]
    gpus = [int(one.get("GPU", 0)) for one in machines]
    if whole:
        units = [max(1, count) for count in gpus]
        return Share(sum(units), max(1, min(c // u for c, u in zip(cores, units, strict=True))), float(min(gpus) > 0))
    at_one_gpu = max(ceil(c / g) for c, g in zip(cores, gpus, strict=True)) if min(gpus) else 0
    return Share(sum(cores), 1, 1 / at_one_gpu if at_one_gpu else 0.0)


class Crew(Generic[R]):
    """Ray's workers on the shards of one stage."""

    def __init__(self, stage: Stage[R], work: Work[R], *, workers: int, whole: bool) -> None:
        share = share_out([node["Resources"] for node in ray.nodes() if node["Alive"]], whole=whole)
        limits = {"num_cpus": share.cores, "num_gpus": share.gpus, "max_retries": RETRIES, "max_calls": 0}
        self.stage, self.ahead = stage, workers or 2 * share.workers
        self.compute, self.job = ray.remote(**limits)(compute), Job.of(stage, work, threads=share.threads if whole else 1)
        self.flying: dict[Any, int] = {}  # promise of Ray's -> number of its shard

    def finish(self, numbers: list[int]) -> Iterator[int]:
        """Numbers of shards -> the same numbers as they get done. If one fails, those in flight still come to their end."""
        todo, failed = deque(numbers), None
        while self.flying or (todo and failed is None):
            while todo and failed is None and len(self.flying) < self.ahead:
                number = todo.popleft()
                self.flying[self.compute.remote(self.job, number)] = number
            for promise in ray.wait(list(self.flying))[0]:
                number = self.flying.pop(promise)
                try:
                    ray.get(promise)
                except RayError as error:
                    failed = failed or self.told(error, number)
                else:
                    yield number
        if failed is not None:
            raise failed

    def told(self, error: RayError, number: int) -> BaseException:
        """What the work raised, as it is; else what became of the worker."""
        if isinstance(error, RayTaskError):
            return error.cause if isinstance(error.cause, BaseException) else error
        items = self.stage.shard(number)
        where = f"{self.stage.folder}: shard {number} (items {items.start} to {items.stop - 1})"
        return MatcherError(f"{where} ended its worker of Ray {RETRIES + 1} times: {' '.join(str(error).split())}")

    def abandon(self) -> None:
        """Let the shards in flight end for a moment, then end their workers."""
        ray.wait(list(self.flying), num_returns=len(self.flying), timeout=SECONDS_TO_FINISH)
        for promise in self.flying:
            ray.cancel(promise, force=True)


class Job(NamedTuple):
    """What a worker has to know of a stage, beside the number of the shard."""

    folder: str  # that the paths begin from
    sent: list[Any]  # Ray's promise of stage and work; in a list, else Ray would unpack it for every shard
    threads: int

    @classmethod
    def of(cls, stage: Stage[R], work: Work[R], *, threads: int) -> Job:
        return cls(os.getcwd(), [ray.put((stage, work))], threads)


_at_hand: dict[Any, tuple[Stage[Any], Work[Any]]] = {}  # in a worker: promise -> stage and work, of the last stage it worked on


def compute(job: Job, number: int) -> None:
    """In a worker: compute a shard and write it."""
    os.chdir(job.folder)
    if job.sent[0] not in _at_hand:
        _at_hand.clear()
        _at_hand[job.sent[0]] = ray.get(job.sent[0])
    if job.threads == 1:
        single_thread_here()
        with single_threaded_kernels():
            write_shard(*_at_hand[job.sent[0]], number)
    else:
        with threadpoolctl.threadpool_limits(limits=job.threads):
            write_shard(*_at_hand[job.sent[0]], number)
