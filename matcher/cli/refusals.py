"""The parser's complaints -> one sentence that names the key, its file, and the nearest key that exists."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from matcher.cli.allowed import ALLOWED, VARIABLE
from matcher.cli.meant import known_classes, nearest, nearest_config
from matcher.cli.verbs import POSITIONAL
from matcher.cli.words import config_files
from matcher.faults import dataclasses_in, suggest
from matcher.storage.yaml_files import LONGEST, parse_yaml

WHERE = re.compile(r'(?:Parser key "|argument --)([\w.]+)')
UNKNOWN = (
    re.compile(r"Group '(?P<group>[^']+)' does not accept option '(?P<key>[^']+)'"),
    re.compile(r"Option '(?P<key>[^']+)' is not accepted"),
    re.compile(r"unrecognized arguments: --(?P<key>[^\s=]+)"),
)
KINDS = re.compile(r"Expected an? (.+?)(?:\. Got value: |\n|$)")
VALUE = re.compile(r"(?:Got value: |Given value: )(.+)")
INNER = re.compile(r"NestedArg\(key='(.+?)', val=(.+)\)")
PLAIN = ((r"<class '(?:\w+\.)*(\w+)'>", r"\1"), (r"(?:typing\.)?Literal\[(.*?)\]", r"one of \1"), ("NoneType", "null"))
NO_FILE = re.compile(r"File does not exist: '(.+)'")
NO_CLASS = re.compile(r"path but (\S+) either not accessible or invalid")
NO_ATTRIBUTE = re.compile(r"class_path '([\w.]+)':\s+(?:module '[\w.]+' has no attribute|No module named)")
NO_DOTS = re.compile(r"dot import path string: (.+?)(?:\. Got value: |\n|$)")
DENIED = re.compile(r"Importing '([^']+)' is not allowed")
REQUIRED = re.compile(r"the following arguments are required: (.*)")


def one_sentence(message: str, function: Callable[..., Any], flags: Sequence[type | None], words: Sequence[str]) -> str:
    """The parser's message, the verb, the dataclasses that were spread over it, the plain words -> one line."""
    where, message = innermost(message)
    for unknown in filter(None, (pattern.search(message) for pattern in UNKNOWN)):
        key = ".".join(filter(None, (where, unknown.groupdict().get("group"), unknown["key"])))
        return f"there is no option {key}{in_file(key, words)}{nearest(key, list(known_keys(function, flags)))}"
    if empty := [path for path in config_files(words) if Path(path).is_file() and not Path(path).read_bytes().strip()]:
        return f"config {empty[0]} is empty: write differences into it, or leave it out"
    if missing := REQUIRED.search(message):
        before = f"{where}." if where else "" if function.__name__ in POSITIONAL else "--"
        verb = f"{words[0]}." if words else ""  # of Lightning's verbs, whose options it precedes
        return f"still needed: {', '.join(before + name.removeprefix(verb) for name in missing[1].split(', '))}{in_file(where, words)}"
    if missing := NO_FILE.search(message):
        return f"there is no config {missing[1]}{nearest_config(missing[1], words)}"
    if missing := NO_ATTRIBUTE.search(message) or NO_CLASS.search(message) or NO_DOTS.search(message):
        place = in_file(where, words, missing[1]) or in_file(f"{where}.class_path", words, missing[1])
        return f"{where}: there is no class {missing[1]}{place}{suggest(missing[1], known_classes(message))}"
    if denied := DENIED.search(message):
        place = in_file(where, words, denied[1]) or in_file(f"{where}.class_path", words, denied[1])
        return (
            f"{where}: {denied[1]} may not be named{place}: configs name classes of {', '.join(ALLOWED)}; "
            f"whoever trusts this one says {VARIABLE}={denied[1]}{suggest(denied[1], known_classes(message))}"
        )
    if (kinds := KINDS.findall(message)) and (value := VALUE.search(message)):
        if inner := INNER.search(message):
            where, kinds = f"{where}.{inner[1]}", kinds[:1]
        given, wanted = (inner[2] if inner else value[1]).strip("'"), plain_kind(" or ".join(kinds))
        quotes = (
            ": write it in quotes, YAML reads a bare yes or no as another value" if given in ("True", "False") and "'yes'" in wanted else ""
        )
        return f"{where} must be {wanted}, not {given}{in_file(where, words, given)}{quotes}"
    return " ".join(message.split())


def innermost(message: str) -> tuple[str, str]:
    """The parser's message -> the key that it is about, with dots, and what is said of that key, without the keys around it."""
    found = list(WHERE.finditer(message))
    said = message[found[-1].start() :] if found else message
    ends = VALUE.search(said)
    return ".".join(key[1] for key in found), said[: ends.end()] if ends else said


def known_keys(function: Callable[..., Any], flags: Sequence[type | None]) -> Iterator[str]:
    """Every key that the verb takes, with dots: strategy, strategy.images, strategy.images.max_pixels, ..."""
    for name, parameter in signature(function).parameters.items():
        if type(parameter.default) in flags:  # its fields are keys of their own
            continue
        yield name
        if is_dataclass(parameter.default):
            yield from nested_keys(type(parameter.default), f"{name}.")
    for cls in filter(None, flags):
        yield from nested_keys(cls, "")
    yield from ("config", "print_config", "help")


def nested_keys(cls: type, prefix: str) -> Iterator[str]:
    hints = get_type_hints(cls)
    for field in fields(cls):
        yield prefix + field.name
        for inner in dataclasses_in(hints[field.name]):
            yield from nested_keys(inner, f"{prefix}{field.name}.")


def plain_kind(kind: str) -> str:
    """``<class 'int'>`` -> int, ``typing.Literal['a', 'b']`` -> one of 'a', 'b'."""
    for pattern, word in PLAIN:
        kind = re.sub(pattern, word, kind)
    return kind


def in_file(key: str, words: Sequence[str], value: str | None = None) -> str:
    """`` (in FILE)`` for the config file that holds the key (with that value, if one is given); nothing if it was typed."""
    for path in config_files(words):
        node = content(path)
        for part in key.split("."):
            nodes = node if isinstance(node, list) else [node]
            node = next((each[part] for each in nodes if isinstance(each, dict) and part in each), Ellipsis)
        if node is not Ellipsis and value in (None, str(node)):
            return f" (in {path})"
    return ""


def content(path: str) -> Any:
    """What a YAML file holds; None if it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return parse_yaml(file.read(LONGEST + 1))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
