"""``--help`` answers at once: in little more than its parser takes to import, as a ratio, because machines differ."""

import os
import resource
import subprocess
import sys

import pytest

from matcher.cli.verbs import VERBS

HEAVY = ["torch", "cv2", "faiss", "timm", "sklearn", "lightning", "transformers"]
PROMISED, TRIES = 3, 5  # times what importing the library that reads the flags takes; about 2.1 on a quiet machine


def seconds_of(*arguments):
    # As on a user's machine, byte code is kept: some test environments forbid it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *arguments], capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr.decode()
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ratio(*words):
    """Both are timed one after the other: a machine that grows slower in between does not tell against us."""
    return seconds_of("-m", "matcher", *words, "--help") / seconds_of("-c", "import jsonargparse, yaml")


@pytest.mark.parametrize("words", [(), *((verb,) for verb in VERBS)], ids=lambda words: " ".join(words) or "matcher")
def test_help_is_quick(words):
    ratios = [ratio(*words)]
    while min(ratios) >= PROMISED and len(ratios) < TRIES:
        ratios.append(ratio(*words))
    assert min(ratios) < PROMISED, ratios


@pytest.mark.parametrize("verb", VERBS)
def test_help_imports_no_library_of_the_work(verb):
    asked = f"import sys; from matcher.cli.main import main; sys.argv = ['matcher', {verb!r}, '--help']\n"
    told = f"main()\nprint('loaded', sorted({{*sys.modules}} & {{*{HEAVY}}}))"
    done = subprocess.run([sys.executable, "-c", asked + told], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "loaded []", done.stderr
