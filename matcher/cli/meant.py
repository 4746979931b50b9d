"""A key, a config or a class that does not exist -> the one that was probably meant."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from matcher.cli.words import config_files
from matcher.shipped import shipped, shipped_names

BASES = re.compile(r"Subtypes: \[(.*)\]")
CLASS_PATH = re.compile(r"class_path: ([\w.]+)")


def nearest(key: str, known: Sequence[str]) -> str:
    """The key that was probably meant: one that it begins, one spelt alike, or one of the same name elsewhere."""
    if key in known:  # an argument without a flag
        return f"; give {key} without a flag"
    last = key.rpartition(".")[2]
    begun = [name for name in known if name.startswith(key)]
    alike = get_close_matches(key, known, n=1, cutoff=0.7)
    elsewhere = [name for name in known if name.rpartition(".")[2] == last]
    return f"; did you mean {found[0]}?" if (found := begun or alike or elsewhere) else ""


def nearest_config(path: str, words: Sequence[str]) -> str:
    """The path of a config that is not there -> the one that ships and was probably meant, or those of the same room, or all."""
    names = [name for name in shipped_names("experiments") if name.endswith(".yaml")]
    typed = next((word for word in config_files(words) if path.endswith(word)), path).removeprefix("experiments/")
    stem = Path(typed).stem
    same = [name for name in names if Path(name).stem == stem]
    alike = get_close_matches(stem, {Path(name).stem for name in names}, n=1, cutoff=0.75)
    if meant := same or [name for name in names if Path(name).stem in alike]:
        return f"; did you mean {' or '.join(meant)}?"
    beside = [name for name in names if Path(name).parent == Path(typed).parent]
    return f"; matcher comes with {', '.join(f'experiments/{name}' for name in beside or names)}"


def known_classes(message: str) -> Iterator[str]:
    """The parser's message -> paths, and names, of classes that its key may take: those that are imported, and those of the experiments."""
    bases = BASES.search(message)
    for path in re.findall(r"[\w.]+\.[A-Z]\w+", bases[1]) if bases else ():
        room, _, name = path.rpartition(".")
        for cls in subclasses(getattr(sys.modules.get(room), name, None)):
            yield from (f"{cls.__module__}.{cls.__qualname__}", cls.__qualname__)
    for name in shipped_names("experiments"):
        if name.endswith(".yaml"):
            yield from CLASS_PATH.findall(shipped("experiments", name).read_text(encoding="utf-8"))


def subclasses(cls: Any) -> Iterator[type[Any]]:
    """A class -> those that follow from it and are imported; nothing for object, and for what is no class (typing.Callable)."""
    known: list[type[Any]] = type.__subclasses__(cls) if isinstance(cls, type) and cls is not object else []
    for one in known:
        yield one
        yield from subclasses(one)
