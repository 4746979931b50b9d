"""Every key that a verb, or a class that a config names, takes: with dots, as it is typed and as it stands in YAML."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from inspect import signature
from typing import Any, get_type_hints

from matcher.cli.words import config_files, content
from matcher.faults import dataclasses_in


def known_keys(function: Callable[..., Any], flags: Sequence[type | None]) -> Iterator[str]:
    """Every key that the verb takes, with dots: strategy, strategy.images, strategy.images.max_pixels, ..."""
    yield from parameter_keys(function, "", spread=flags)
    for cls in filter(None, flags):
        yield from nested_keys(cls, "")
    yield from ("config", "print_config", "help")


def class_keys(part: str, words: Sequence[str]) -> Iterator[str]:
    """A part of a config that is an object of a class, and the plain words -> its keys, by the class that their config files name."""
    for held in map(content, config_files(words)):
        named = held.get(part) if isinstance(held, dict) else None
        room, _, name = str(named.get("class_path") if isinstance(named, dict) else "").rpartition(".")
        cls = getattr(sys.modules.get(room), name, None)  # the parser has imported it, or refused to
        if isinstance(cls, type):
            yield from parameter_keys(cls, f"{part}.")


def parameter_keys(function: Callable[..., Any], prefix: str, *, spread: Sequence[type | None] = ()) -> Iterator[str]:
    """Parameters of a function or a class, and what is in those that are dataclasses, but for those whose fields were spread."""
    for name, parameter in signature(function).parameters.items():
        if type(parameter.default) in spread:
            continue
        yield prefix + name
        if is_dataclass(parameter.default):
            yield from nested_keys(type(parameter.default), f"{prefix}{name}.")


def nested_keys(cls: type, prefix: str) -> Iterator[str]:
    hints = get_type_hints(cls)
    for field in fields(cls):
        yield prefix + field.name
        for inner in dataclasses_in(hints[field.name]):
            yield from nested_keys(inner, f"{prefix}{field.name}.")
