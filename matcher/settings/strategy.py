"""Everything that decides the result of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

from matcher.settings.descriptors import DescriptorSettings
from matcher.settings.keypoints import CropSettings, SiftSettings, of_one_kind
from matcher.settings.least import at_least
from matcher.settings.pictures import ImageSettings
from matcher.settings.scorers import Scorers
from matcher.settings.shortlist import IndexSettings, ShortlistSettings

VOTERS = "shortlist.again.query"


@dataclass(frozen=True)
class Budget:
    """What judging a query may cost; of its candidates the first of each source are judged before the second ones.

    Args:
        pairs_per_query: candidates judged at most; null = all
        seconds_per_query: time to judge them, on all workers: how many that is, is measured once a run and kept; null = any time
    """

    pairs_per_query: int | None = None
    seconds_per_query: float | None = None

    def __post_init__(self) -> None:
        at_least(self, pairs_per_query=1, seconds_per_query=0)


@dataclass(frozen=True)
class Strategy:
    """Everything that decides the result of a run: what an experiment file states differences of.

    Args:
        images: limits of the decoder
        query_keypoints: keypoints of the queries
        reference_keypoints: keypoints of the references
        query_crop: keypoints of what is pasted in the queries, beside those of the whole; null = none
        descriptor: a global descriptor beside the keypoints; null = none
        index: the index over the reference keypoints
        shortlist: how candidates are found
        budget: how many candidates are judged
        scorers: who judges a pair
        fusion: JSON file made by `matcher fit_fusion`; a bare name is looked up in checkpoints/fusion
        answers: references that a query is answered with at most, the likeliest; null = all that were judged
    """

    images: ImageSettings = field(default_factory=ImageSettings)
    query_keypoints: SiftSettings = field(default_factory=lambda: SiftSettings(short_side=320, keypoints=600))
    reference_keypoints: SiftSettings = field(default_factory=SiftSettings)
    query_crop: CropSettings | None = None
    descriptor: DescriptorSettings | None = None
    index: IndexSettings = field(default_factory=lambda: IndexSettings(kind="ivf", probes=2))
    shortlist: ShortlistSettings = field(default_factory=ShortlistSettings)
    budget: Budget = field(default_factory=Budget)
    scorers: Scorers = field(default_factory=Scorers)
    fusion: str = "keypoints"
    answers: int | None = None

    def __post_init__(self) -> None:
        at_least(self, answers=1)
        of_one_kind(self.query_keypoints, self.reference_keypoints)
        if self.shortlist.again is not None:
            voters, look = self.shortlist.again.query, self.scorers.sift.again if self.scorers.sift else None
            of_one_kind(voters, self.reference_keypoints, (VOTERS, "reference_keypoints"))
            if look is not None:
                of_one_kind(voters, look.reference, (VOTERS, "scorers.sift.again.reference"))
