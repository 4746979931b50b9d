"""Parts of YAML, files or written out -> a strategy, the later parts on top of the earlier ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import yaml

from matcher.errors import MatcherError, UsageError
from matcher.faults import find_fault
from matcher.settings import Strategy
from matcher.shipped import shipped
from matcher.storage.yaml_files import parse_yaml

Part = str | PathLike[str] | Mapping[str, Any]


def read_strategy(parts: Part | Sequence[Part]) -> Strategy:
    """One part, or several -> strategy. A text or path is a file, as of ``--config``, a mapping what stands under ``strategy`` in one.

    UsageError with one sentence if a part does not fit, MatcherError if a file cannot be read.
    """
    parts = [parts] if isinstance(parts, str | PathLike | Mapping) else parts
    if strange := [part for part in parts if not isinstance(part, str | PathLike | Mapping)]:
        raise UsageError(f"a strategy is read from files and mappings, not from {strange[0]!r:.60}")
    from argparse import ArgumentError

    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Strategy, "strategy")
    content: dict[str, Any] = {}
    for part in parts:
        content = merge(content, part if isinstance(part, Mapping) else read_part(fspath(part)))
    name = " + ".join(map(str, parts))
    if (fault := find_fault(Strategy, content, "strategy")) is not None:
        raise UsageError(f"{name} is no strategy: {fault.key} {fault.said or 'is no option'}")
    try:  # the parser changes what it is given
        return parser.instantiate(parser.parse_object({"strategy": deepcopy(content)})).strategy
    except (ArgumentError, TypeError, ValueError) as error:
        complaint = str(error).strip().splitlines()
        raise UsageError(f"{name} is no strategy: {complaint[0]} {complaint[-1].strip()}") from error


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two mappings -> one; what the second says wins, mappings within both are merged likewise, lists are replaced."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def read_part(name: str) -> dict[str, Any]:
    """File, or name of one that ships in experiments/ -> what it says under ``strategy``."""
    path = Path(name).expanduser()
    path = path if path.is_file() else shipped("experiments", name)
    try:
        content = parse_yaml(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise MatcherError(f"{path} is no YAML that can be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold keys and values, as the files in experiments/run do")
    if not isinstance(strategy := content.get("strategy", {}), dict):
        raise UsageError(f"{path}: strategy must be keys and values, not {'null' if strategy is None else f'{strategy!s:.40}'}")
    return strategy
