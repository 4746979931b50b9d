"""What an overlay detector found -> views of the pasted pictures, and drawings of the boxes to look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from matcher.images.decode import load
from matcher.settings import BoxRules, ImageSettings
from matcher.types import Views
from matcher.views.boxes import box_views
from matcher.views.render import Pixels

if TYPE_CHECKING:  # torch comes with the model, not with this module
    from matcher.models.overlay_yolo import OverlayDetector

PASTED = 0  # the class of pasted pictures
KIND = "overlay"
COLOURS = ((255, 40, 40), (255, 200, 0), (60, 130, 255))  # of the classes


def find_overlays(image_id: str, image: Pixels, *, detector: OverlayDetector, rules: BoxRules) -> Views:
    """Id and picture (H, W, 3) of full size -> a view for each pasted picture that the rules keep, the most certain first."""
    boxes, classes, confidence = detector.detect(image, threshold=rules.confidence)
    size_hw = image.shape[0], image.shape[1]
    return overlay_views(image_id, boxes, classes=classes, confidence=confidence, size_hw=size_hw, rules=rules)


def overlay_views(
    image_id: str,
    boxes: ArrayLike,
    *,
    classes: ArrayLike,
    confidence: ArrayLike,
    size_hw: tuple[int, int],
    rules: BoxRules,
    kept: Sequence[int] = (PASTED,),
) -> Views:
    """Id of a picture, boxes (K, 4) on its unit square, classes (K,), confidence (K,) -> a view for each box, the most certain first.

    Args:
        size_hw: height and width of the picture in pixels
        rules: which boxes become views
        kept: classes that become views
    """
    chosen = np.isin(classes, kept)
    found, sure = np.asarray(boxes).reshape(-1, 4)[chosen], np.asarray(confidence)[chosen]
    return box_views(image_id, found, confidence=sure, kind=KIND, size_hw=size_hw, rules=rules)


def draw_boxes(pixels: Pixels, boxes: ArrayLike, classes: ArrayLike, confidence: ArrayLike, *, side: int = 240) -> Pixels:
    """Picture (H, W, 3) and what was found in it -> (side, side, 3): the picture, grey beside it, boxes in the colour of their class."""
    scale = side / max(pixels.shape[:2])
    h, w = (max(1, round(length * scale)) for length in pixels.shape[:2])
    sheet = np.full((side, side, 3), 128, dtype=np.uint8)
    sheet[:h, :w] = cv2.resize(pixels, (w, h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    for box, number, sure in zip(np.asarray(boxes).reshape(-1, 4), np.asarray(classes), np.asarray(confidence), strict=True):
        x0, y0, x1, y1 = np.rint(box * (w, h, w, h)).astype(int).tolist()
        cv2.rectangle(sheet, (x0, y0), (x1, y1), COLOURS[int(number)], 2)
        cv2.putText(sheet, f"{sure:.2f}", (x0 + 3, y0 + 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, COLOURS[int(number)], 1, cv2.LINE_AA)
    return sheet


def draw_sheet(pictures: Iterable[Path], detector: OverlayDetector, file: Path, *, columns: int = 8, threshold: float = 0.25) -> None:
    """Picture files -> one picture file of all of them with what the detector finds: pasted pictures red, stickers yellow, text blue."""
    tiles: list[NDArray[np.uint8]] = []
    for path in pictures:
        pixels = load(path, settings=ImageSettings())
        tiles.append(draw_boxes(pixels, *detector.detect(pixels, threshold=threshold)))
    while not tiles or len(tiles) % columns:
        tiles.append(np.full_like(tiles[0], 128) if tiles else np.full((240, 240, 3), 128, dtype=np.uint8))
    rows = [np.concatenate(tiles[start : start + columns], axis=1) for start in range(0, len(tiles), columns)]
    Image.fromarray(np.concatenate(rows)).save(file)
