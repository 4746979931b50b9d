"""What a person wrote and nothing fits -> which key of a dataclass of settings, and why; which name was probably meant.

The parser's own words say less.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from difflib import get_close_matches
from pathlib import PurePath
from typing import Any, get_args, get_origin, get_type_hints

from matcher.errors import UsageError


class Fault(Exception):
    """What is wrong with what is written under a key; ``said`` is None if there is no such key."""

    def __init__(self, key: str, said: str | None) -> None:
        super().__init__(key, said)
        self.key, self.said = key, said


def suggest(name: str, known: Iterable[str]) -> str:
    """A name that there is not, and those that there are -> ``; did you mean A?``, or nothing if none is spelt alike."""
    by_stem = {stem(other): other for other in known}
    found = get_close_matches(stem(name), list(by_stem), n=1, cutoff=0.7)
    return f"; did you mean {by_stem[found[0]]}?" if found else ""


def stem(name: str) -> str:
    """A file's name without folder and ending, which others share; any other name as it is."""
    return PurePath(name).stem if name.endswith((".json", ".yaml", ".safetensors")) else name


def find_fault(cls: type, content: Any, key: str) -> Fault | None:
    """A dataclass of settings, what is written for it, and the key that stands before it -> the first fault; None if none is seen.

    Names of keys, and what the constructors refuse, are seen; kinds of single values are left to the parser.
    """
    try:
        build(cls, content, key)
    except Fault as fault:
        return fault
    return None


def build(cls: type, content: Any, key: str) -> Any:
    """Likewise -> the dataclass; None where the parser must judge. Fault."""
    if not isinstance(content, Mapping):
        raise Fault(key, f"must be keys and values, not {'null' if content is None else content}")
    hints, values = get_type_hints(cls), {}
    for name, value in content.items():
        if name not in hints:
            raise Fault(f"{key}.{name}", None)
        inner = next(dataclasses_in(hints[name]), None)
        if value is None and type(None) not in get_args(hints[name]):
            raise Fault(f"{key}.{name}", "must not be null; leave it out for its default")
        if inner is None or value is None:
            values[name] = value
        elif not is_list(hints[name]):
            values[name] = build(inner, value, f"{key}.{name}")
        elif isinstance(value, list):
            values[name] = [build(inner, one, f"{key}.{name}") for one in value]
    try:
        return cls(**values)
    except UsageError as error:
        raise Fault(key, str(error)) from error
    except (TypeError, AttributeError):  # a value of the wrong kind, or one that is missing
        return None


def is_list(hint: Any) -> bool:
    """Whether a type is a list, or a choice of a list and null."""
    return any(get_origin(one) is list for one in (hint, *get_args(hint)))


def dataclasses_in(hint: Any) -> Iterator[type]:
    """A type -> the dataclasses that it names: itself, or within a list or a choice."""
    if isinstance(hint, type) and is_dataclass(hint):
        yield hint
    for inner in get_args(hint):
        yield from dataclasses_in(inner)
