"""Image copy detection: which queries are edited copies of which references, of which part, and how sure are we.

The verbs of the command line are functions: ``from matcher import run, compare, evaluate``. They are imported when first
asked for. Verbs that share their name with a room (describe, index, shortlist, report) are in ``matcher.pipeline``.
``read_strategy(["run/full.yaml"])`` is what their ``strategy`` takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matcher.pipeline import calibrate, compare, evaluate, fit_fusion, fuse, run, score, synthesize
    from matcher.stages.strategies import read_strategy

__version__ = "0.1.0"
__all__ = ["__version__", "calibrate", "compare", "evaluate", "fit_fusion", "fuse", "read_strategy", "run", "score", "synthesize"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'matcher' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("matcher.stages.strategies" if name == "read_strategy" else "matcher.pipeline"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
