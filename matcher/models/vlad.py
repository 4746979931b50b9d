"""VLAD: keypoints gathered by visual word into one row (Jegou, Douze, Schmid and Perez 2010); a floor for learned descriptors.

Each RootSIFT row goes to its nearest centroid; a word's residuals are summed and brought to length 1 (Arandjelovic and Zisserman
2013), and the whole is projected by a whitening PCA. Codebook and PCA are learned from photographs by `learn_vlad`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from matcher.errors import UsageError
from matcher.models.sift import extract
from matcher.settings import SiftSettings

ROW = 128  # numbers of a RootSIFT row
TINY = 1e-12
Pixels = NDArray[np.uint8]


class Vlad(nn.Module):
    """Pictures (B, size, size, 3) uint8 RGB -> (B, dim) float32 of length 1. ``describe`` as a Descriptor's.

    Args:
        words: centroids
        dim: numbers after the PCA
        size: side of the pictures in pixels
        keypoints: of a picture at most
    """

    centroids: Tensor
    mean: Tensor
    axes: Tensor

    def __init__(self, *, words: int = 16, dim: int = 256, size: int = 256, keypoints: int = 400) -> None:
        super().__init__()
        self.words, self.dim, self.size, self.keypoints = words, dim, size, keypoints
        self.register_buffer("centroids", torch.zeros(words, ROW))
        self.register_buffer("mean", torch.zeros(words * ROW))
        self.register_buffer("axes", torch.zeros(dim, words * ROW))  # divided by the deviation along each

    @property
    def arguments(self) -> dict[str, Any]:
        return {"words": self.words, "dim": self.dim, "size": self.size, "keypoints": self.keypoints}

    @property
    def preprocessing(self) -> dict[str, Any]:
        return {"size": self.size, "pixels": "RGB in 0..255", "shape": "squashed to a square"}

    def describe(self, pixels: Pixels) -> NDArray[np.float32]:
        if not len(pixels):
            return np.empty((0, self.dim), dtype=np.float32)
        centroids = self.centroids.numpy()
        rows = np.stack([gather(keypoint_rows(picture, self.size, self.keypoints), centroids) for picture in pixels])
        return unit((rows - self.mean.numpy()) @ self.axes.numpy().T)


def keypoint_rows(picture: Pixels, size: int, keypoints: int) -> NDArray[np.float32]:
    """A picture -> RootSIFT rows (K, 128) of length 1."""
    return extract(picture, SiftSettings(kind="sift", short_side=size, enlarge=1, keypoints=keypoints)).unit_rows


def gather(rows: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows (K, 128) and centroids (W, 128) -> residuals summed by word, each word of length 1, the whole of length 1: (W * 128,)."""
    sums = np.zeros_like(centroids)
    if len(rows):
        word = (rows @ centroids.T - np.square(centroids).sum(axis=1) / 2).argmax(axis=1)
        np.add.at(sums, word, rows - centroids[word])
    return unit(unit(sums).reshape(1, -1))[0]


def unit(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), TINY)).astype(np.float32)


def learn_vlad(
    pictures: Sequence[Pixels], *, words: int = 16, dim: int = 256, size: int = 256, keypoints: int = 400, seed: int = 0
) -> Vlad:
    """Pictures (size, size, 3) -> a Vlad whose codebook and PCA fit them. UsageError if they are too few, or dim is too large."""
    import faiss

    if len(pictures) <= words * ROW or dim > words * ROW:
        raise UsageError(
            f"{words} words and {dim} numbers need more than {words * ROW:,} pictures and at most so many numbers: {len(pictures):,}"
        )
    found = [keypoint_rows(picture, size, keypoints) for picture in pictures]
    clusters = faiss.Kmeans(ROW, words, niter=20, seed=seed + 1, max_points_per_centroid=20_000)  # faiss takes no seed 0
    clusters.train(np.concatenate(found))
    centroids = np.asarray(clusters.centroids, dtype=np.float32)
    rows = np.stack([gather(one, centroids) for one in found])
    mean = rows.mean(axis=0)
    spread, axes = np.linalg.eigh(np.cov(rows.T.astype(np.float64)))
    model = Vlad(words=words, dim=dim, size=size, keypoints=keypoints)
    chosen = (axes / np.sqrt(np.maximum(spread, TINY)))[:, ::-1][:, :dim]
    for name, value in (("centroids", centroids), ("mean", mean), ("axes", chosen.T.copy())):
        getattr(model, name).copy_(torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32)))
    return model.eval()
