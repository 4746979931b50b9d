"""How candidates are found."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from matcher.errors import UsageError
from matcher.settings.descriptors import NearestViews
from matcher.settings.keypoints import SiftSettings
from matcher.settings.least import at_least


@dataclass(frozen=True)
class IndexSettings:
    """A nearest-neighbour index.

    Args:
        kind: flat (exact), fp16 (exact search on half precision), ivf (inverted lists), ivfpq (inverted lists of codes), binary
            (inverted lists of sign bits), words (visual words: a row is the list that it is in, and a few sign bits)
        lists: inverted lists, which are the words of words; null = about 2 * sqrt(rows)
        probes: lists looked at for each query row; words looks at one
        code_bytes: bytes a row takes in ivfpq
        bits: sign bits a row takes in binary and words, eight to a byte; 0 = words tells rows of one word not apart
        on_disk: keep the inverted lists in a memory-mapped file
        gpu: search on a GPU: faiss-gpu where it is installed (flat, fp16, ivf, ivfpq), else torch (flat, fp16); lists on disk, binary and
            words are searched on the CPU; auto = on a GPU where it can be
    """

    kind: Literal["flat", "fp16", "ivf", "ivfpq", "binary", "words"] = "flat"
    lists: int | None = None
    probes: int = 16
    code_bytes: int = 32
    bits: int = 64
    on_disk: bool = False
    gpu: Literal["auto", "yes", "no"] = "auto"

    def __post_init__(self) -> None:
        at_least(self, lists=1, probes=1, code_bytes=1, bits=8 if self.kind == "binary" else 0)
        if self.bits % 8:
            raise UsageError(f"bits must be a multiple of 8, not {self.bits}")
        if self.on_disk and self.kind in ("flat", "fp16"):
            lists = "ivf, ivfpq, binary or words"
            raise UsageError(f"index.on_disk keeps inverted lists in a file; kind {self.kind} has none, set index.kind to {lists}")

    @property
    def identity(self) -> dict[str, Any]:
        """What decides which rows are found: all but the device."""
        return {**asdict(self), "gpu": "auto"}


@dataclass(frozen=True)
class CountSettings:
    """The reference that gets the most votes, one a keypoint, if it wins clearly (shortlist/counts.py).

    Args:
        least: votes that it needs, and more than any other reference has
        alone: votes that it needs where no other reference has one
        farthest: the mean squared distance of its votes must be below this, on rows of length 1 (0 = equal, 2 = unlike)
    """

    least: int = 4
    alone: int = 6
    farthest: float = 0.123

    def __post_init__(self) -> None:
        at_least(self, least=1, alone=1, farthest=0)


@dataclass(frozen=True)
class SecondVoteSettings:
    """Votes of more keypoints, found on a larger picture, for the queries whose first votes agree on next to nothing
    (shortlist/second_vote.py). A reference that they bring is judged by these keypoints too, where keypoints look a second time.

    Args:
        below: a query votes again if no reference has this much support
        most: references that these votes bring: the best one, and others if they have that much
        query: its keypoints then; all of them vote
    """

    below: float = 2.5
    most: int = 2
    query: SiftSettings = field(default_factory=lambda: SiftSettings(short_side=640, keypoints=2500))

    def __post_init__(self) -> None:
        at_least(self, below=0, most=1)
        if not self.query.keypoints:
            raise UsageError("a second vote needs keypoints; to do without one, make it null")


@dataclass(frozen=True)
class ShortlistSettings:
    """How candidates are found.

    Args:
        per_query: candidates by keypoint votes that agree on a place kept for a query at most; 0 = no such votes
        counts: candidates by counted votes: one reference for the query, one for its crop; null = none
        descriptor: candidates by descriptors that join them: which views meet, and how many references each rule brings
        always: this many are kept however weak they are
        support: the others are kept if their votes that agree weigh this much
        keypoints: at most this many keypoints of a query vote
        neighbours: nearest reference keypoints that each of them is compared with; the last one sets its weight
        tried: references with the most votes whose votes are tested for one common transform
        tolerance: how far a vote may lie from the transform, as a share of the reference's longer side
        again: a second vote of the queries whose first one found next to nothing; null = none
    """

    per_query: int = 10
    descriptor: list[NearestViews] = field(default_factory=lambda: [NearestViews()])
    always: int = 3
    support: float = 1.2
    keypoints: int = 500
    neighbours: int = 5
    tried: int = 30
    tolerance: float = 0.05
    counts: CountSettings | None = None
    again: SecondVoteSettings | None = None

    def __post_init__(self) -> None:
        at_least(self, per_query=0, always=0, support=0, keypoints=1, neighbours=2, tried=1, tolerance=0)
        if self.again is not None and not self.per_query:
            raise UsageError("shortlist.again waits for the votes that per_query 0 switches off: raise it, or make again null")
