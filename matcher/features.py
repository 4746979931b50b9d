"""Pictures -> Pictures and Keypoints records, and these records -> the keypoints of one picture."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL
from numpy.typing import NDArray

from matcher.errors import ImageError, MatcherError
from matcher.images.decode import check_unchanged, content_key, decode, read_bytes
from matcher.images.table import ImageSet
from matcher.models.sift import LocalFeatures, extract
from matcher.settings import ImageSettings, SiftSettings
from matcher.storage.aside import write_aside
from matcher.types import Errors, Keypoints, Pictures

THUMBNAIL = 16  # pixels a side
# What numpy and zipfile raise on a file that is not what was written.
DAMAGED = (OSError, ValueError, LookupError, EOFError, RuntimeError, MemoryError, TypeError, struct.error, zipfile.BadZipFile)
DETAIL = 2  # JPEGs may be decoded smaller, but never below this many times the short side that keypoints are found at


def describe_pictures(
    images: ImageSet, settings: SiftSettings, *, image_settings: ImageSettings, stage: str, cache: Path | None = None
) -> tuple[Pictures, Keypoints, Errors]:
    """Images (N,) -> a row of Pictures and the keypoints of every good one, and a row of Errors for every bad one."""
    rows: list[dict[str, Any]] = []
    found: list[LocalFeatures] = []
    errors: list[tuple[str, str, str, str, str]] = []
    for id_, path in zip(images.id.tolist(), images.path.tolist(), strict=True):
        try:
            row, features = describe_picture(path, settings, image_settings=image_settings, cache=cache)
        except ImageError as error:
            errors.append((id_, path, stage, error.code, str(error)))
            continue
        rows.append({"id": id_, "path": path, **row, "keypoints": len(features)})
        found.append(features)
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name, _, _ in Pictures.columns()}
    pictures = Pictures(**columns) if rows else Pictures.empty()
    return pictures, join(pictures.id.tolist(), found), Errors.of(errors)


def join(ids: list[str], found: list[LocalFeatures]) -> Keypoints:
    """Ids (N,) and their keypoints -> one record, picture after picture."""
    if not found:
        return Keypoints.empty()
    return Keypoints(
        image_id=np.repeat(np.array(ids, dtype=np.str_), [len(f) for f in found]),
        point=np.concatenate([f.point for f in found]),
        size=np.concatenate([f.size for f in found]),
        angle=np.concatenate([f.angle for f in found]),
        rows=np.concatenate([f.rows for f in found]),
    )


def describe_picture(
    path: str, settings: SiftSettings, *, image_settings: ImageSettings, cache: Path | None = None, known: str | None = None
) -> tuple[dict[str, Any], LocalFeatures]:
    """File -> columns of Pictures (without id, path and keypoints) and its keypoints, from the cache if they are there.

    ImageError, also if the key of its bytes is not the ``known`` one.
    """
    data = read_bytes(path, settings=image_settings)
    key = content_key(data)
    if known is not None:
        check_unchanged(path, key, known)
    kept = cache / key[:2] / f"{key}-{fingerprint(settings, image_settings)}.npz" if cache else None
    if kept is not None and kept.exists() and (remembered := read_kept(kept)) is not None:
        return remembered
    image = decode(data, settings=image_settings, at_least=DETAIL * settings.short_side, name=str(path))
    row = {"height": image.shape[0], "width": image.shape[1], "file_key": key, "pixel_key": pixel_key(image), "thumbnail": thumbnail(image)}
    features = extract(image, settings)
    if kept is not None:
        columns = {"point": features.point, "size": features.size, "angle": features.angle, "rows": features.rows}
        write_kept(kept, {**row, **columns, "shape_wh": features.shape_wh})
    return row, features


def pixel_key(image: NDArray[np.uint8]) -> str:
    """RGB (H, W, 3) -> a digest (BLAKE2b) of its size and pixels."""
    return hashlib.blake2b(image.tobytes(), key=str(image.shape).encode(), digest_size=32).hexdigest()


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB (H, W, 3) -> its 16 x 16 means as one row (768,)."""
    return np.asarray(cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA), dtype=np.uint8).ravel()


def fingerprint(settings: SiftSettings, image_settings: ImageSettings) -> str:
    """Settings, and the Pillow and OpenCV that obey them -> a short name for what they make of the pictures that they allow."""
    said = json.dumps(
        {**asdict(settings), **asdict(image_settings), "opencv": cv2.__version__, "pillow": PIL.__version__, "format": 3}, sort_keys=True
    )
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def write_kept(path: Path, columns: dict[str, Any]) -> None:
    """Arrays by name -> a file of the cache. A cache that cannot be written is an error: the user asked for it."""
    buffer = io.BytesIO()
    np.savez(buffer, **columns)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MatcherError(f"cannot write the cache {path.parent}: {error.strerror or error}; choose another --cache") from error
    with write_aside(path) as file:
        file.write(buffer.getvalue())


def read_kept(path: Path) -> tuple[dict[str, Any], LocalFeatures] | None:
    """Cached description of a picture; None if the file is damaged (it is made again)."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            row = {"height": int(kept["height"]), "width": int(kept["width"]), "thumbnail": kept["thumbnail"]}
            row |= {name: str(kept[name]) for name in ("file_key", "pixel_key")}
            return row, LocalFeatures(*(kept[name] for name in ("point", "size", "angle", "rows", "shape_wh")))
    except DAMAGED:
        return None


class FeatureSet:
    """The described pictures of one side, and the keypoints of each."""

    def __init__(self, pictures: Pictures, keypoints: Keypoints) -> None:
        self.lay_out(pictures)
        self.keypoints = keypoints
        if self.start[-1] != len(keypoints):
            raise MatcherError(f"{len(keypoints)} keypoints do not belong to these {len(pictures)} pictures: describe them again")

    def lay_out(self, pictures: Pictures) -> None:
        """What follows from the pictures alone."""
        self.pictures = pictures
        self.start = np.concatenate([[0], np.cumsum(pictures.keypoints)])
        sides = np.stack([pictures.width, pictures.height], axis=1).astype(np.float32).reshape(-1, 2)
        self.shape_wh = sides / sides.max(axis=1, keepdims=True, initial=1)
        self.number = {id_: n for n, id_ in enumerate(pictures.id.tolist())}

    def __len__(self) -> int:
        return len(self.pictures)

    def features(self, number: int) -> LocalFeatures:
        """Row of Pictures -> its keypoints."""
        rows, k = slice(self.start[number], self.start[number + 1]), self.keypoints
        return LocalFeatures(k.point[rows], k.size[rows], k.angle[rows], k.rows[rows], self.shape_wh[number])

    def owner(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of Keypoints -> rows of Pictures."""
        return np.searchsorted(self.start, rows, side="right") - 1
