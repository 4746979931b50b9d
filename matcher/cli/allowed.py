"""Which classes and functions a config may name: those of this package and some of Lightning's; whoever starts it may allow more."""

from __future__ import annotations

import os

from jsonargparse import set_parsing_settings

VARIABLE = "MATCHER_ALLOW"
ALLOWED = (
    "matcher.settings",
    "matcher.training",
    "matcher.models",
    "matcher.data",
    *(f"lightning.pytorch.{room}" for room in ("callbacks", "loggers", "strategies")),
)


def guard_imports() -> None:
    """From here on parsers of this process import what is under ALLOWED and under the names in MATCHER_ALLOW (a,b.C), nothing else."""
    more = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=[*ALLOWED, *more])
