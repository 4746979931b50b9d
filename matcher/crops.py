"""Pictures -> the keypoints of what is pasted in them: of the overlay detector's most certain box, at the box's own resolution.

They are kept on the unit square of the whole picture, so whatever is found by them lies in the whole picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from matcher.errors import ImageError, MatcherError
from matcher.features import FeatureSet, join
from matcher.geometry import Array, apply, from_box, to_box
from matcher.images.decode import load
from matcher.models.sift import LocalFeatures, extract
from matcher.settings import BoxRules, ImageSettings, SiftSettings
from matcher.types import Keypoints, Views
from matcher.views.overlays import find_overlays
from matcher.views.render import Pixels, render

if TYPE_CHECKING:  # torch comes with the detector, not with this module
    from matcher.images.table import ImageSet
    from matcher.models.overlay_yolo import OverlayDetector


class CropSet:
    """The crops of one side's pictures, at most one of each, and their keypoints on the whole picture's unit square."""

    def __init__(self, pictures: FeatureSet, views: Views, keypoints: Keypoints) -> None:
        number = pictures.number
        if strangers := [id_ for id_ in views.image_id.tolist() if id_ not in number]:
            raise MatcherError(f"the crop of {strangers[0]!r} does not belong to these {len(pictures)} pictures: describe them again")
        self.keypoints, self.shape_wh = keypoints, pictures.shape_wh
        self.frame: dict[int, Array] = {number[id_]: frame for id_, frame in zip(views.image_id.tolist(), views.frame, strict=True)}
        names, start, count = np.unique(keypoints.image_id, return_index=True, return_counts=True)
        self.rows = {number[id_]: slice(s, s + c) for id_, s, c in zip(names.tolist(), start.tolist(), count.tolist(), strict=True)}

    def features(self, number: int) -> LocalFeatures | None:
        """Row of Pictures -> the keypoints of its crop; None if it has none."""
        if number not in self.rows:
            return None
        rows, k = self.rows[number], self.keypoints
        return LocalFeatures(k.point[rows], k.size[rows], k.angle[rows], k.rows[rows], self.shape_wh[number])


def describe_crops(
    images: ImageSet, settings: SiftSettings, *, rules: BoxRules, image_settings: ImageSettings, detector: OverlayDetector
) -> tuple[Views, Keypoints]:
    """Images (N,) -> the view of the crop of every picture that has one, and its keypoints. Bad pictures have none."""
    views: list[Views] = []
    found: list[LocalFeatures] = []
    for id_, path in zip(images.id.tolist(), images.path.tolist(), strict=True):
        try:
            crop = describe_crop(id_, path, settings, rules=rules, image_settings=image_settings, detector=detector)
        except ImageError:  # is listed where the whole pictures are described
            continue
        if crop is not None:
            views.append(crop[0])
            found.append(crop[1])
    chosen = Views.concat(views)
    return chosen, join(chosen.image_id.tolist(), found)


def describe_crop(
    image_id: str, path: str, settings: SiftSettings, *, rules: BoxRules, image_settings: ImageSettings, detector: OverlayDetector
) -> tuple[Views, LocalFeatures] | None:
    """A picture -> the view of its crop (1,), and the crop's keypoints on the whole picture's unit square; None without one. ImageError."""
    image = load(path, settings=image_settings)
    view = find_overlays(image_id, image, detector=detector, rules=rules).take(slice(0, 1))
    if not len(view):
        return None
    frame, size_hw = on_pixels(view.frame[0], image)
    kept = Views(image_id=view.image_id, frame=frame[None], kind=view.kind, confidence=view.confidence)
    return kept, lift(extract(render(image, frame, size_hw), settings), frame, image)


def on_pixels(frame: Array, image: Pixels) -> tuple[Array, tuple[int, int]]:
    """Frame of a box in a picture (H, W, 3) -> that of the whole pixels that it touches, and their height and width."""
    height, width = image.shape[:2]
    box = to_box(frame) * (width, height, width, height)
    left, top = np.clip(np.floor(box[:2] + 1e-6), 0, (width - 1, height - 1)).astype(int).tolist()
    right, bottom = np.clip(np.ceil(box[2:] - 1e-6), (left + 1, top + 1), (width, height)).astype(int).tolist()
    return from_box(left / width, top / height, right / width, bottom / height), (bottom - top, right - left)


def lift(features: LocalFeatures, frame: Array, image: NDArray[np.uint8]) -> LocalFeatures:
    """Keypoints of an upright crop, its frame, and the whole picture (H, W, 3) -> the same keypoints on the whole picture's unit square."""
    sides = np.array(image.shape[1::-1], dtype=np.float32)
    shrunk = np.float32((np.diag(frame)[:2] * sides).max() / sides.max())
    point = apply(frame, features.point).astype(np.float32)
    return LocalFeatures(point, features.size * shrunk, features.angle, features.rows, sides / sides.max())
