"""The files that come with matcher: checkpoints/ and experiments/, in a checkout and in an installed wheel alike."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from matcher.errors import MatcherError
from matcher.faults import suggest

PACKAGE = Path(__file__).resolve().parent
Kind = Literal["checkpoints", "experiments"]


def shipped(kind: Kind, name: str = "") -> Path:
    """A name like ``fusion/keypoints.json`` -> the path of that file or folder. MatcherError if matcher has no such file."""
    room = shipped_room(kind)
    path = room / name
    if not path.exists() or not path.resolve().is_relative_to(room.resolve()):
        beside = [other for other in shipped_names(kind) if Path(other).parent == Path(name).parent]
        there = ", ".join(beside or shipped_names(kind)) or "none"
        raise MatcherError(f"matcher comes with no {kind}/{name}; there are: {there}{suggest(name, beside)}")
    return path


def shipped_names(kind: Kind) -> list[str]:
    """Every file of that kind that comes with matcher, as names that ``shipped`` takes, sorted."""
    room = shipped_room(kind)
    return sorted(path.relative_to(room).as_posix() for path in room.rglob("*") if path.is_file())


def shipped_room(kind: Kind) -> Path:
    """The folder of that kind: the repository's in a checkout (beside setup.cfg), else the one inside the package."""
    checkout = PACKAGE.parent
    return checkout / kind if (checkout / "setup.cfg").is_file() else PACKAGE / "_shipped" / kind
