"""Several processes of one training verb: what becomes of them is told in one line, and none outlives the others."""

from __future__ import annotations

import logging
import os
import re
import signal
from contextlib import suppress
from multiprocessing import active_children

from torch.multiprocessing.spawn import ProcessException, ProcessRaisedException

from matcher.errors import MatcherError, UsageError

KEPT = "what was finished is kept, start the same command again"
OBSERVER = "lightning.fabric.strategies.launchers.subprocess_script"  # tells which process ended, and kills the others
REMARKS = "torch.multiprocessing.spawn"


def told_by(error: ProcessException) -> MatcherError:
    """What became of a process that this one forked or spawned -> the error that it raised, or that it ended."""
    raised = re.findall(r"^([\w.]+): (.*)", str(error), re.MULTILINE) if isinstance(error, ProcessRaisedException) else []
    if not raised:
        return MatcherError(f"{str(error).rstrip('.')}: {KEPT}")
    kind, sentence = raised[-1]
    return (UsageError if kind.endswith(".UsageError") else MatcherError)(sentence)


def end_children() -> None:
    """Ends the processes that this one forked or spawned, also those of engine.processes; those that it started anew Lightning ends."""
    for number in [child.pid for child in active_children() if child.pid]:
        with suppress(ProcessLookupError):
            os.kill(number, getattr(signal, "SIGKILL", signal.SIGTERM))  # loky's have no kill()


def tell_plainly() -> None:
    """From now on Lightning's word on a process that ended, its last before it kills the others, is a line as ours are."""
    logging.getLogger(REMARKS).setLevel(logging.ERROR)
    observer = logging.getLogger(OBSERVER)
    observer.setLevel(logging.INFO)
    observer.addFilter(in_plain_words)


def in_plain_words(record: logging.LogRecord) -> bool:
    """A record of Lightning's -> the same, in our words if it tells of a process that ended."""
    if found := re.search(r"rank: (\d+)\].* terminated with code (-?\d+)", record.getMessage()):
        record.msg, record.args = f"matcher: error: process {found[1]} ended with exit code {found[2]}: {KEPT}", ()
    return True
