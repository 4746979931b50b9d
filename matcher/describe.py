"""Pictures -> descriptors of their views."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from matcher.errors import ImageError
from matcher.geometry import Array
from matcher.images.decode import load
from matcher.settings import DescriptorSettings, ImageSettings
from matcher.types import Descriptors, Errors, Views
from matcher.views.plan import expand, plan
from matcher.views.render import Pixels, render_many

if TYPE_CHECKING:  # torch comes with the model, not with this module
    from matcher.images.table import ImageSet
    from matcher.models.descriptor import Descriptor


def describe_views(
    images: ImageSet, settings: DescriptorSettings, *, image_settings: ImageSettings, names: Sequence[str], model: Descriptor
) -> tuple[Descriptors, Errors]:
    """Pictures (N,) and names of views -> a unit vector for every view of every good picture, and a row for every bad one.

    Views keep the order of the pictures, and within one picture that of ``plan``. The views of several pictures go
    through the model together, ``settings.batch_size`` at a time; one picture is in memory at a time.
    """
    frames = np.stack(list(expand(names).values()))
    errors: list[Errors] = []
    good: list[str] = []
    cut = cut_views(images, frames, good, errors, image_settings=image_settings, side=model.size)
    rows = [model.describe(np.stack(batch)) for batch in batches(cut, settings.batch_size)]
    return gather(plan(good, names), np.concatenate(rows) if rows else np.empty((0, model.dim), np.float32)), Errors.concat(errors)


def cut_views(
    images: ImageSet, frames: Array, good: list[str], errors: list[Errors], *, image_settings: ImageSettings, side: int
) -> Iterator[Pixels]:
    """Pictures and frames (V, 3, 3) -> views (side, side, 3), one by one; fills ``good`` with ids and ``errors`` with rows."""
    for image_id, path in zip(images.id.tolist(), images.path.tolist(), strict=True):
        try:
            image = load(path, settings=image_settings)
        except ImageError as error:
            errors.append(Errors(id=[image_id], path=[path], stage=["describe"], code=[error.code], message=[str(error)]))  # type: ignore[arg-type]
            continue
        good.append(image_id)
        yield from render_many(image, frames, (side, side))


def batches(views: Iterator[Pixels], size: int) -> Iterator[list[Pixels]]:
    """Views -> lists of ``size`` of them, the last one shorter."""
    batch: list[Pixels] = []
    for view in views:
        batch.append(view)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def gather(views: Views, rows: NDArray[np.float32]) -> Descriptors:
    """Views (V,) and their vectors (V, D) -> one record."""
    return Descriptors(image_id=views.image_id, frame=views.frame, kind=views.kind, confidence=views.confidence, rows=rows)
