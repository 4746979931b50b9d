"""A command line with verbs of the tests' own, in this process and in another."""

import os
import subprocess
import sys

import pytest

VERBS = '''
import time
from dataclasses import dataclass
from pathlib import Path

from matcher.errors import MatcherError, UsageError


class Result:
    exit_code = 0

    def __str__(self):
        return "three found"

    def as_dict(self):
        return {"found": 3, "threshold": float("nan"), "where": Path("a b")}


def fine() -> Result:
    """Returns a result."""
    return Result()


def path(folder: str) -> Path:
    """Returns a path."""
    return Path(folder) / "x.parquet"


def sick() -> Result:
    """Returns a result with an exit code."""
    result = Result()
    result.exit_code = 1
    return result


def refuse() -> None:
    """Raises what a user can mend."""
    raise MatcherError("no pictures in\\n/tmp/x")


def misuse() -> None:
    """Raises a usage error."""
    raise UsageError("give --a or --b")


def missing() -> None:
    """Raises an error of the operating system."""
    open("/nowhere/x.csv")


def broken() -> None:
    """Raises what nobody expected."""
    raise KeyError("column")


def sleep(seconds: float = 60) -> None:
    """Sleeps."""
    print("asleep", flush=True)
    time.sleep(seconds)


def flood() -> str:
    """Returns much."""
    return "x" * 1_000_000
'''
NAMES = ["fine", "path", "sick", "refuse", "misuse", "missing", "broken", "sleep", "flood"]
START = """
import sys
from matcher.cli import main, verbs

verbs.VERBS.update({name: f"testverbs:{name}" for name in sys.argv.pop(1).split()})
sys.exit(main.main())
"""


@pytest.fixture
def verbs_folder(tmp_path):
    (tmp_path / "testverbs.py").write_text(VERBS)
    return tmp_path


@pytest.fixture
def start(verbs_folder):
    """Words -> a running ``matcher`` that knows the tests' verbs."""

    def start(*words):
        environment = {**os.environ, "PYTHONPATH": str(verbs_folder), "MATCHER_DEBUG": ""}
        command = [sys.executable, "-c", START, " ".join(NAMES), *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    return start


@pytest.fixture
def matcher(verbs_folder, monkeypatch, capsys, logger_as_before):
    """Words -> (exit code, stdout, stderr) of the command line in this process."""
    from matcher.cli import main, verbs

    monkeypatch.syspath_prepend(verbs_folder)
    monkeypatch.delitem(sys.modules, "testverbs", raising=False)
    monkeypatch.delenv("MATCHER_DEBUG", raising=False)
    for name in NAMES:
        monkeypatch.setitem(verbs.VERBS, name, f"testverbs:{name}")

    def run(*words):
        code = main.main(words)
        return code, *capsys.readouterr()

    return run
