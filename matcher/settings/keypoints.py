"""Keypoints of pictures, and what they say of a pair."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from matcher.errors import UsageError
from matcher.settings.least import at_least
from matcher.settings.pictures import BoxRules


@dataclass(frozen=True)
class SiftSettings:
    """Keypoints of a picture (models/sift.py).

    Args:
        kind: corners (of a pyramid, models/corners.py), or sift (OpenCV's SIFT, three times as slow)
        short_side: the short side, in pixels, that pictures are brought to first
        enlarge: small pictures are enlarged towards short_side by this factor at most
        keypoints: at most this many a picture, shared out over the scales, coarse ones first; 0 = none
        contrast: OpenCV's contrastThreshold, of sift; low, because dark and blurred copies have little contrast
    """

    kind: Literal["corners", "sift"] = "corners"
    short_side: int = 260
    enlarge: float = 2.0
    keypoints: int = 400
    contrast: float = 0.01

    def __post_init__(self) -> None:
        at_least(self, short_side=16, enlarge=1, keypoints=0, contrast=0)


def of_one_kind(query: SiftSettings, reference: SiftSettings, names: tuple[str, str] = ("queries", "references")) -> None:
    """UsageError if keypoints of one kind would be compared with those of the other."""
    if query.kind != reference.kind and query.keypoints and reference.keypoints:
        kinds = f"{query.kind} ({names[0]}) and {reference.kind} ({names[1]})"
        raise UsageError(f"keypoints of kind {kinds} cannot be compared: name one kind for both")


@dataclass(frozen=True)
class CropSettings:
    """Keypoints of what is pasted in a query: of the overlay detector's most certain box, at the box's own resolution (crops.py).

    Args:
        detector: the overlay detector: a checkpoint file, or the bare name of one in checkpoints/overlay
        boxes: which of its boxes may be that one
    """

    detector: str
    boxes: BoxRules = field(default_factory=BoxRules)


@dataclass(frozen=True)
class Doubt:
    """Pairs that keypoints leave in doubt: those whose support (see scoring/sift.py) lies between two numbers.

    Args:
        least: pairs with less are strangers
        most: pairs with this much or more are copies
    """

    least: float = 3.0
    most: float = 20.0

    def __post_init__(self) -> None:
        at_least(self, least=0, most=self.least)


@dataclass(frozen=True)
class SecondLookSettings:
    """More keypoints, on larger pictures, for the pairs that the first ones leave in doubt (scoring/second_look.py).

    Args:
        doubt: which pairs these are
        query: keypoints of the queries
        reference: keypoints of the references
    """

    doubt: Doubt = field(default_factory=Doubt)
    query: SiftSettings = field(default_factory=lambda: SiftSettings(short_side=480, keypoints=1400))
    reference: SiftSettings = field(default_factory=lambda: SiftSettings(short_side=330, keypoints=1000))

    def __post_init__(self) -> None:
        if not (self.query.keypoints and self.reference.keypoints):
            raise UsageError("a second look needs keypoints on both sides; to do without one, make it null")
        of_one_kind(self.query, self.reference)


@dataclass(frozen=True)
class SiftScorerSettings:
    """Geometric verification of a pair by keypoints (scoring/sift.py).

    Args:
        ratio: a match counts if its distance is below this share of the second nearest's (Lowe)
        matches: at most this many matches propose transforms, the most distinct ones
        tolerance: how far an inlier may lie from the first transform, as a share of the reference's longer side;
            the final one is held to a third of it
        agreement_side: longer side, in pixels, at which the pixels of both pictures are compared
        gpu: match keypoints on a GPU by torch, with the same results; auto = where there is one
        again: a second look at the pairs in doubt; null = none
    """

    ratio: float = 0.85
    matches: int = 250
    tolerance: float = 0.04
    agreement_side: int = 96
    gpu: Literal["auto", "yes", "no"] = "auto"
    again: SecondLookSettings | None = None

    def __post_init__(self) -> None:
        at_least(self, ratio=0, matches=1, tolerance=0, agreement_side=16)
        if self.ratio > 1:
            raise UsageError(f"ratio must be at most 1, at which every nearest keypoint is a match; it is {self.ratio:g}")
