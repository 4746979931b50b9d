"""The words of a command line as people type them -> as the parser reads them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml

from matcher.shipped import shipped_names, shipped_room
from matcher.storage.yaml_files import LONGEST, parse_yaml

TRUTHS = ("true", "false")


def plain_words(words: Sequence[str], switches: Collection[str]) -> list[str]:
    """Typed words -> words with underscores in option names, a value for every switch, and config files that exist.

    ``switches`` are the names of yes/no options: alone, ``--fresh`` means ``--fresh=true``. What follows ``--`` stays as it is.
    """
    end = words.index("--") if "--" in words else len(words)
    return [*plain_options(words[:end], switches), *words[end:]]


def plain_options(words: Sequence[str], switches: Collection[str]) -> Iterator[str]:
    previous = ""
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        typed, equals, value = word.partition("=")
        name = typed[2:].replace("-", "_") if word.startswith("--") else ""
        if not name:
            yield config_file(word) if previous == "config" else word
        elif name == "config" and equals:
            yield f"--config={config_file(value)}"
        elif name in switches and not equals and following not in TRUTHS:
            yield f"--{name}=true"
        else:
            yield f"--{name}{equals}{value}"
        previous = name


def config_file(name: str) -> str:
    """The name of a config -> its path: as it stands if there is such a file, else the experiment of that name that ships."""
    inside = name.removeprefix("experiments/")
    if not Path(name).exists() and inside in shipped_names("experiments"):
        return str(shipped_room("experiments") / inside)
    return name


def config_files(words: Sequence[str]) -> list[str]:
    """The config files that plain words name, the last first: it is the one that wins."""
    pairs = zip_longest(words, words[1:], fillvalue="")
    return [word.partition("=")[2] or following for word, following in pairs if word.partition("=")[0] == "--config"][::-1]


def content(path: str) -> Any:
    """What a YAML file holds; None if it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return parse_yaml(file.read(LONGEST + 1))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
