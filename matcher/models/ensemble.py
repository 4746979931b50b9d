"""Several descriptors at once, their rows side by side, so that a similarity is the mean of theirs; and one descriptor at several sizes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from matcher.errors import UsageError
from matcher.models.descriptor import Descriptor
from matcher.models.gist import Gist
from matcher.models.vlad import Vlad

Pixels = NDArray[np.uint8]


class Ensemble:
    """Descriptors that see the same pictures, some of them without colours. ``describe`` as a Descriptor's.

    Args:
        members: descriptors with equally many numbers
        grey: for each of them, whether it is shown grey pictures (as the grey models of D2LV, arXiv 2111.07090)
    """

    def __init__(self, members: Sequence[Descriptor | ManySizes | Gist | Vlad], grey: Sequence[bool]) -> None:
        if len(widths := sorted({member.dim for member in members})) != 1:
            told = " and ".join(map(str, widths))
            raise UsageError(f"the descriptors of an ensemble must have equally many numbers, these have {told}")
        self.members, self.grey = list(zip(members, grey, strict=True)), list(grey)
        self.size = max(member.size for member in members)
        self.dim = sum(member.dim for member in members)

    def describe(self, pixels: Pixels) -> NDArray[np.float32]:
        """Pictures (B, size, size, 3) uint8 RGB -> unit rows (B, dim) float32; each member's part has length 1 / sqrt(members)."""
        shown = {False: pixels, True: without_colour(pixels) if any(self.grey) else pixels}
        rows = [member.describe(at_size(shown[grey], member.size)) for member, grey in self.members]
        return np.concatenate(rows, axis=1) * np.float32(len(rows) ** -0.5)


class ManySizes:
    """One descriptor that sees each picture at several sizes (VisionForce: 200, 256, 320, 400 pixels). ``describe`` as a Descriptor's."""

    def __init__(self, descriptor: Descriptor, sizes: Sequence[int]) -> None:
        self.members = [descriptor.at_size(size) for size in sizes]
        self.size, self.dim = max(sizes), descriptor.dim

    def describe(self, pixels: Pixels) -> NDArray[np.float32]:
        """Pictures (B, size, size, 3) uint8 RGB -> unit rows (B, dim): the mean of the members' unit rows, normalised."""
        mean = np.mean([member.describe(at_size(pixels, member.size)) for member in self.members], axis=0)
        rows: NDArray[np.float32] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return rows


def without_colour(pixels: Pixels) -> Pixels:
    """Pictures (B, H, W, 3) RGB -> the same, their luma (ITU-R BT.601) in all three channels."""
    grey = np.rint(pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=3)


def at_size(pixels: Pixels, size: int) -> Pixels:
    """Pictures (B, side, side, 3) -> (B, size, size, 3), by the mean of the pixels that fall together."""
    if not len(pixels) or pixels.shape[1] == size:
        return pixels
    return np.stack([cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA) for picture in pixels])
