"""Pairs of pictures, judged by a learned model on pairs of views -> named evidence and the frame.

A pair's numbers depend on its two pictures and on settings alone: batches always have the same shape, filled up with repeats,
and the model computes on one thread on a CPU, because both decide how sums are rounded.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from matcher.describe import batches, card_digest
from matcher.errors import ImageError, MatcherError
from matcher.geometry import Array, compose, identity, invert
from matcher.models.cards import find_model
from matcher.scoring.encoded_views import EncodedViews, View, fill
from matcher.scoring.patches import locate
from matcher.scoring.sub_image import SubImage, log_mean_exp
from matcher.settings import ImageSettings, PairModelSettings, ViewPairs
from matcher.shortlist.similarity import PairSimilarity
from matcher.types import Pictures, Views
from matcher.views.choose import frames_of

if TYPE_CHECKING:  # torch comes with the models, not with this module
    from matcher.models.pair_model import Cached, PairModel, Verdict

NAMES = ("pair_logit", "pair_mean", "pair_covered_query", "pair_covered_reference")
SUREST = 12.0  # a logit counts no further than this in a mean and in a fusion, either way
ROOMS = ("token_fusion", "concat_vit")


class ViewPair(NamedTuple):
    """A view of the query, one of the reference, and what is taken off the logit of the two."""

    query: View
    reference: View
    handicap: float = 0.0


class Finding(NamedTuple):
    """What a pair model says of a pair of pictures: evidence by name, and the frame query -> reference (None: not told)."""

    evidence: dict[str, float]
    frame: Array | None


class Told(NamedTuple):
    """What a pair model says of one pair of views, see models.pair_model.Verdict."""

    logit: float
    to_reference: NDArray[np.float32] | None
    to_query: NDArray[np.float32] | None


class PairJudge:
    """A pair model and the views that it has seen. Safe in threads: on a GPU one thread computes at a time.

    Args:
        model: as ``load_pair_model`` gives it
        made_by: names its weights
        settings: how it is asked
        image_settings: limits of the decoder
        cache: folder of encoded views kept between runs; null = none
    """

    def __init__(
        self, model: PairModel, *, made_by: str, settings: PairModelSettings, image_settings: ImageSettings, cache: Path | None = None
    ) -> None:
        self.model, self.settings = model, settings
        self.lock = threading.Lock()
        self.views = EncodedViews(
            model, made_by=made_by, memory=settings.memory, folder=cache, gate=self.computing, image_settings=image_settings
        )

    @classmethod
    def load(cls, settings: PairModelSettings, *, image_settings: ImageSettings, cache: Path | None = None) -> PairJudge:
        """Settings -> the judge, on the GPU if there is one. Errors as in ``find_model`` and ``checkpoint.load``."""
        model = load_pair_model(settings)
        return cls(model, made_by=made_by(settings), settings=settings, image_settings=image_settings, cache=cache)

    def judge(self, pairs: Sequence[Sequence[ViewPair]]) -> list[Finding | ImageError]:
        """The view pairs of each pair of pictures -> a finding for each, or the error of a picture that cannot be used.

        pair_logit: over the view pairs, as the settings combine them; pair_mean: the mean of their logits, so that a fusion may
        learn how much one view counts against all. The rest is said of the one with the largest.
        pair_covered_query, pair_covered_reference: share (0 to 1) of the view's patches that lie in the other view; NaN, and no
        frame, if the model does not tell.
        """
        encoded = self.views.of([view for pair in pairs for met in pair for view in (met.query, met.reference)])
        keys = [[(self.views.key(met.query), self.views.key(met.reference)) for met in pair] for pair in pairs]
        failed = [next((e for both in pair for key in both if isinstance(e := encoded[key], ImageError)), None) for pair in keys]
        good = {key: kept for key, kept in encoded.items() if not isinstance(kept, ImageError)}
        told = self.ask([(good[q], good[r]) for pair, error in zip(keys, failed, strict=True) if error is None for q, r in pair])
        combine = self.settings.combine
        return [error or conclude(pair, [next(told) for _ in pair], combine=combine) for pair, error in zip(pairs, failed, strict=True)]

    @contextmanager
    def computing(self) -> Iterator[None]:
        """One thread at a time on a GPU; on a CPU as many as there are, each on one core."""
        import torch

        if self.model.device.type == "cuda":
            with self.lock:
                yield
            return
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def ask(self, pairs: Sequence[tuple[Cached, Cached]]) -> Iterator[Told]:
        """Encoded view pairs -> what the model says of each, in order."""
        size = self.settings.batch_size
        for batch in batches(pairs, size):
            sides = [fill(np.stack(side), size) for side in zip(*batch, strict=True)]
            with self.computing():
                verdict = self.model.judge_views(*sides)
            yield from unpack(verdict, len(batch))


def unpack(verdict: Verdict, count: int) -> Iterator[Told]:
    """A verdict on a batch -> the first ``count`` of it, pair by pair."""
    for row in range(count):
        tables = (None if table is None else table[row] for table in (verdict.to_reference, verdict.to_query))
        yield Told(float(verdict.logit[row]), *tables)


def conclude(views: Sequence[ViewPair], told: Sequence[Told], *, combine: str = "largest") -> Finding:
    """The view pairs of one pair of pictures, and what was said of each -> the finding; NaN if no views met."""
    if not views:
        return Finding(dict.fromkeys(NAMES, np.nan), None)
    logits = np.array([said.logit - met.handicap for met, said in zip(views, told, strict=True)])
    row = int(logits.argmax())
    met, best = views[row], told[row]
    said = float(logits[row]) if combine == "largest" else log_mean_exp(logits), float(np.clip(logits, -SUREST, SUREST).mean())
    if best.to_reference is None or best.to_query is None:
        return Finding(dict(zip(NAMES, (*said, np.nan, np.nan), strict=True)), None)
    covered = (float(1 - table[:, -1].mean()) for table in (best.to_reference, best.to_query))
    frame = locate(best.to_reference, best.to_query)
    whole = compose(met.reference.frame, compose(frame, invert(met.query.frame))) if frame is not None else None
    return Finding(dict(zip(NAMES, (*said, *covered), strict=True)), whole)


def view_pairs(
    query: Pictures,
    reference: Pictures,
    *,
    similarity: PairSimilarity | None = None,
    sub_image: SubImage | None = None,
    rules: Sequence[ViewPairs] | None = None,
) -> list[ViewPair]:
    """Rows (1,) of both sides -> the view pairs to judge: those that the rules name, each once, by its smallest handicap.

    Without rules the whole pictures, and the closest views by descriptors if they are others. ``similarity`` knows what was found.
    """
    ids = str(query.id[0]), str(reference.id[0])
    if rules is None:
        closest = sub_image.closest_views(*ids) if sub_image is not None else None
        met = [(identity(), identity(), 0.0), *([(*closest, 0.0)] if closest is not None else [])]
    else:
        seen = similarity.views(*ids) if similarity is not None else (Views.empty(), Views.empty())
        met = [
            (first, second, rule.handicap)
            for rule in rules
            for first in frames_of(rule.query, seen[0], first=rule.first)
            for second in frames_of(rule.reference, seen[1])
        ]
    sides = [(str(side.path[0]), str(side.file_key[0])) for side in (query, reference)]
    pairs: dict[bytes, ViewPair] = {}
    for first, second, handicap in met:
        key = first.tobytes() + second.tobytes()
        if key not in pairs or handicap < pairs[key].handicap:
            pairs[key] = ViewPair(View(*sides[0], first), View(*sides[1], second), handicap)
    return list(pairs.values())


def load_pair_model(settings: PairModelSettings) -> PairModel:
    """Settings -> the pair model, on the GPU if there is one. MatcherError if the checkpoint holds something else."""
    import torch

    from matcher.models import checkpoint
    from matcher.models.inference import make_ready
    from matcher.models.pair_model import PairModel

    path = find_model(settings.model, ROOMS)
    model = checkpoint.load(path)
    if not isinstance(model, PairModel):
        raise MatcherError(f"checkpoint {path} holds a {type(model).__name__}, and a pair model is needed here")
    ready = make_ready(model, model.encode)
    ready.precision = getattr(torch, precision_of(settings))
    return ready


def precision_of(settings: PairModelSettings) -> Literal["float32", "bfloat16"]:
    """Settings -> the precision in which this machine judges; who shares out work over machines asks once, for all."""
    if settings.precision != "auto":
        return settings.precision
    import torch

    from matcher.models.inference import multiplies_bfloat16

    return "bfloat16" if multiplies_bfloat16(torch.device("cuda" if torch.cuda.is_available() else "cpu")) else "float32"


def made_by(settings: PairModelSettings) -> str:
    """Settings -> what names the numbers that the model gives."""
    return f"checkpoint {card_digest(find_model(settings.model, ROOMS))}"
