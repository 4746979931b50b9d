"""A command -> what it cost: run in a fresh process, timed by the clock, by the cores' time, and by its peak memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matcher.errors import MatcherError


@dataclass(frozen=True)
class Cost:
    """What one process used.

    Args:
        wall_s: seconds by the clock, from start to exit, start-up of Python included
        cpu_s: seconds of all cores together, user and system, with the children it waited for
        peak_mib: largest resident memory of the process, or of a child of it, in MiB
        load_before: the machine's load average of the last minute when it started; far above 0 = not a quiet machine
    """

    wall_s: float
    cpu_s: float
    peak_mib: float
    load_before: float


def measure(name: str, command: Sequence[str], *, log: Path, folder: Path) -> Cost:
    """Run ``command`` in ``folder`` to its end -> its cost. What it says goes to ``log``.

    Raises MatcherError with the last line of the log if it does not end with exit code 0.
    """
    load = os.getloadavg()[0]
    with log.open("wb") as file:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
        try:
            _, status, usage = os.wait4(process.pid, 0)  # the usage of this child alone, which getrusage cannot tell
        except BaseException:
            process.kill()
            process.wait()
            raise
        wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise MatcherError(f"{name} ended with exit code {process.returncode}: {lines[-1] if lines else 'it said nothing'}")
    bytes_a_unit = 1 if sys.platform == "darwin" else 1024
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * bytes_a_unit / 2**20, load)
