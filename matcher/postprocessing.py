"""Descriptors moved away from a background set of strangers, as the winners of the descriptor track of 2021 did it.

The steps come in the order in which they were published, each on what the one before gave:

    whiten      PCA of the background, eigenvalues to the power -p, unit norm (S-square, arXiv 2112.03415; SSCD, arXiv 2202.10261)
    subtract    x <- N(x - weight * mean of the k nearest t'), both sides; t' = N(sum over the k nearest t_j of t, t included, of
                <t, t_j>^3 t_j) (negative embedding subtraction; lyakaap, arXiv 2112.04323)
    sample      q' = q + weight * sqrt(c) * u, u = N(mean of the differences q - t_k), c = mean cosine of the 3 nearest (S-square)
    stretch     q' = factor * (mean of the 5 largest <q, t>) * q (VisionForce)

N divides by the norm. The last two are for queries and change their norm: pairs are then compared by 1 - |q' - r|^2 / 2, which is
the cosine where q' has length 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from matcher.errors import UsageError
from matcher.settings import PostSettings, SampleSettings, StretchSettings, SubtractSettings, WhitenSettings
from matcher.types import Float

CHUNK = 4096  # rows compared with the background at a time
TINY = 1e-12


class Moved(NamedTuple):
    """Rows of length 1 after all steps, the lengths of the queries' rows before they were made so, and the background."""

    queries: Float  # (V, D)
    references: Float  # (R, D)
    background: Float  # (N, D)
    length: Float  # (V,) 1 but for sample and stretch


def move(queries: Float, references: Float, background: Float, settings: PostSettings) -> Moved:
    """Unit rows (V, D) of queries, (R, D) of references, (N, D) of strangers -> the same after the steps that the settings name."""
    if (whitening := settings.whiten) is not None:
        project = whitener(background, whitening)
        queries, references, background = project(queries), project(references), project(background)
    if (subtraction := settings.subtract) is not None:
        smooth = smoothed(background, subtraction)
        queries, references = subtract(queries, smooth, subtraction), subtract(references, smooth, subtraction)
        background = subtract(background, smooth, subtraction, own=True)
    if settings.sample is not None:
        queries = sample(queries, background, settings.sample)
    if settings.stretch is not None:
        queries = stretch(queries, background, settings.stretch)
    if settings.sample is None and settings.stretch is None:
        return Moved(queries, references, background, np.ones(len(queries), dtype=np.float32))
    return Moved(unit(queries), references, background, np.linalg.norm(queries, axis=1).astype(np.float32))


def whitener(background: Float, settings: WhitenSettings) -> Callable[[Float], Float]:
    """Strangers (N, D), more of them than D -> a function of rows (V, D): whitened, (V, dim), of length 1."""
    import faiss

    count, width = background.shape
    dim = settings.dim or width
    if dim > width or count <= width:
        raise UsageError(f"whiten to {dim} numbers wants rows of at least so many, and more strangers than {width}; there are {count:,}")
    matrix = faiss.PCAMatrix(width, dim, -settings.power)
    matrix.train(np.ascontiguousarray(background, dtype=np.float32))
    return lambda rows: unit(matrix.apply(np.ascontiguousarray(rows, dtype=np.float32))) if len(rows) else rows[:, :dim]


def subtract(rows: Float, smooth: Float, settings: SubtractSettings, *, own: bool = False) -> Float:
    """Unit rows (V, D) and the smoothed background (N, D) -> unit rows away from their neighbours there.

    ``own``: the rows are those of the background themselves, and none of them is its own neighbour.
    """
    for _ in range(settings.iterations):
        moved = []
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            around = nearest(part, smooth, settings.nearest, own=start if own else None)
            moved.append(part - settings.weight * smooth[around].mean(axis=1))
        rows = unit(np.concatenate(moved)) if moved else rows
    return rows


def smoothed(background: Float, settings: SubtractSettings) -> Float:
    """Strangers (N, D) -> each pulled to its own neighbours, by the third power of their cosines."""
    found = []
    for part in chunks(background):
        around = background[nearest(part, background, settings.smooth_nearest)]
        weight = np.einsum("nd,nkd->nk", part, around) ** settings.smooth_power
        found.append(np.einsum("nk,nkd->nd", weight, around))
    return unit(np.concatenate(found))


def sample(queries: Float, background: Float, settings: SampleSettings) -> Float:
    """Unit rows of queries (V, D), strangers (N, D) -> rows of other lengths: the more a query resembles strangers, the longer."""
    found = []
    for part in chunks(queries):
        around = background[nearest(part, background, settings.neighbours)]  # (v, k, D), nearest first
        away = part[:, None] - around
        axis = 1 if settings.by_dimension else 2  # as submitted: each dimension over the neighbours; as meant: each difference
        away = away / np.maximum(np.linalg.norm(away, axis=axis, keepdims=True), TINY)
        alike = np.einsum("nd,nkd->nk", part, around[:, : settings.nearest]).mean(axis=1)
        strength = settings.weight * np.sqrt(np.maximum(alike, 0))[:, None]
        found.append(part + strength * unit(away.mean(axis=1)))
    return np.concatenate(found) if found else queries


def stretch(queries: Float, background: Float, settings: StretchSettings) -> Float:
    """Rows of queries (V, D), strangers (N, D) -> the same rows, longer where a query resembles strangers."""
    found = []
    for part in chunks(queries):
        around = background[nearest(part, background, settings.nearest)]
        found.append(settings.factor * np.einsum("nd,nkd->nk", part, around).mean(axis=1, keepdims=True) * part)
    return np.concatenate(found) if found else queries


def nearest(rows: Float, others: Float, count: int, *, own: int | None = None) -> NDArray[np.int64]:
    """Rows (V, D), others (N, D) -> the ``count`` others with the largest inner products, largest first: (V, count).

    ``own``: row v is the same as the other ``own`` + v, which does not count.
    """
    if not 1 <= count <= len(others) - (own is not None):
        raise UsageError(f"{count} nearest strangers are asked for, and the background holds {len(others):,}")
    similarity = rows @ others.T
    if own is not None:
        similarity[np.arange(len(rows)), own + np.arange(len(rows))] = -np.inf
    found = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(similarity, found, axis=1), axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)


def chunks(rows: Float) -> list[Float]:
    return [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]


def unit(rows: Float) -> Float:
    """Rows (V, D) -> rows of length 1."""
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), TINY)).astype(np.float32)
