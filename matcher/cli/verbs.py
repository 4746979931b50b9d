"""Which function answers to which verb; only the module of a typed verb is imported."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

VERBS = {
    "run": "matcher.pipeline:run",
    "add": "matcher.pipeline:add",
    "remove": "matcher.pipeline:remove",
    "compare": "matcher.pipeline:compare",
    "describe": "matcher.pipeline:describe",
    "index": "matcher.pipeline:index",
    "shortlist": "matcher.pipeline:shortlist",
    "score": "matcher.pipeline:score",
    "fuse": "matcher.pipeline:fuse",
    "calibrate": "matcher.pipeline:calibrate",
    "evaluate": "matcher.pipeline:evaluate",
    "report": "matcher.pipeline:report",
    "convert": "matcher.workshop:convert",
    "synthesize": "matcher.workshop:synthesize",
    "ablate": "matcher.workshop:ablate",
    "fit_fusion": "matcher.workshop:fit_fusion",
    "whiten": "matcher.workshop:whiten",
    "background": "matcher.workshop:make_background",
    "false_links": "matcher.workshop:false_links",
    "contact_sheet": "matcher.workshop:contact_sheet",
    "demo": "matcher.demo:demo",
    "doctor": "matcher.doctor:doctor",
}
TRAINING = ("fit", "validate", "test", "predict")  # Lightning's own, see cli/training.py; they take seconds to start
STRATEGY = "strategy"  # the parameter of the verbs that follow one
READS = {  # parts of the strategy that a verb looks at, where it is not all of them; its help shows these alone
    "add": ("images", "reference_keypoints", "descriptor", "index"),
    "describe": ("images", "query_keypoints", "reference_keypoints", "query_crop", "descriptor"),
    "index": ("index",),
    "fuse": ("fusion", "scorers"),
    "calibrate": ("fusion", "scorers", "answers"),
    "report": ("images",),
    "convert": ("images", "descriptor"),
    "background": ("images", "reference_keypoints", "descriptor"),
    "false_links": ("descriptor",),
}
POSITIONAL = frozenset({"compare", "convert"})  # matcher compare A B; everywhere else an argument is named


def load(verb: str) -> Callable[..., Any]:
    """A verb of the table -> its function."""
    module, name = VERBS[verb].split(":")
    return getattr(import_module(module), name)


def one_line(verb: str) -> str:
    """A verb of the table -> the first line of its function's docstring, without the full stop."""
    return (load(verb).__doc__ or "").strip().partition("\n")[0].removesuffix(".")
