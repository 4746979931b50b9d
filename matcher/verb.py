"""What all verbs that are functions have in common."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from matcher.errors import UsageError
from matcher.settings import Strategy
from matcher.settings.kinds import check_kinds
from matcher.stages.job import Job
from matcher.storage.home import located
from matcher.storage.lock import working

P = ParamSpec("P")
R = TypeVar("R")


def verb(function: Callable[P, R]) -> Callable[P, R]:
    """A function, whose keywords ``strategy``, ``job`` and ``seed``, if it has them, are looked at before it begins.

    UsageError if one of them is not what it should be: the parser of the command line sees what is written there, and nobody else what
    a program gives. A path that begins with ~ is one of the home folder. Folders that it works in are let go at its end.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for name, kind, how in (("strategy", Strategy, 'Strategy(...) or read_strategy(["run/full.yaml"])'), ("job", Job, "Job(...)")):
            if name in kwargs:
                if not isinstance(given := kwargs[name], kind):
                    raise UsageError(f"{name} must be a {kind.__name__}, not {given!r:.60}: give {how}")
                check_kinds(given, name)
        if isinstance(seed := kwargs.get("seed"), int) and seed < 0:
            raise UsageError(f"seed must be at least 0, not {seed}")
        with working():
            return function(*map(located, args), **{name: located(value) for name, value in kwargs.items()})

    return call
