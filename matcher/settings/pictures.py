"""What is refused before decoding, and which regions of a picture become views."""

from __future__ import annotations

from dataclasses import dataclass

from matcher.settings.least import at_least


@dataclass(frozen=True)
class ImageSettings:
    """What is refused before decoding.

    Args:
        max_pixels: pictures with more pixels than this are listed as too_many_pixels
        max_bytes: files larger than this are listed as too_large
        root: pictures that do not lie in this folder, links and ".." followed, are listed as outside; null = they may lie anywhere
    """

    max_pixels: int = 100_000_000
    max_bytes: int = 256 * 1024 * 1024
    root: str | None = None

    def __post_init__(self) -> None:
        at_least(self, max_pixels=1, max_bytes=1)


@dataclass(frozen=True)
class BoxRules:
    """Which of the boxes found in a picture become views. Lengths are in pixels of the picture, shares are of its area.

    Args:
        confidence: boxes less certain than this are left out, 0 to 1
        shorter_side: boxes with a shorter side below this are left out
        aspect: boxes whose longer side is more than this many times the shorter one are left out; null = any shape
        least_share: boxes smaller than this are left out
        largest_share: boxes of this share or more are left out, for they show what the whole shows
        overlap: a box that shares more than this with a more certain one (intersection over union) is left out
        most: views at most, the most certain first
    """

    confidence: float = 0.25
    shorter_side: float = 0.0
    aspect: float | None = None
    least_share: float = 0.0
    largest_share: float = 0.95
    overlap: float = 1.0
    most: int = 4

    def __post_init__(self) -> None:
        at_least(self, confidence=0, shorter_side=0, aspect=1, least_share=0, largest_share=0, overlap=0, most=0)


@dataclass(frozen=True)
class ProposalRules(BoxRules):
    """Which regions become views, see views.proposals.

    Args:
        side: longer side, in pixels, of the small picture that is taken apart; smaller pictures are not enlarged
    """

    confidence: float = 0.0
    shorter_side: float = 32.0
    aspect: float | None = 3.0
    least_share: float = 0.02
    largest_share: float = 0.9
    overlap: float = 0.5
    most: int = 12
    side: int = 160

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, side=16)
