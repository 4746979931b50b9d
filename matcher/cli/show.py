"""A verb's result -> text on stdout."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def as_text(result: Any, *, as_json: bool) -> str:
    """What a verb returned -> what is printed: str(result), or JSON of its as_dict(). A path is printed as it is; None is nothing."""
    if as_json:
        content = result.as_dict() if hasattr(result, "as_dict") else {"path": str(result)} if isinstance(result, Path) else result
        return json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False)
    return "" if result is None else str(result)


def plain(value: Any) -> Any:
    """Anything -> what JSON can hold: arrays become lists, numbers that are not finite null, paths text."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value if value is None or isinstance(value, str | int) else str(value)
