"""Image copy detection: which queries are edited copies of which references, of which part, and how sure are we.

The verbs of the command line are functions: ``from matcher import run, compare, evaluate``. They are imported when first
asked for. ``background`` is called ``make_background``. Those that share their name with a room are in ``matcher.pipeline``
(describe, index, shortlist, report), or in that room (doctor, demo); Lightning's (fit, validate, test, predict) are no functions.
``read_strategy(["run/full.yaml"])`` is what their ``strategy`` takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matcher.pipeline import add, calibrate, compare, evaluate, fuse, remove, run, score
    from matcher.stages.strategies import read_strategy
    from matcher.workshop import ablate, contact_sheet, convert, false_links, fit_fusion, make_background, synthesize, whiten

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "ablate",
    "add",
    "calibrate",
    "compare",
    "contact_sheet",
    "convert",
    "evaluate",
    "false_links",
    "fit_fusion",
    "fuse",
    "make_background",
    "read_strategy",
    "remove",
    "run",
    "score",
    "synthesize",
    "whiten",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'matcher' has no attribute {name!r}")
    from importlib import import_module

    homes = [import_module(f"matcher.{home}") for home in (["stages.strategies"] if name == "read_strategy" else ["pipeline", "workshop"])]
    return next(getattr(home, name) for home in homes if hasattr(home, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
