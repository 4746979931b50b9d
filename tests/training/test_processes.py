"""What becomes of the processes of a training verb is told in one line."""

import logging
import os
import sys
from multiprocessing import active_children, get_context
from time import sleep

import pytest
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from matcher.engine import processes
from matcher.errors import MatcherError, UsageError
from matcher.training.processes import OBSERVER, end_children, in_plain_words, tell_plainly, told_by

TRACE = """

-- Process 1 terminated with the following error:
Traceback (most recent call last):
  File "devices.py", line 9, in x
matcher.errors.{}: pairs.csv: no such file
in out/pair_scores, shard 1 (items 3 to 5)
"""


@pytest.mark.parametrize("kind", [MatcherError, UsageError])
def test_what_a_process_raised(kind):
    told = told_by(ProcessRaisedException(TRACE.format(kind.__name__), 1, 77))
    assert type(told) is kind and str(told) == "pairs.csv: no such file"


def test_that_a_process_died():
    told = told_by(ProcessExitedException("process 1 terminated with signal SIGKILL", 1, 77, -9, "SIGKILL"))
    assert str(told) == "process 1 terminated with signal SIGKILL: what was finished is kept, start the same command again"


def test_what_lightning_tells_of_one():
    tell_plainly()
    observer = logging.getLogger(OBSERVER)
    assert observer.isEnabledFor(logging.INFO) and in_plain_words in observer.filters
    record = observer.makeRecord(OBSERVER, logging.INFO, "", 0, "[rank: 2] Child process with PID 9 terminated with code -9. Z", (), None)
    assert in_plain_words(record)
    assert (
        record.getMessage() == "matcher: error: process 2 ended with exit code -9: what was finished is kept, start the same command again"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no forks")
def test_forks_are_ended():
    child = get_context("fork").Process(target=sleep, args=(60,))
    child.start()
    end_children()
    child.join(30)
    assert child.exitcode == -9 and child not in active_children()


def test_processes_of_the_engine_are_ended_too():
    crew = processes.begin(1)
    number = crew.submit(os.getpid).result(60)
    assert number in [child.pid for child in active_children()]
    end_children()
    with pytest.raises(ProcessLookupError):
        for _ in range(100):  # until the engine's thread has waited for it
            os.kill(number, 0)
            sleep(0.1)
    crew.shutdown(wait=True, kill_workers=True)
