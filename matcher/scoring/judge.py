"""Pairs of two feature sets, looked at by every scorer of a strategy. Costly scorers look where cheaper ones left doubt."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from matcher.crops import CropSet
from matcher.errors import ImageError
from matcher.features import FeatureSet
from matcher.geometry import Array, identity
from matcher.images.decode import load
from matcher.models.sift import LocalFeatures
from matcher.scoring import counts, pair_model, sift
from matcher.scoring.identical import LONGEST, could_be_untouched, is_identical, is_untouched
from matcher.scoring.nearest import BothImages, choose_device, nearest_two
from matcher.scoring.pair_model import Finding, PairJudge, view_pairs
from matcher.scoring.second_look import File, SecondLook, leaves_doubt
from matcher.scoring.sub_image import SubImage
from matcher.settings import Strategy
from matcher.shortlist.similarity import PairSimilarity
from matcher.types import Pictures

PICTURES = 256  # decoded pictures kept at hand
NAMES = ("identical", "untouched", *sift.NAMES, "descriptor_similarity", *pair_model.NAMES, *counts.NAMES)
Pair = tuple[int, int]  # rows of the queries and of the references


class Verdict(NamedTuple):
    """What is found about a pair: evidence by name, the frame query -> reference, and the pair model's own (None: not found)."""

    evidence: dict[str, float]
    frame: Array | None
    patch_frame: Array | None = None


class Judge:
    """Judges pairs of two feature sets. Pictures are decoded only where a scorer asks for pixels, and some are kept.

    ``learned`` loads the strategy's pair model, when it is first asked.
    """

    def __init__(
        self,
        queries: FeatureSet,
        references: FeatureSet,
        strategy: Strategy,
        *,
        similarity: PairSimilarity | None = None,
        learned: Callable[[], PairJudge] | None = None,
        crops: CropSet | None = None,
        cache: Path | None = None,
    ) -> None:
        self.queries, self.references, self.strategy, self.similarity = queries, references, strategy, similarity
        self.learned, self.loading = learned, threading.Lock()
        self.loaded: PairJudge | None = None
        self.settings, rules = strategy.scorers.sift, strategy.scorers.sub_image
        self.sub_image = SubImage(similarity, rules, queries.pictures, references.pictures) if similarity and rules else None
        self.crops = crops
        self.side = self.settings.agreement_side if self.settings else 96
        self.device = choose_device(self.settings.gpu) if self.settings else "cpu"
        self.picture = lru_cache(maxsize=PICTURES)(self.decode)
        self.query_row, self.reference_row = (lru_cache(maxsize=PICTURES)(partial(row_of, side.pictures)) for side in (queries, references))
        self.features = lru_cache(maxsize=8)(queries.features)
        again = self.settings.again if self.settings else None
        voters = strategy.shortlist.again.query if strategy.shortlist.again else None
        self.second_look = SecondLook(again, voters=voters, image_settings=strategy.images, cache=cache) if again else None

    def decode(self, path: str, key: str) -> NDArray[np.uint8]:
        return load(path, settings=self.strategy.images, at_least=2 * self.side, key=key)

    def judge(self, pairs: Sequence[Pair], voted: Collection[Pair] = ()) -> dict[Pair, Verdict | ImageError]:
        """Pairs, and those of them that a second vote found -> what is found about each; a bad picture is an error in its place."""
        model = self.strategy.scorers.pair_model
        doubt = model.doubt if model else None
        learned = self.ask(pairs) if doubt is None else {}
        near = self.nearest([pair for pair in pairs if not self.is_sure(learned.get(pair))])
        found = {pair: self.look(pair, learned.get(pair), near.get(pair), pair in voted) for pair in pairs}
        if doubt is None:
            return found
        unsure = [pair for pair, seen in found.items() if isinstance(seen, Verdict) and leaves_doubt(seen.evidence, doubt)]
        return found | {pair: add(found[pair], said) for pair, said in self.ask(unsure).items()}

    def ask(self, pairs: Sequence[Pair]) -> dict[Pair, Finding | ImageError]:
        """Pairs -> what the pair model finds, all at once; nothing if there is none."""
        if (model := self.strategy.scorers.pair_model) is None or not pairs:
            return {}
        sides = [(self.query_row(query), self.reference_row(reference)) for query, reference in pairs]
        look = partial(view_pairs, similarity=self.similarity, sub_image=self.sub_image, rules=model.views)
        found = self.pair_judge().judge([look(first, second) for first, second in sides])
        return dict(zip(pairs, found, strict=True))

    def pair_judge(self) -> PairJudge:
        """The pair model, loaded once, by whichever thread asks first."""
        assert self.learned is not None
        with self.loading:
            self.loaded = self.loaded or self.learned()
        return self.loaded

    def nearest(self, pairs: Sequence[Pair]) -> dict[Pair, BothImages | None]:
        """Pairs -> the nearest keypoints of each, all references of a query at once; nothing if no scorer asks."""
        if self.settings is None:
            return {}
        references: dict[int, list[int]] = {}
        for query, reference in pairs:
            references.setdefault(query, []).append(reference)
        found: dict[Pair, BothImages | None] = {}
        for query, numbers in references.items():
            near = nearest_two(self.features(query), [self.references.features(number) for number in numbers], self.device)
            found |= {(query, number): both for number, both in zip(numbers, near, strict=True)}
        return found

    def look(self, pair: Pair, learned: Finding | ImageError | None, near: BothImages | None, voted: bool) -> Verdict | ImageError:
        """A pair, what the pair model found, the nearest keypoints, whether a second vote found it -> what all find.

        The frame is the identity of the same picture, else that of keypoints.
        """
        if isinstance(learned, ImageError):
            return learned
        try:
            verdict = self.look_without(pair, near, keypoints=not self.is_sure(learned), voted=voted)
        except ImageError as error:
            return error
        return verdict if learned is None else add(verdict, learned)

    def look_without(self, pair: Pair, near: BothImages | None, *, keypoints: bool, voted: bool) -> Verdict:
        """A pair -> what is found without the pair model. ImageError."""
        query, reference = pair
        first, second = self.query_row(query), self.reference_row(reference)
        evidence = dict.fromkeys(NAMES, np.nan) | {"identical": float(is_identical(first, second)), "untouched": 0.0}
        if self.sub_image is not None:
            evidence["descriptor_similarity"] = self.sub_image.compare(str(first.id[0]), str(second.id[0]))
        files = file_of(first), file_of(second)
        if could_be_untouched(first, second):
            large = (load(path, settings=self.strategy.images, at_least=LONGEST, key=key) for path, key in files)
            evidence["untouched"] = float(is_untouched(*large))
        frame = identity() if evidence["identical"] or evidence["untouched"] else None
        if self.settings is not None and keypoints:
            found, where = self.match(self.features(query), self.references.features(reference), near, files, voted)
            evidence |= found
            frame = frame if frame is not None else where
        if (counting := self.strategy.scorers.match_count) is not None and keypoints:
            evidence |= counts.judge(self.looks(query), self.references.features(reference), counting)
        return Verdict(evidence, frame)

    def match(
        self, query: LocalFeatures, reference: LocalFeatures, near: BothImages | None, files: tuple[File, File], voted: bool
    ) -> tuple[dict[str, float], Array | None]:
        """Keypoints of a pair and the files of its pictures -> evidence and frame, of a second look where the first left doubt."""
        assert self.settings is not None
        verify = partial(sift.judge, images=(lambda: self.picture(*files[0]), lambda: self.picture(*files[1])), settings=self.settings)
        first = verify(query, reference, near)
        if self.second_look is None:
            return first

        def look(here: LocalFeatures, there: LocalFeatures) -> tuple[dict[str, float], Array | None]:
            return verify(here, there, nearest_two(here, [there], self.device)[0])

        return self.second_look.improve(first, files, look, voted=voted)

    def looks(self, query: int) -> list[LocalFeatures]:
        """Row of the queries -> the keypoints of the whole picture, and those of its crop, if it has one."""
        crop = self.crops.features(query) if self.crops is not None else None
        return [self.features(query), *([crop] if crop is not None else [])]

    def is_sure(self, learned: Finding | ImageError | None) -> bool:
        """Whether the pair model is so sure of strangers that keypoints need not look."""
        settings = self.strategy.scorers.pair_model
        if not isinstance(learned, Finding) or settings is None or settings.sure is None:
            return False
        return learned.evidence["pair_logit"] < settings.sure


def add(verdict: Verdict | ImageError, learned: Finding | ImageError) -> Verdict | ImageError:
    """What others found, and what the pair model found -> both; its frame counts where there is no other."""
    if isinstance(verdict, ImageError):
        return verdict
    if isinstance(learned, ImageError):
        return learned
    return Verdict(verdict.evidence | learned.evidence, learned.frame if verdict.frame is None else verdict.frame, learned.frame)


def file_of(row: Pictures) -> File:
    return str(row.path[0]), str(row.file_key[0])


def row_of(pictures: Pictures, number: int) -> Pictures:
    return pictures.take([number])
