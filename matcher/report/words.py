"""Numbers of a prediction as words for people; used by the report and by `matcher compare`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isnan, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAMED = 4  # further references of a query that a card names


def evidence_in_words(evidence: Mapping[str, float]) -> list[str]:
    """Named evidence of one pair -> phrases, the strongest kind first. NaN is left out, unknown names become "name = value"."""
    seen = {name: float(value) for name, value in evidence.items() if not isnan(float(value))}
    known = [phrase(seen[name], seen) for name, phrase in PHRASES.items() if name in seen]
    unknown = [f"{name} = {value:.4g}" for name, value in seen.items() if name not in PHRASES]
    return [phrase for phrase in known + unknown if phrase]


def location_in_words(query_covered: float, reference_covered: float, flip: bool) -> list[str]:
    """Covered shares (0 to 1, NaN = no frame) and the flip -> phrases that say what part of the reference is where."""
    if isnan(query_covered) or isnan(reference_covered):
        return ["where the copy lies was not found"]
    shown = f"shows {share(reference_covered)} of the reference, on {share(query_covered)} of the query"
    return [shown, "mirrored left to right"] if flip else [shown]


def spoke_in_words(evidence: Mapping[str, float], frame: NDArray[np.float64] | None, patch_frame: NDArray[np.float64]) -> list[str]:
    """Named evidence of one pair, its frame and the pair model's (3, 3; NaN = none) -> a phrase: who looked, and whose the region is.

    ``frame`` None: no region is shown, and nothing is said of it.
    """
    looked = [name for key, name in WITNESSES.items() if not isnan(float(evidence.get(key, nan)))]
    same = max(float(evidence.get("identical", 0)), float(evidence.get("untouched", 0))) >= 0.5
    if frame is None:
        owner = ""
    elif same:
        owner = "; it is the whole picture"
    elif np.isfinite(frame).all():
        owner = f"; the region is that of {'the pair model' if np.array_equal(frame, patch_frame) else 'keypoints'}"
    else:
        owner = "; none found a region"
    return [f"looked at by {', '.join(looked)}{owner}"] if looked else []


def also_in_words(others: Sequence[tuple[str, float, bool]]) -> list[str]:
    """Further probable references of a query: id, probability, whether in another part of it -> a phrase, or none."""
    named = [f"{id_} ({percent(probability)}{', elsewhere' if apart else ''})" for id_, probability, apart in others[:NAMED]]
    more = [f"{len(others) - NAMED:,} more"] if len(others) > NAMED else []
    return [f"the query also shows {', '.join([*named, *more])}"] if others else []


def percent(probability: float) -> str:
    """0 to 1 -> "99.7 %". Only 0 and 1 themselves read as "0 %" and "100 %"; NaN becomes an empty text."""
    if isnan(probability):
        return ""
    if probability in (0.0, 1.0):
        return f"{probability:.0%}".replace("%", " %")
    if probability < 0.0005:
        return "< 0.1 %"
    return "> 99.9 %" if probability >= 0.9995 else f"{100 * probability:.1f} %"


def share(value: float) -> str:
    """A part of an area, 0 to 1 -> "34 %", "all" or "less than 1 %"."""
    if value >= 0.995:
        return "all"
    return "less than 1 %" if value < 0.01 else f"{100 * value:.0f} %"


def fact_in_words(value: Any) -> str:
    """A value of any kind -> one line: 12,400, 3.5, "a 1, b 2" for a mapping or "a, b" for a list."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name_in_words(str(name))} {fact_in_words(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(fact_in_words(part) for part in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.1f}" if isinstance(value, float) else str(value)


def name_in_words(name: str) -> str:
    """recall_at_p90 -> "recall at p90"."""
    return name.replace("_", " ")


def _identical(value: float, seen: Mapping[str, float]) -> str:
    return "the same file or the same pixels" if value >= 0.5 else ""


def _untouched(value: float, seen: Mapping[str, float]) -> str:
    return "the whole picture, at most resized or saved again" if value >= 0.5 else ""


def _inliers(value: float, seen: Mapping[str, float]) -> str:
    ratio = f" ({100 * seen['sift_inlier_ratio']:.0f} % of those that could)" if "sift_inlier_ratio" in seen else ""
    if value < 1:
        return "no matching keypoints agree on one transform"
    return f"{value:,.0f} matching {'keypoint agrees' if value == 1 else 'keypoints agree'} on one transform{ratio}"


def _inlier_ratio(value: float, seen: Mapping[str, float]) -> str:
    return "" if "sift_inliers" in seen else f"{100 * value:.0f} % of the keypoints that could match agree on one transform"


def _agreement(value: float, seen: Mapping[str, float]) -> str:
    verb = "agree" if value >= 0.7 else "agree in part" if value >= 0.35 else "hardly agree"
    return f"the pictures' pixels {verb} there ({value:.2f})"


def _agreeing(value: float, seen: Mapping[str, float]) -> str:
    return f"{share(value)} of what can be compared there looks the same"


def _said_before(value: float, seen: Mapping[str, float]) -> str:
    return ""


def _spread(value: float, seen: Mapping[str, float]) -> str:
    return f"the matches spread over {share(value)} of the found region"


def _similarity(value: float, seen: Mapping[str, float]) -> str:
    return f"what the descriptor sees is {'alike' if value >= 0.3 else 'hardly alike'} ({value:.2f})"


def _pair(value: float, seen: Mapping[str, float]) -> str:
    return f"the pair model takes it for {'a copy' if value >= 0 else 'no copy'} ({value:+.1f})"


def _pair_covered(value: float, seen: Mapping[str, float]) -> str:
    back = f", and {share(seen['pair_covered_reference'])} of the reference in the query" if "pair_covered_reference" in seen else ""
    return f"it sees {share(value)} of its view of the query in the reference{back}"


def _matches(value: float, seen: Mapping[str, float]) -> str:
    if value < 1:
        return "no keypoint looks the same in both"
    return f"{value:,.0f} {'keypoint looks' if value == 1 else 'keypoints look'} the same in both, wherever they lie"


WITNESSES = {
    "sift_inliers": "keypoints",
    "pair_logit": "the pair model",
    "descriptor_similarity": "the descriptor",
    "match_count": "match counts",
}
PHRASES: dict[str, Callable[[float, Mapping[str, float]], str]] = {
    "identical": _identical,
    "untouched": _untouched,
    "sift_inliers": _inliers,
    "sift_inlier_ratio": _inlier_ratio,
    "match_count": _matches,
    "sift_spread": _spread,
    "sift_agreement": _agreement,
    "pair_logit": _pair,
    "pair_covered_query": _pair_covered,
    "descriptor_similarity": _similarity,
    "pair_covered_reference": _said_before,
    "pair_mean": _said_before,
    "sift_agreeing": _agreeing,
    "sift_matches": _said_before,
    "sift_support": _said_before,
}
