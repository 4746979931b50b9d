"""Names of views -> which of the described views they mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from matcher.geometry import Array
from matcher.types import Text, Views
from matcher.views import overlays, proposals
from matcher.views.plan import expand

OVERLAYS, PROPOSALS = "overlays", "proposals"  # names of views that are found; "overlays+turns" looks at each of them turned
FOUND = {OVERLAYS: overlays.KIND, PROPOSALS: proposals.KIND}  # name: the kind that they have
Mask = NDArray[np.bool_]


def kinds_of(name: str) -> list[str]:
    """One name, as a plan or a detector knows it -> the kinds of its views. UsageError if it is unknown."""
    found, _, inside = name.partition("+")
    if found not in FOUND:
        return list(expand([name]))
    ends = expand([inside]) if inside else ["whole"]
    return [FOUND[found] if end == "whole" else f"{FOUND[found]}+{end}" for end in ends]


def kinds_of_all(names: Sequence[str]) -> set[str]:
    """Names -> the kinds of all their views."""
    return {kind for name in names for kind in kinds_of(name)}


def choose(kinds: Text, names: Sequence[str] | None) -> Mask:
    """Kinds (V,) of described views and names, null = all -> True where a name means the view, (V,)."""
    if names is None:
        return np.ones(len(kinds), dtype=bool)
    return np.isin(kinds, np.array(sorted(kinds_of_all(names)), dtype=np.str_))


def choose_first(image_ids: Text, kinds: Text, names: Sequence[str]) -> Mask:
    """Pictures (V,) and kinds (V,) of views -> True where the first name that the picture has a view of means the view, (V,)."""
    chosen = np.zeros(len(kinds), dtype=bool)
    for name in names:
        chosen |= choose(kinds, [name]) & ~np.isin(image_ids, image_ids[chosen])
    return chosen


def frames_of(names: Sequence[str] | None, seen: Views, *, first: bool = False) -> list[Array]:
    """Names, null = all that is seen, and the described views of one picture -> the frames (3, 3) that they mean.

    What a plan knows needs not be described. ``first``: only those of the first name that has any.
    """
    if names is None:
        return list(seen.frame)
    frames: list[Array] = []
    for name in names:
        detected = name.partition("+")[0] in FOUND
        frames += list(seen.frame[choose(seen.kind, [name])]) if detected else list(expand([name]).values())
        if first and frames:
            break
    return frames
