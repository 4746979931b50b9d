"""Paths as people type them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def locate(text: str) -> str:
    """A path as typed -> the same with ~ spelled out, unless there is a file of that very name."""
    return text if os.path.lexists(text) else os.path.expanduser(text)


def located(value: Any) -> Any:
    """A path that begins with ~, as text or as a Path -> the same spelled out. Anything else stays as it is."""
    return type(value)(locate(str(value))) if isinstance(value, str | Path) and str(value).startswith("~") else value
