"""``--help`` answers at once: within half a second on an idle machine, which is its processor time wherever it runs."""

import os
import resource
import subprocess
import sys

import pytest

from matcher.cli.verbs import VERBS

PROMISED, TRIES = 0.5, 5


def seconds_of_help(*words):
    # As on a user's machine, byte code is kept: some test environments forbid it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "matcher", *words, "--help"], capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr.decode()
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("words", [(), *((verb,) for verb in VERBS)], ids=lambda words: " ".join(words) or "matcher")
def test_help_is_quick(words):
    seconds = [seconds_of_help(*words)]
    while min(seconds) >= PROMISED and len(seconds) < TRIES:
        seconds.append(seconds_of_help(*words))
    assert min(seconds) < PROMISED
