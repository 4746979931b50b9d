"""Global descriptors, and which views of both sides meet."""

from __future__ import annotations

from dataclasses import dataclass, field

from matcher.errors import UsageError
from matcher.settings.least import at_least
from matcher.settings.pictures import BoxRules, ProposalRules
from matcher.settings.post import PostSettings


@dataclass(frozen=True)
class DescriptorSettings:
    """A global descriptor: a backbone by name, which views of the pictures it sees, and what precision.

    Args:
        backbone: a checkpoint file, the bare name of one in checkpoints/descriptor, "timm:NAME", "transformers:NAME", a local folder, or
            "gist", which has no weights; "grey:" before it shows it pictures without colours; a list of such names is an ensemble,
            whose similarity is the mean of theirs
        weights: load trained weights (from the folder, the local cache, or the hub); false = random weights, for tests
        seed: of random weights
        size: side of the square input in pixels; null = what the backbone asks for
        sizes: likewise several, whose rows are averaged; null = one size
        batch_size: views in one forward pass
        query_views: names of views of the queries, see views.plan; "overlays" = what the detector finds pasted,
            "proposals" = regions that stand out, by selective search
        reference_views: names of views of the references
        boxes: which of the detector's boxes become views
        proposals: which regions become views
        detector: the overlay detector that "overlays" needs: a checkpoint file, or the bare name of one in checkpoints/overlay
        background: file of a background set that similarities are normalised against (`matcher background`),
            or the bare name of one in checkpoints/background; null = plain cosines
        background_weight: how much of the query view's similarity to the background is taken off
        background_nearest: nearest background pictures whose mean similarity that is
        background_skip: of those, so many of the nearest do not count
        post: what is done with descriptors before they are compared
    """

    backbone: list[str] | str
    weights: bool = True
    seed: int = 0
    size: int | None = None
    sizes: list[int] | None = None
    batch_size: int = 32
    query_views: list[str] = field(default_factory=lambda: ["whole"])
    reference_views: list[str] = field(default_factory=lambda: ["whole"])
    boxes: BoxRules = field(default_factory=BoxRules)
    proposals: ProposalRules = field(default_factory=ProposalRules)
    detector: str | None = None
    background: str | None = None
    background_weight: float = 1.0
    background_nearest: int = 3
    background_skip: int = 0
    post: PostSettings = field(default_factory=PostSettings)

    def __post_init__(self) -> None:
        at_least(self, background_skip=0)
        if not self.members:
            raise UsageError("backbone names no descriptor")
        if self.sizes is not None and (not self.sizes or min(self.sizes) < 16):
            raise UsageError(f"sizes must be sides of 16 pixels at least, or null, not {self.sizes}")
        if self.background_skip >= self.background_nearest:
            raise UsageError(f"background_skip ({self.background_skip}) must be below background_nearest ({self.background_nearest})")

    @property
    def members(self) -> list[str]:
        """The names in ``backbone``, one or several."""
        return [self.backbone] if isinstance(self.backbone, str) else self.backbone


@dataclass(frozen=True)
class ViewPairs:
    """Which views of a query meet which views of a reference.

    Args:
        query: names of views, see views.plan; null = all that are described
        reference: likewise
        first: of the query's views only those of the first name that it has: [overlays, whole] = what is pasted in place of the whole
        handicap: taken off what these views say
    """

    query: list[str] | None = None
    reference: list[str] | None = None
    first: bool = False
    handicap: float = 0.0


@dataclass(frozen=True)
class NearestViews(ViewPairs):
    """Views that meet, and how many references that brings a query.

    Args:
        per_query: references that a query keeps, the nearest ones
        each: every view of the query keeps so many
        votes: each descriptor of an ensemble has its own list, and what this many of them hold is kept; null = one list, by the mean
    """

    per_query: int = 10
    each: bool = False
    votes: int | None = None

    def __post_init__(self) -> None:
        at_least(self, per_query=1, votes=1)
