"""Who judges a pair."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from matcher.errors import UsageError
from matcher.settings.descriptors import ViewPairs
from matcher.settings.keypoints import Doubt, SiftScorerSettings
from matcher.settings.least import at_least


@dataclass(frozen=True)
class SubImageSettings:
    """Views of both sides compared by descriptors (scoring/sub_image.py).

    Args:
        views: which views meet
        smallest: a view, other than of the whole picture, whose shorter side has fewer pixels is left out: pixels as it was decoded for
            keypoints, and a JPEG file much larger than these need is decoded at a half, a quarter or an eighth of its size
        combine: the closest pair of views, the mean of the two closest, or the log of the mean of exp(sharpness * similarity)
        sharpness: of log_mean_exp; the larger, the nearer to the closest pair
    """

    views: list[ViewPairs] = field(default_factory=lambda: [ViewPairs()])
    smallest: int = 0
    combine: Literal["closest", "two_closest", "log_mean_exp"] = "closest"
    sharpness: float = 20.0

    def __post_init__(self) -> None:
        at_least(self, smallest=0)
        if not self.sharpness > 0:
            raise UsageError(f"sharpness must be above 0, not {self.sharpness}")


@dataclass(frozen=True)
class MatchCountSettings:
    """Counted matches of a pair, without geometry (scoring/counts.py).

    Args:
        distinct: a match counts if the second nearest keypoint's squared distance is more than this many times its own
        cells: places that fall into the same of this many cells along the longer side count once
    """

    distinct: float = 1.8
    cells: int = 400

    def __post_init__(self) -> None:
        at_least(self, distinct=1, cells=1)


@dataclass(frozen=True)
class PairModelSettings:
    """A network that judges pairs of views (scoring/pair_model.py).

    Args:
        model: a checkpoint file, or the bare name of one in checkpoints/token_fusion or checkpoints/concat_vit
        views: which views meet; null = the whole pictures, and the closest views by descriptors
        combine: what counts of the logits of all view pairs: the largest, or the log of their mean exp
        batch_size: pairs of views judged in one forward pass
        precision: of the products in judging; auto = bfloat16 where it is faster (GPUs, CPUs with AMX): logits change by 0.01 or so
        memory: encoded views kept in memory, those asked for last
        sure: a pair whose logit is below this is not shown to keypoints; null = keypoints look at every pair
        doubt: it looks only at pairs that keypoints leave in doubt; null = at every pair
    """

    model: str
    views: list[ViewPairs] | None = None
    combine: Literal["largest", "log_mean_exp"] = "largest"
    batch_size: int = 16
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    memory: int = 4096
    sure: float | None = None
    doubt: Doubt | None = None

    def __post_init__(self) -> None:
        at_least(self, batch_size=1, memory=0)
        if self.sure is not None and not math.isfinite(self.sure):
            raise UsageError(f"sure must be a finite logit, or null to ask keypoints about every pair, not {self.sure}")
        if self.sure is not None and self.doubt is not None:
            raise UsageError("sure and doubt exclude each other, make one null: the model looks either before keypoints or after them")


@dataclass(frozen=True)
class Scorers:
    """Who judges a pair; null switches one off, and a second YAML file changes one without naming the others.

    Args:
        sift: keypoints and pixels
        sub_image: descriptors of views, if the strategy names a descriptor
        pair_model: a network that sees both
        match_count: counted matches of keypoints, without geometry
    """

    sift: SiftScorerSettings | None = field(default_factory=SiftScorerSettings)
    sub_image: SubImageSettings | None = field(default_factory=SubImageSettings)
    pair_model: PairModelSettings | None = None
    match_count: MatchCountSettings | None = None
