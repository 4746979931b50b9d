"""Progress of a long step: a bar with rate and end time on a terminal, elsewhere one log line at the start and one at the end."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from tqdm import tqdm

log = logging.getLogger("matcher")


class Bar(tqdm):
    """A tqdm bar that also says at what time of day it will end."""

    @property
    def format_dict(self) -> dict[str, Any]:
        told = super().format_dict
        worked = told["n"] - told["initial"]
        seconds = (told["total"] - told["n"]) * told["elapsed"] / worked if worked else None
        ends = "?" if seconds is None else f"{datetime.now() + timedelta(seconds=seconds):%H:%M:%S}"
        return {**told, "ends": ends}


FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{rate_fmt}, {remaining} left, ends {ends}]"


@contextmanager
def progress(label: str, total: int, *, done: int = 0) -> Iterator[Callable[[int], Any]]:
    """Total items, and those done in an earlier run -> a function to call with the number of items just done.

    Items of an earlier run count as done but not in the rate. The end is logged only if the block ends well.
    """
    log.info("%s: %d items%s", label, total, f", {done} done before" if done else "")
    started, shown = time.monotonic(), bool(getattr(sys.stderr, "isatty", bool)())  # there may be none, or a caller's own
    with Bar(
        total=total, initial=done, desc=label, unit="item", bar_format=FORMAT, smoothing=0, leave=False, disable=not shown, file=sys.stderr
    ) as bar:
        counted = Counter(bar)
        yield counted.advance
    seconds = time.monotonic() - started
    rate = f", {counted.items / seconds:.1f} items/s" if counted.items and seconds > 0 else ""
    log.info("%s: %d items done in %.1f s%s", label, counted.items, seconds, rate)


class Counter:
    """Items done in this run; a disabled bar does not count."""

    def __init__(self, bar: Bar) -> None:
        self.bar, self.items = bar, 0

    def advance(self, items: int) -> None:
        self.items += items
        self.bar.update(items)
