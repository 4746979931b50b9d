"""Pictures of the report: small, encoded once, or the reason why there is none."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from matcher.errors import ImageError
from matcher.images.decode import decode, read_bytes
from matcher.images.files import printable
from matcher.images.table import ImageSet
from matcher.settings import ImageSettings

LONG_SIDE = 224  # pixels
QUALITY = 75  # of JPEG; WebP as near to the original takes 0.7 times the bytes, and 3.4 ms a picture where this takes 0.4


@dataclass(frozen=True)
class Thumbnail:
    """A small picture as a data URI, or, with an empty ``uri``, the reason why it cannot be shown."""

    path: str
    width: int = LONG_SIDE
    height: int = LONG_SIDE * 3 // 4
    uri: str = ""
    reason: str = ""


def make_thumbnails(images: ImageSet, ids: Iterable[str], *, settings: ImageSettings) -> dict[str, Thumbnail]:
    """Ids -> one thumbnail for each, made on all cores; a picture that cannot be read gives its reason, never an error."""
    files = {id_: (path, size) for id_, path, size in zip(images.id.tolist(), images.path.tolist(), images.bytes.tolist(), strict=True)}
    wanted = sorted(set(ids))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        made = pool.map(lambda id_: make_thumbnail(*files.get(id_, (None, 0)), settings=settings), wanted)
        return dict(zip(wanted, made, strict=True))


def make_thumbnail(path: str | None, size: int, *, settings: ImageSettings) -> Thumbnail:
    """A path (None = the id is not in the image set), and the bytes that the file had when it was listed -> its thumbnail."""
    if path is None:
        return Thumbnail("", reason="this id is not among the pictures that were given")
    try:
        data = read_bytes(path, settings=settings)
        if size not in (0, len(data)):
            return Thumbnail(path, reason=f"{printable(path)} has changed since it was listed: this is not the picture that was judged")
        return encode(path, decode(data, settings=settings, at_least=LONG_SIDE, name=path))
    except (ImageError, OSError) as error:
        return Thumbnail(path, reason=str(error))


def encode(path: str, pixels: NDArray[np.uint8]) -> Thumbnail:
    """RGB pixels (H, W, 3) -> a JPEG thumbnail with a long side of at most LONG_SIDE pixels."""
    scale = min(1.0, LONG_SIDE / max(pixels.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    buffer = io.BytesIO()
    Image.fromarray(small).save(buffer, "JPEG", quality=QUALITY)
    return Thumbnail(path, width, height, "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii"))
