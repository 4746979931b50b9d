"""The parser's complaints -> one sentence that names the key, its file, and the nearest key that exists."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from matcher.cli.allowed import ALLOWED, VARIABLE
from matcher.cli.keys import known_keys
from matcher.cli.meant import known_classes, nearest, nearest_config
from matcher.cli.verbs import POSITIONAL
from matcher.cli.words import config_files, content
from matcher.faults import suggest

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


def one_sentence(
    message: str, function: Callable[..., Any], flags: Sequence[type | None], words: Sequence[str], *, more: Iterable[str] = ()
) -> str:
    """The parser's message, the verb, the dataclasses that were spread over it, the plain words, other keys that it takes -> one line."""
    where, message = innermost(message)
    for unknown in filter(None, (pattern.search(message) for pattern in UNKNOWN)):
        key = ".".join(filter(None, (where, unknown.groupdict().get("group"), unknown["key"])))
        return f"there is no option {key}{in_file(key, words)}{nearest(key, [*known_keys(function, flags), *more])}"
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
            nodes = [*nodes, *(each["init_args"] for each in nodes if isinstance(each, dict) and "init_args" in each)]  # of a class
            node = next((each[part] for each in nodes if isinstance(each, dict) and part in each), Ellipsis)
        if node is not Ellipsis and value in (None, str(node)):
            return f" (in {path})"
    return ""
