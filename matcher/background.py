"""A fixed set of photographs that are no references, and what it is good for: similarities normalised against it.

    s'(q, r) = s(q, r) - weight * mean of the ``nearest`` largest s(q, b) over the background pictures b

(the similarity search challenge's baseline, which takes the tenth alone, twice; SSCD, arXiv 2202.10261, section 5.1). A query view
that resembles many pictures is so held to more, and scores become comparable across queries. The term depends on the query's view and
the background alone, so the score of a pair stays its own: never on other queries, never on the references.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from matcher.describe import describe_views, digest, in_order, load_model, made_by, weights_path
from matcher.errors import MatcherError, StaleStageError, UsageError
from matcher.features import DETAIL, pixel_key
from matcher.images.decode import content_key, decode, read_bytes
from matcher.images.table import read_images
from matcher.models.cards import digest as tensors_digest
from matcher.settings import DescriptorSettings, PostSettings, Strategy
from matcher.storage.aside import check_output, write_aside
from matcher.types import Float, Pictures

KIND, HEADER = "Background", "matcher"  # the class in the header, and the header's key in the file's metadata
CHUNK = 4096  # query views compared at a time
KEY_BYTES = 16  # kept of every key


@dataclass(frozen=True, eq=False)
class Background:
    """Descriptors of whole pictures, and the keys by which these pictures are known again."""

    rows: Float  # (N, D) unit norm
    keys: NDArray[np.uint8]  # (2 N, KEY_BYTES) the beginnings of their file keys and pixel keys
    card: dict[str, Any]  # "descriptor": what made the rows (describe.made_by), and where the pictures came from

    def penalty(self, rows: Float, *, weight: float, nearest: int, skip: int = 0) -> Float:
        """Query views (V, D) -> what is taken off their similarities, (V,). UsageError if there are fewer pictures than ``nearest``.

        Of the ``nearest`` largest similarities the first ``skip`` are left out of the mean.
        """
        if not 1 <= nearest <= len(self.rows):
            raise UsageError(
                f"descriptor.background_nearest must lie between 1 and the {len(self.rows):,} background pictures, not {nearest}"
            )
        means = np.empty(len(rows), dtype=np.float32)
        for start in range(0, len(rows), CHUNK):
            similarity = rows[start : start + CHUNK] @ self.rows.T
            largest = np.sort(np.partition(similarity, -nearest, axis=1)[:, -nearest:], axis=1)
            means[start : start + CHUNK] = largest[:, : nearest - skip].mean(axis=1)
        return means * np.float32(weight)

    def refuse(self, pictures: Pictures, side: str) -> None:
        """MatcherError if a background picture is among these pictures: their copies would be held to the impossible."""
        known = {key.tobytes() for key in self.keys}
        for name in ("file_key", "pixel_key"):
            for id_, key in zip(pictures.id.tolist(), short_keys(getattr(pictures, name).tolist()), strict=True):
                if key.tobytes() in known:
                    raise MatcherError(
                        f"the {side} {id_} is one of the background's pictures, which must be strangers: leave it out, make another "
                        "background without it (matcher background), or set descriptor.background to null"
                    )

    def save(self, path: Path) -> None:
        """Writes one safetensors file: rows as float16, keys, and the card in its header. Same content, same bytes."""
        from safetensors.numpy import save

        tensors: dict[str, NDArray[Any]] = {"rows": self.rows.astype(np.float16), "keys": self.keys}
        with write_aside(path) as file:
            sealed = {"class": KIND, "sha256": tensors_digest(save(tensors)), **self.card}
            file.write(save(tensors, {HEADER: json.dumps(sealed, sort_keys=True)}))

    @classmethod
    def load(cls, path: Path, *, made_by: str) -> Background:
        """File -> background. StaleStageError if another model than ``made_by`` made its rows, MatcherError if it is something else."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                card = json.loads((file.metadata() or {})[HEADER])
                kind, rows, keys = card.pop("class"), file.get_tensor("rows"), file.get_tensor("keys")
        except OSError as error:
            raise MatcherError(f"cannot read the background {path}: {error.strerror or error}") from error
        except (SafetensorError, KeyError, ValueError, AttributeError, TypeError) as error:
            raise MatcherError(f"{path} is no background: make one with `matcher background`") from error
        if isinstance(told := card.pop("sha256", None), str) and told != tensors_digest(path.read_bytes()):
            raise MatcherError(f"the background {path} is damaged: its checksum differs; copy it again, or make it again")
        if kind != KIND or rows.ndim != 2 or keys.ndim != 2:
            raise MatcherError(f"{path} is no background: make one with `matcher background`")
        if card.get("descriptor") != made_by:
            raise StaleStageError(
                f"the background {path} was made by another descriptor: by {card.get('descriptor')}, now {made_by}; "
                "make one of this descriptor with `matcher background`"
            )
        return cls(rows.astype(np.float32), keys, card)


def short_keys(keys: Sequence[str]) -> NDArray[np.uint8]:
    """Keys (N,) as Pictures has them (hexadecimal) -> their first bytes (N, KEY_BYTES)."""
    data = b"".join(bytes.fromhex(key)[:KEY_BYTES] for key in keys)
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, KEY_BYTES)


def of_pictures(rows: ArrayLike, file_keys: Sequence[str], pixel_keys: Sequence[str], *, card: dict[str, Any]) -> Background:
    """Unit rows (N, D) of whole pictures and both keys of each -> background."""
    keys = np.concatenate([short_keys(file_keys), short_keys(pixel_keys)])
    return Background(np.asarray(rows, dtype=np.float32), keys, card)


def load_background(settings: DescriptorSettings, **sides: Pictures) -> Background | None:
    """Settings, and the pictures under evaluation as ``query`` and ``reference`` -> the background; None if the settings name none.

    MatcherError if one of its pictures is among them.
    """
    if settings.background is None:
        if settings.post != PostSettings():
            raise UsageError("descriptor.post moves descriptors away from a background: name one in descriptor.background")
        return None
    background = Background.load(weights_path(settings.background, "background"), made_by=made_by(settings))
    for side, pictures in sides.items():
        background.refuse(pictures, side)
    return background


def background_print(settings: DescriptorSettings) -> dict[str, Any]:
    """Settings -> what decides the normalisation, for the stages that use it; nothing if there is no background."""
    if settings.background is None:
        return {}
    path = weights_path(settings.background, "background")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MatcherError(f"cannot read the background {path}: {error.strerror or error}") from error
    counted = {"weight": settings.background_weight, "nearest": settings.background_nearest, "skip": settings.background_skip}
    return {"digest": digest(content), **counted, "post": asdict(settings.post)}


def make_background(
    photos: str | PathLike[str], output: str | PathLike[str], *, strategy: Strategy, pictures: int = 4000, seed: int = 0, workers: int = 1
) -> Path:
    """Photographs that are nobody's references -> the background file of the strategy's descriptor.

    Args:
        photos: a folder (recursive), a glob, a list file, or a CSV/Parquet table with columns id and path
        output: safetensors file
        strategy: its descriptor makes the rows, its reference_keypoints say how the references' pictures are decoded
        pictures: at most this many are drawn
        seed: of the draw
        workers: threads that decode
    """
    settings = strategy.descriptor
    if settings is None:
        raise UsageError("a background is made of descriptors: set strategy.descriptor.backbone, or take --config run/full.yaml")
    check_output(output, ".safetensors")
    images, _ = read_images(photos, "background", on_error="skip")
    drawn = np.sort(np.random.default_rng(seed).permutation(len(images))[:pictures])
    images = images.take(drawn)
    found, errors = describe_views(
        images, settings, image_settings=strategy.images, names=["whole"], model=load_model(settings), workers=workers
    )
    if len(found) == 0:
        raise MatcherError(f"{photos} holds no picture that can be used ({len(errors)} cannot): a background needs some")
    good = images.take(np.isin(images.id, found.image_id))
    keys = list(in_order(partial(keys_of, strategy=strategy), good.path.tolist(), workers=workers))
    card = {
        "descriptor": made_by(settings),
        "backbone": " beside ".join(settings.members),
        "photos": Path(photos).name,
        "pictures": len(found),
        "seed": seed,
    }
    of_pictures(found.rows, *zip(*keys, strict=True), card=card).save(Path(output))
    return Path(output)


def keys_of(path: str, *, strategy: Strategy) -> tuple[str, str]:
    """Picture file -> its file key and pixel key, as the pictures of the references have them. ImageError."""
    data = read_bytes(path, settings=strategy.images)
    return content_key(data), pixel_key(decode(data, settings=strategy.images, at_least=DETAIL * strategy.reference_keypoints.short_side))
