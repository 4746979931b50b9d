"""Settings that a program made: whether their values are of the kinds that they are declared to be."""

from __future__ import annotations

from dataclasses import is_dataclass
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from matcher.errors import UsageError


def check_kinds(settings: Any, key: str) -> None:
    """A dataclass of settings, and what it is called -> UsageError that names the first value of another kind than declared."""
    for name, hint in get_type_hints(type(settings)).items():
        check_value(getattr(settings, name), hint, f"{key}.{name}")


def check_value(value: Any, hint: Any, key: str) -> None:
    """A value, the type that it is declared to have, and its name -> UsageError if it has another."""
    if not is_of(value, hint):
        raise UsageError(
            f"{key} must be {told(hint)}, not {value!r:.60}" + ("" if isinstance(value, str) else f" ({type(value).__name__})")
        )
    if is_dataclass(value):
        check_kinds(value, key)
    elif isinstance(value, list):
        for number, one in enumerate(value):
            check_value(one, inner_of(hint), f"{key}[{number}]")


def is_of(value: Any, hint: Any) -> bool:
    """Whether a value is of a type; what a list or a dataclass holds is not looked at."""
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if get_origin(hint) is list:
        return isinstance(value, list)
    if get_args(hint):  # a choice
        return any(is_of(value, one) for one in get_args(hint))
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return isinstance(value, hint)


def inner_of(hint: Any) -> Any:
    """The type of a list's values, be it one of a choice."""
    lists = [one for one in (hint, *get_args(hint)) if get_origin(one) is list]
    return get_args(lists[0])[0]


def told(hint: Any) -> str:
    """A type in words."""
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if get_origin(hint) is list:
        return f"a list of {told(get_args(hint)[0])}"
    if get_args(hint):
        return " or ".join(told(one) for one in get_args(hint))
    return "None" if hint is NoneType else hint.__name__
