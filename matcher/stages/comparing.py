"""Two pictures -> verdict, region and reasons."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

import numpy as np

from matcher.calibration import predict
from matcher.crops import CropSet, describe_crops
from matcher.describe import describe_views, find_detector, load_detector, load_model
from matcher.errors import ImageError
from matcher.features import FeatureSet, describe_picture, join
from matcher.geometry import invert, region
from matcher.images.table import ImageSet
from matcher.report.words import evidence_in_words, location_in_words, percent, spoke_in_words
from matcher.scoring.judge import Judge
from matcher.settings import SiftSettings, Strategy
from matcher.shortlist.similarity import PairSimilarity, compare_views
from matcher.stages.job import Job
from matcher.stages.predicting import load_fusion
from matcher.stages.scoring import judge_rows, pair_judge
from matcher.types import Descriptors, Pictures, Predictions


@dataclass(frozen=True)
class Comparison:
    """One prediction about two pictures."""

    query: str
    reference: str
    prediction: Predictions  # (1,)

    @property
    def probability(self) -> float:
        return float(self.prediction.probability[0])

    def as_dict(self) -> dict[str, Any]:
        """Plain texts, numbers and lists; what is not known is NaN."""
        p = self.prediction
        evidence = {name: float(values[0]) for name, values in p.evidence.items()}
        found = {
            "frame": p.frame[0].tolist(),
            "patch_frame": p.patch_frame[0].tolist(),
            "query_covered": float(p.query_covered[0]),
            "reference_covered": float(p.reference_covered[0]),
            "flip": bool(p.flip[0]),
        }
        return {"query": self.query, "reference": self.reference, "probability": self.probability, **found, "evidence": evidence}

    def __str__(self) -> str:
        p, evidence = self.prediction, self.as_dict()["evidence"]
        verdict = "is an edited copy of" if self.probability >= 0.5 else "is probably no copy of"
        lines = [f"{self.query} {verdict} {self.reference}: probability {percent(self.probability)}"]
        if np.isfinite(p.frame[0]).all() and self.probability >= 0.5:
            lines += location_in_words(float(p.query_covered[0]), float(p.reference_covered[0]), bool(p.flip[0]))
            lines += [f"region in the query      {corners(invert(p.frame[0]))}", f"region in the reference  {corners(p.frame[0])}"]
        shown = p.frame[0] if self.probability >= 0.5 else None
        return "\n".join([*lines, *evidence_in_words(evidence), *spoke_in_words(evidence, shown, p.patch_frame[0])])


def corners(frame: Any) -> str:
    """Frame -> the corners of its region as text, x,y as shares of width and height."""
    return "  ".join(f"{x:.3f},{y:.3f}" for x, y in region(frame).round(3) + 0.0)


def compare_pictures(query: str | PathLike[str], reference: str | PathLike[str], *, strategy: Strategy) -> Comparison:
    """Paths of two pictures -> their comparison. ImageError if one cannot be used."""
    first = describe_one(fspath(query), strategy.query_keypoints, strategy)
    second = describe_one(fspath(reference), strategy.reference_keypoints, strategy)
    similarity, learned = similarity_of(first, second, strategy), pair_judge(strategy, Job())
    judge = Judge(first, second, strategy, similarity=similarity, learned=learned, crops=crops_of(first, strategy))
    as_voted = [strategy.shortlist.again is not None]  # looked at by all keypoints that a run may ask: this is one pair
    scores, errors = judge_rows(judge, first.pictures.id, second.pictures.id, as_voted)
    if len(errors):
        raise ImageError(str(errors.code[0]), str(errors.message[0]))
    fusion = load_fusion(strategy)
    return Comparison(fspath(query), fspath(reference), predict(scores, fusion.logit(scores), fusion))


def similarity_of(query: FeatureSet, reference: FeatureSet, strategy: Strategy) -> PairSimilarity | None:
    """Feature sets of one picture each -> what the descriptor says of the pair; None if the strategy has none."""
    settings = strategy.descriptor
    if settings is None:
        return None
    model, sides = load_model(settings), list[Descriptors]()
    for side, names in ((query, settings.query_views), (reference, settings.reference_views)):
        detector = load_detector(settings, names)
        found, _ = describe_views(as_images(side), settings, image_settings=strategy.images, names=names, model=model, detector=detector)
        sides.append(found)
    return compare_views(sides[0], sides[1], settings, query=query.pictures, reference=reference.pictures)


def crops_of(query: FeatureSet, strategy: Strategy) -> CropSet | None:
    """Feature set of one picture -> its crop; None if the strategy looks at none."""
    if strategy.query_crop is None:
        return None
    settings, limits = strategy.query_crop, strategy.images
    detector = find_detector(settings.detector)
    found = describe_crops(as_images(query), strategy.query_keypoints, rules=settings.boxes, image_settings=limits, detector=detector)
    return CropSet(query, *found)


def as_images(side: FeatureSet) -> ImageSet:
    """Feature set of one picture -> the picture as an item to describe."""
    return ImageSet(id=side.pictures.id, path=side.pictures.path, bytes=[0], mtime_ns=[0])  # type: ignore[arg-type]


def describe_one(path: str, settings: SiftSettings, strategy: Strategy) -> FeatureSet:
    """Path -> a feature set of one picture, whose id is the path."""
    row, features = describe_picture(path, settings, image_settings=strategy.images)
    columns: dict[str, Any] = {"id": [path], "path": [path], "keypoints": [len(features)], **{name: [value] for name, value in row.items()}}
    return FeatureSet(Pictures(**columns), join([path], [features]))
