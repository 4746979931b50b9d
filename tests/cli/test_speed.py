"""``--help`` answers at once: in little more than its parser takes to import, as a ratio, because machines differ."""

import os
import resource
import subprocess
import sys
from functools import cache

import pytest

from matcher.cli.verbs import VERBS

PROMISED, TRIES = 3, 5  # times what importing the library that reads the flags takes; about 2.1 on a quiet machine


def seconds_of(*arguments):
    # As on a user's machine, byte code is kept: some test environments forbid it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *arguments], capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr.decode()
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@cache
def seconds_of_parser():
    return min(seconds_of("-c", "import jsonargparse, yaml") for _ in range(TRIES))


@pytest.mark.parametrize("words", [(), *((verb,) for verb in VERBS)], ids=lambda words: " ".join(words) or "matcher")
def test_help_is_quick(words):
    promised = PROMISED * seconds_of_parser()
    seconds = [seconds_of("-m", "matcher", *words, "--help")]
    while min(seconds) >= promised and len(seconds) < TRIES:
        seconds.append(seconds_of("-m", "matcher", *words, "--help"))
    assert min(seconds) < promised
