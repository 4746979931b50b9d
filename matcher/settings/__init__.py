"""Every number that a user may set, once, with its default; YAML files state differences. Imports nothing heavy."""

from matcher.settings.descriptors import DescriptorSettings, NearestViews, ViewPairs
from matcher.settings.keypoints import CropSettings, Doubt, SecondLookSettings, SiftScorerSettings, SiftSettings, of_one_kind
from matcher.settings.least import at_least
from matcher.settings.pictures import BoxRules, ImageSettings, ProposalRules
from matcher.settings.post import PostSettings, SampleSettings, StretchSettings, SubtractSettings, WhitenSettings
from matcher.settings.scorers import MatchCountSettings, PairModelSettings, Scorers, SubImageSettings
from matcher.settings.shortlist import CountSettings, IndexSettings, SecondVoteSettings, ShortlistSettings
from matcher.settings.strategy import Budget, Strategy

__all__ = [
    "BoxRules",
    "Budget",
    "CountSettings",
    "CropSettings",
    "DescriptorSettings",
    "Doubt",
    "ImageSettings",
    "IndexSettings",
    "MatchCountSettings",
    "NearestViews",
    "PairModelSettings",
    "PostSettings",
    "ProposalRules",
    "SampleSettings",
    "Scorers",
    "SecondLookSettings",
    "SecondVoteSettings",
    "ShortlistSettings",
    "SiftScorerSettings",
    "SiftSettings",
    "Strategy",
    "StretchSettings",
    "SubImageSettings",
    "SubtractSettings",
    "ViewPairs",
    "WhitenSettings",
    "at_least",
    "of_one_kind",
]
