"""A PATH that names pictures -> which ones, under which ids: folder, glob, list file or one single picture."""

from __future__ import annotations

import fnmatch
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from numpy.typing import NDArray

from matcher.errors import ImageError, MatcherError
from matcher.images.files import from_text, has_picture_suffix, is_picture, open_error, printable, storable


@dataclass(frozen=True)
class Listing:
    """What a PATH names, not yet looked at, in order. ``broken`` holds folders that could not be searched and rows without a path,
    ``others`` counts the files of a folder that are no pictures."""

    ids: list[str]
    paths: list[str]
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)  # other columns of a table
    broken: list[tuple[str, str, ImageError]] = field(default_factory=list)  # id, path, why
    others: int = 0


def list_folder(folder: str, *, pattern: list[str] | None = None) -> Listing:
    """A folder -> its pictures at any depth, sorted by name; ids are paths relative to the folder, without extension.

    Hidden files and folders are left out. A file is a picture by its suffix or else by its first bytes; others are counted.
    Links to folders are followed, every folder once.

    Args:
        pattern: keep only what matches these parts of a glob, e.g. ["**", "*.jpg"]
    """
    names, broken, others = [], [], 0
    depth = None if pattern is None or "**" in pattern else len(pattern)
    for name, is_folder, error in walk(folder, depth=depth):
        if error is not None:
            broken.append((storable(name) or ".", os.path.join(folder, name), error))
        elif pattern is not None and not matches(name.split("/"), pattern):
            continue
        elif has_picture_suffix(name) or (not is_folder and is_picture(os.path.join(folder, name))):
            names.append(name)
        else:
            others += not is_folder
    names.sort()
    broken.sort(key=itemgetter(0))
    return Listing(make_ids(names), [os.path.join(folder, name) for name in names], broken=broken, others=others)


def walk(folder: str, *, depth: int | None = None) -> Iterator[tuple[str, bool, ImageError | None]]:
    """A folder -> (name relative to it, is it a folder, why it cannot be searched) of everything in it that is not hidden.

    Each real folder is searched once: first those inside, then those behind links, so that loops of links end.
    """
    seen: set[tuple[int, int]] = set()
    pending: list[str] = [""]
    links: list[str] = []
    while pending or links:
        if not pending:
            links.sort(reverse=True)
            pending.append(links.pop())
        name = pending.pop()
        try:
            status = os.stat(os.path.join(folder, name))
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(os.path.join(folder, name)) as found:
                entries = [entry for entry in found if not entry.name.startswith(".")]
        except OSError as error:
            yield name, True, open_error(os.path.join(folder, name), error)
            continue
        for entry in entries:
            inner = f"{name}/{entry.name}" if name else entry.name
            is_folder = os.path.isdir(entry.path)
            yield inner, is_folder, None
            if is_folder and (depth is None or inner.count("/") + 1 < depth):
                (links if entry.is_symlink() else pending).append(inner)


def matches(parts: list[str], pattern: list[str]) -> bool:
    """Do the parts of a name fit the parts of a glob, where ``**`` stands for any number of folders?"""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        rest = pattern[1:]
        return bool(parts) if not rest else any(matches(parts[skip:], rest) for skip in range(len(parts)))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and matches(parts[1:], pattern[1:])


def list_glob(pattern: str) -> Listing:
    """A glob (``*``, ``?``, ``[...]`` and ``**``) -> the pictures that match; ids are relative to the folder before the first wildcard."""
    parts = pattern.split(os.sep)
    fixed = 0
    while fixed < len(parts) and (not is_glob(parts[fixed]) or os.path.lexists(os.sep.join(parts[: fixed + 1]))):
        fixed += 1
    folder = os.sep.join(parts[:fixed]) or (os.sep if pattern.startswith(os.sep) else os.curdir)
    wild = [part for part in parts[fixed:] if part]
    collapsed = [part for at, part in enumerate(wild) if part != "**" or wild[at - 1 : at] != ["**"]]
    return list_folder(folder, pattern=collapsed) if os.path.isdir(folder) else Listing([], [])


def is_glob(text: str) -> bool:
    return any(wildcard in text for wildcard in "*?[")


def list_file(place: str) -> Listing:
    """A text file with one path a line, relative to its folder -> those paths; ids as in a folder, or the path as written if it leads out.

    Blank lines are skipped, and so are lines that start with # unless there is such a file.
    """
    with open(place, "rb") as file:
        data = file.read()
    if b"\0" in data:
        raise MatcherError(f"{printable(place)}: this is no list of paths (not a text in UTF-8); write one path a line")
    folder = os.path.dirname(place)
    names = []
    for line in data.decode("utf-8-sig", "surrogateescape").split("\n"):
        name = line.removesuffix("\r")
        name = name if os.path.lexists(os.path.join(folder, name)) else name.strip()
        if name and not (name.startswith("#") and not os.path.lexists(os.path.join(folder, name))):
            names.append(from_text(name))
    return Listing(make_ids([relative(name, folder) for name in names]), [os.path.join(folder, name) for name in names])


def relative(name: str, folder: str) -> str:
    """A path as written in a list -> the shortest name for it: relative to the list's folder if it lies inside."""
    inside = os.path.abspath(folder) + os.sep
    return os.path.normpath(name.removeprefix(inside)).replace(os.sep, "/")


def list_single(place: str) -> Listing:
    return Listing(make_ids([os.path.basename(place)]), [place])


def make_ids(names: list[str]) -> list[str]:
    """File names -> ids: without the picture suffix, unless two would then be called the same; bytes that are no UTF-8 are escaped."""
    short = [os.path.splitext(name)[0] if has_picture_suffix(name) else name for name in names]
    ids = list(short)
    while True:
        counts = Counter(ids)
        clashing = [at for at, name in enumerate(names) if counts[ids[at]] > 1 and ids[at] != name]
        if not clashing:
            return [storable(name) for name in ids]
        for at in clashing:
            ids[at] = names[at]
