"""The shards of a stage, shared out to the processes of one `matcher predict`: each computes its own as one process would, and writes them.

The first process opens the stage, and hands out what is to be done, as ``engine.on_ray`` does; all see the same files under the
same paths. Whatever ends a process, finished shards stay, and the same command goes on from there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Generic, NamedTuple

from matcher.engine.kernels import available_cores
from matcher.engine.local import R, Work, run_shards
from matcher.errors import MatcherError
from matcher.storage.stage import Stage
from matcher.training.devices import collect, hand_out, patient_group, process


class Task(NamedTuple):
    """A stage, the work on a range of its items, the shards that are not done, and what they are called."""

    stage: Stage[Any]
    work: Work[Any]
    pending: list[int]
    label: str


class SharedShards:
    """What the processes agree on; made in all of them at once.

    Args:
        beside: processes on this machine, which share its cores
    """

    def __init__(self, beside: int) -> None:
        self.workers = max(1, available_cores() // beside)
        self.group, self.handed_out = patient_group(), False
        self.parent = os.getppid()

    def lead(self, stage: Stage[Any], work: Work[Any], *, label: str, **_: Any) -> None:
        """In the first process: like ``engine.shards.run_shards``, with the help of the others."""
        self.handed_out = True
        self.do_own(hand_out(Task(stage, work, stage.pending(), label), self.group))

    def follow(self) -> None:
        """In another process: helps, or ends if the first one failed before there was something to do."""
        task = hand_out(None, self.group)
        if task is not None:
            self.do_own(task)

    def dismiss(self) -> None:
        """In the first process, which failed: the others need not wait, if they still do."""
        if not self.handed_out:
            self.handed_out = True
            hand_out(None, self.group)

    def do_own(self, task: Task) -> None:
        """Every shard of the task done, by all processes. In the first one, the error of any."""
        rank, world = process()
        own, failed = OwnShards(task.stage, task.pending[rank::world]), None

        def work(rows: range) -> Any:
            if rank and os.getppid() != self.parent:
                raise MatcherError("the process that leads this one has ended: start the same command again")
            return task.work(rows)

        try:
            run_shards(own, work, workers=self.workers, label=f"{task.label}, process {rank} of {world}")
        except Exception as error:
            failed = error
        told = collect(failed and " ".join([str(failed), *getattr(failed, "__notes__", ())]), self.group)
        if rank == 0 and failed is not None:
            raise failed
        for number, sentence in enumerate(told):
            if sentence is not None:
                raise MatcherError(f"{sentence}, process {number}")


class OwnShards(Stage[R], Generic[R]):
    """A stage as one of several processes sees it: its own shards alone are there to be done."""

    def __init__(self, stage: Stage[R], own: Sequence[int]) -> None:
        super().__init__(stage.folder, stage.kind, stage.manifest, None)
        self.own = own

    @property
    def items(self) -> int:
        return sum(len(self.shard(number)) for number in self.own)

    def pending(self) -> list[int]:
        return [number for number in self.own if self.sidecar(number) is None]
