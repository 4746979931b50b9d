"""Views of pictures -> what a pair model keeps of them: made once, remembered in memory and in a folder."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from matcher.describe import batches
from matcher.errors import ImageError
from matcher.features import DAMAGED, write_kept
from matcher.geometry import Array, to_box
from matcher.images.decode import load
from matcher.settings import ImageSettings
from matcher.views.render import Pixels, render

if TYPE_CHECKING:  # torch comes with the models, not with this module
    from matcher.models.pair_model import Cached, PairModel

AT_ONCE = 8  # views encoded in one pass, always so many: the shape of a batch decides how its numbers are rounded


class View(NamedTuple):
    """A view of a picture: its file, the sha256 of that, and the frame (3, 3)."""

    path: str
    file_key: str
    frame: Array


class EncodedViews:
    """What a model keeps of views, by view; safe in threads. What is kept does not depend on which views were asked for before.

    Args:
        model: who encodes
        made_by: names the model's weights
        memory: views kept in memory
        folder: views kept there, too, beyond the run; null = nowhere
        gate: makes what is held while the model computes
    """

    def __init__(
        self,
        model: PairModel,
        *,
        made_by: str,
        memory: int,
        folder: Path | None,
        gate: Callable[[], AbstractContextManager[object]],
        image_settings: ImageSettings,
    ) -> None:
        self.model, self.memory, self.folder, self.gate, self.image_settings = model, memory, folder, gate, image_settings
        self.made_by = json.dumps([made_by, cv2.__version__, "format 3"])
        self.kept: OrderedDict[str, Cached] = OrderedDict()
        self.lock = threading.Lock()  # held to look into ``kept`` or to change it

    def of(self, views: Sequence[View]) -> dict[str, Cached | ImageError]:
        """Views -> what is kept of each, by ``key``; the error of those whose picture cannot be used."""
        wanted = {self.key(view): view for view in views}
        found: dict[str, Cached | ImageError] = {}
        for key in wanted:
            if (kept := self.recall(key)) is not None:
                found[key] = kept
        missing = {key: view for key, view in wanted.items() if key not in found}
        for batch in batches(self.cut(missing, found), AT_ONCE):
            with self.gate():
                encoded = self.model.encode_views(fill(np.stack([pixels for _, pixels in batch]), AT_ONCE))
            for (key, _), row in zip(batch, encoded, strict=False):
                found[key] = kept = row.copy()
                self.remember(key, kept, on_disk=True)
        return found

    def key(self, view: View) -> str:
        """A view -> its name: the file's content, the frame, and who encodes it."""
        frame = np.ascontiguousarray(view.frame + 0.0, dtype=np.float64)
        return f"{view.file_key}-{hashlib.sha256(frame.tobytes() + self.made_by.encode()).hexdigest()[:12]}"

    def cut(self, views: Mapping[str, View], failed: dict[str, Cached | ImageError]) -> Iterator[tuple[str, Pixels]]:
        """Views by key -> the pixels of each, picture by picture; what cannot be decoded goes to ``failed``."""
        size, last, image = self.model.size, None, np.empty((0, 0, 3), np.uint8)
        for key, view in sorted(views.items(), key=lambda item: (item[1].path, self.detail(item[1]), item[0])):
            try:
                if last != (now := (view.path, view.file_key, self.detail(view))):
                    image, last = self.decode(view), now
            except ImageError as error:
                failed[key] = error
                continue
            yield key, render(image, view.frame, (size, size))

    def detail(self, view: View) -> int:
        """Pixels that the shorter side of the picture must keep; of the view alone, so that its pixels depend on nothing else."""
        x0, y0, x1, y1 = to_box(view.frame)
        return math.ceil(2 * self.model.size / max(min(x1 - x0, y1 - y0), 1e-3))

    def decode(self, view: View) -> Pixels:
        """A view -> its whole picture. ImageError, also if the file is no longer the one that was described."""
        return load(view.path, settings=self.image_settings, at_least=self.detail(view), key=view.file_key)

    def recall(self, key: str) -> Cached | None:
        """What is kept under a key, in memory or in the folder; None if nothing is, or the file is damaged."""
        with self.lock:
            if key in self.kept:
                self.kept.move_to_end(key)
                return self.kept[key]
        if self.folder is None or not (path := self.place(key)).exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                encoded = file["encoded"]
        except DAMAGED:
            return None
        if encoded.dtype != self.model.stored:
            return None
        self.remember(key, encoded, on_disk=False)
        return encoded

    def remember(self, key: str, encoded: Cached, *, on_disk: bool) -> None:
        """Keep an encoded view; those that were not asked for the longest are forgotten."""
        with self.lock:
            self.kept[key] = encoded
            self.kept.move_to_end(key)
            while len(self.kept) > self.memory:
                self.kept.popitem(last=False)
        if on_disk and self.folder is not None:
            write_kept(self.place(key), {"encoded": encoded})

    def place(self, key: str) -> Path:
        """Key -> the file that keeps it."""
        assert self.folder is not None
        return self.folder / key[:2] / f"{key}.npz"


def fill(rows: NDArray[np.generic], size: int) -> NDArray[np.generic]:
    """Rows (n, ...), 1 to ``size`` of them -> (size, ...), the last one repeated."""
    return rows[np.minimum(np.arange(size), len(rows) - 1)]
