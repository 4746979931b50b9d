"""Every number that a user may set, once, with its default; YAML files state differences. Imports nothing heavy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from matcher.errors import UsageError


def at_least(settings: Any, **least: float) -> None:
    """UsageError if a number of the settings is smaller than it may be; null is as it was."""
    for name, number in least.items():
        if (value := getattr(settings, name)) is not None and not value >= number:  # nor is nan
            raise UsageError(f"{name} must be at least {number}, not {value}")


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


@dataclass(frozen=True)
class WhitenSettings:
    """PCA of the background, unit norm.

    Args:
        dim: numbers that are kept; null = all
        power: eigenvalues to the power of minus this: 0.5 = whitening, 0 = PCA alone
    """

    dim: int | None = None
    power: float = 0.5

    def __post_init__(self) -> None:
        at_least(self, dim=1, power=0)


@dataclass(frozen=True)
class SubtractSettings:
    """Negative embedding subtraction, as the first of the descriptor track of 2021 submitted it.

    Args:
        nearest: strangers whose mean is taken off a row
        weight: how much of that mean
        iterations: how often
        smooth_nearest: strangers that each stranger is averaged with before, itself among them
        smooth_power: they weigh by this power of their cosine
    """

    nearest: int = 10
    weight: float = 0.35
    iterations: int = 1
    smooth_nearest: int = 10
    smooth_power: float = 3.0

    def __post_init__(self) -> None:
        at_least(self, nearest=1, weight=0, iterations=1, smooth_nearest=1, smooth_power=0)


@dataclass(frozen=True)
class SampleSettings:
    """Sample normalisation of queries, as the second of the descriptor track of 2021 submitted it.

    Args:
        neighbours: strangers that a query is moved away from
        nearest: those whose mean cosine says how far
        weight: how far
        by_dimension: differences are normalised dimension by dimension over the neighbours, as submitted; false = each difference alone
    """

    neighbours: int = 100
    nearest: int = 3
    weight: float = 1.8
    by_dimension: bool = True

    def __post_init__(self) -> None:
        at_least(self, neighbours=1, nearest=1, weight=0)
        if self.nearest > self.neighbours:
            raise UsageError(f"nearest ({self.nearest}) must be at most neighbours ({self.neighbours})")


@dataclass(frozen=True)
class StretchSettings:
    """Descriptor stretching of queries, as the third of the descriptor track of 2021 submitted it.

    Args:
        nearest: strangers whose mean inner product with a query stretches it
        factor: by this many times that
    """

    nearest: int = 5
    factor: float = 2.5

    def __post_init__(self) -> None:
        at_least(self, nearest=1)
        if not self.factor > 0:
            raise UsageError(f"factor must be above 0, not {self.factor}")


@dataclass(frozen=True)
class PostSettings:
    """What is done with descriptors before they are compared, in this order, by the background set (postprocessing.py).

    Args:
        whiten: both sides; null = not done, as below
        subtract: both sides
        sample: queries
        stretch: queries
    """

    whiten: WhitenSettings | None = None
    subtract: SubtractSettings | None = None
    sample: SampleSettings | None = None
    stretch: StretchSettings | None = None


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
        gpu: search on a GPU (needs faiss-gpu); auto = where there is one
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


def of_one_kind(query: SiftSettings, reference: SiftSettings) -> None:
    """UsageError if keypoints of one kind would be compared with those of the other."""
    if query.kind != reference.kind and query.keypoints and reference.keypoints:
        kinds = f"{query.kind} (queries) and {reference.kind} (references)"
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

    def __post_init__(self) -> None:
        at_least(self, per_query=0, always=0, keypoints=1, neighbours=2, tried=1, tolerance=0)


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


@dataclass(frozen=True)
class SubImageSettings:
    """Views of both sides compared by descriptors (scoring/sub_image.py).

    Args:
        views: which views meet
        smallest: a view, other than of the whole picture, whose shorter side has fewer pixels of its picture is left out
        combine: the closest pair of views, the mean of the two closest, or the log of the mean of exp(sharpness * similarity)
        sharpness: of log_mean_exp; the larger, the nearer to the closest pair
    """

    views: list[ViewPairs] = field(default_factory=lambda: [ViewPairs()])
    smallest: int = 0
    combine: Literal["closest", "two_closest", "log_mean_exp"] = "closest"
    sharpness: float = 20.0


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
    """

    sift: SiftScorerSettings | None = field(default_factory=SiftScorerSettings)
    sub_image: SubImageSettings | None = field(default_factory=SubImageSettings)
    pair_model: PairModelSettings | None = None
    match_count: MatchCountSettings | None = None


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
