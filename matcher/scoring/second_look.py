"""A second look at the pairs that keypoints leave in doubt: more keypoints, found on larger pictures.

Copies that cover little of the query, or lie under another picture, leave a handful of matches at the size at which all pictures
are described. Few pairs are in doubt, so that these can be given many times the keypoints. A pair that a second vote found
(shortlist/second_vote.py) is looked at by the keypoints that found it, however little the first look sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from matcher.features import describe_picture
from matcher.geometry import Array
from matcher.models.sift import LocalFeatures
from matcher.settings import Doubt, ImageSettings, SecondLookSettings, SiftSettings

PICTURES = 128  # whose keypoints are kept at hand
File = tuple[str, str]  # path of a picture, and the key of its bytes when it was described
Found = tuple[dict[str, float], Array | None]  # evidence of keypoints, and the frame


class SecondLook:
    """Looks again. Keypoints are found when they are first asked for; ``cache`` keeps them from run to run.

    ``voters``: those of a query that votes a second time.
    """

    def __init__(
        self, settings: SecondLookSettings, *, voters: SiftSettings | None = None, image_settings: ImageSettings, cache: Path | None
    ) -> None:
        self.settings, self.images, self.cache = settings, image_settings, cache
        sides = settings.query, settings.reference, voters or settings.query
        self.of_query, self.of_reference, self.of_voter = (self.finder(side) for side in sides)

    def finder(self, settings: SiftSettings) -> Callable[[str, str], LocalFeatures]:
        """Path and key -> keypoints of the picture. ImageError."""

        @lru_cache(maxsize=PICTURES)
        def find(path: str, key: str) -> LocalFeatures:
            return describe_picture(path, settings, image_settings=self.images, cache=self.cache, known=key)[1]

        return find

    def improve(
        self, first: Found, files: tuple[File, File], verify: Callable[[LocalFeatures, LocalFeatures], Found], *, voted: bool = False
    ) -> Found:
        """What the first look found, and the pictures' files -> what counts: the second look, unless less of the pixels agrees with it.

        ``voted``: a second vote found the pair.
        """
        doubt = replace(self.settings.doubt, least=0.0) if voted else self.settings.doubt
        if not leaves_doubt(first[0], doubt):
            return first
        query = self.of_voter if voted else self.of_query
        second = verify(query(*files[0]), self.of_reference(*files[1]))
        return second if agreeing(second[0]) >= agreeing(first[0]) else first


def leaves_doubt(evidence: Mapping[str, float], doubt: Doubt) -> bool:
    """Whether keypoints found neither next to nothing in a pair nor plenty. What is proved is in no doubt."""
    proved = evidence.get("identical", 0.0) > 0 or evidence.get("untouched", 0.0) > 0
    return not proved and doubt.least <= evidence["sift_support"] < doubt.most


def agreeing(evidence: Mapping[str, float]) -> float:
    return float(np.nan_to_num(evidence["sift_agreeing"], nan=0.0))
