"""What config files and flags say, before the parser reads them: what the parser would overlook, or complain of in words of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import yaml

from matcher.cli.keys import known_keys
from matcher.cli.meant import nearest
from matcher.cli.refusals import in_file
from matcher.cli.verbs import STRATEGY
from matcher.cli.words import config_files, content
from matcher.errors import UsageError
from matcher.faults import find_fault
from matcher.settings import Strategy
from matcher.stages.strategies import merge
from matcher.storage.yaml_files import LONGEST, parse_yaml


def refuse_faults(function: Callable[..., Any], flags: Sequence[type | None], words: Sequence[str]) -> None:
    """The verb, the dataclasses that were spread over it, the plain words -> UsageError if a name or a setting in them cannot be."""
    refuse_broken(words)
    known = set(known_keys(function, flags))
    for said in contents(words):
        for key in empty_mappings(said):
            if key not in known:
                raise UsageError(f"there is no option {key}{in_file(key, words)}{nearest(key, sorted(known))}")
    told: dict[str, Any] = {}
    for said in contents(words):
        told = merge(told, said)
    if STRATEGY in known and (fault := find_fault(Strategy, told.get(STRATEGY, {}), STRATEGY)) is not None:
        typed = any(word.startswith(f"--{fault.key}") for word in words)
        where = "" if typed else in_file(fault.key, words)
        if fault.said is None:
            raise UsageError(f"there is no option {fault.key}{where}{nearest(fault.key, sorted(known))}")
        raise UsageError(f"{fault.key}{' ' if fault.said.startswith('must be') else ': '}{fault.said}{where}")


def refuse_broken(words: Sequence[str]) -> None:
    """Plain words -> UsageError if a config that they name is there and is no file of keys and values."""
    for path in filter(os.path.exists, config_files(words)):
        if os.path.isdir(path):
            raise UsageError(f"config {path} is a folder: name a YAML file")
        try:
            with open(path, encoding="utf-8") as file:
                held = parse_yaml(file.read(LONGEST + 1))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UsageError(f"config {path} is no YAML that can be read: {' '.join(str(error).split())}") from error
        if held is not None and not isinstance(held, Mapping):
            raise UsageError(f"config {path} must hold keys and values, as the files in experiments/run do")


def contents(words: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Plain words -> what each config file and each flag of the strategy says, in their order, as nested mappings."""
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        name, equals, value = word.partition("=")
        if name == "--config" and isinstance(held := content(value or following), dict):
            yield held
        elif name.startswith(f"--{STRATEGY}."):
            yield nest(name[2:].split("."), read(value if equals else following))


def nest(keys: Sequence[str], value: Any) -> dict[str, Any]:
    return {keys[0]: nest(keys[1:], value) if len(keys) > 1 else value}


def read(text: str) -> Any:
    """A typed value -> what YAML makes of it, or the text."""
    try:
        return parse_yaml(text)
    except yaml.YAMLError:
        return text


def empty_mappings(said: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Nested mappings -> the keys, with dots, under which there is an empty one: the parser takes these, whatever their name."""
    for name, value in said.items():
        if isinstance(value, Mapping):
            yield from empty_mappings(value, f"{before}{name}.") if value else [f"{before}{name}"]
