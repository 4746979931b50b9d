"""Keypoints of a query and of its candidates -> the two nearest of every one, exactly, on the CPU by NumPy or on a device by torch.

A descriptor and its mirror image have the same sum and opposite differences (:func:`halves`), so that two products of half the
length give the cosines of the query and of its mirror image. All numbers are integers below 2 ** 24, which float32 holds exactly (so do
TF32 tensor cores, which add up in float32): neither the order of sums, nor the shape of a batch, nor the device decides a bit or a tie.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from matcher.errors import MatcherError
from matcher.models.device import torch_sees_gpu
from matcher.models.sift import MIRROR, LocalFeatures

AT_ONCE = 2**24  # products held on a device
HALF = np.flatnonzero(np.arange(len(MIRROR)) < MIRROR)  # one number of each two that mirroring swaps; none stays where it is
Floats = NDArray[np.float32]
Rows = NDArray[np.uint8]


class Nearest(NamedTuple):
    """Of every keypoint of a query: its nearest keypoint of a reference, the first one on a tie, and the cosines of the nearest two."""

    row: NDArray[np.int64]  # (Q,)
    best: Floats  # (Q,)
    second: Floats  # (Q,)


class BothImages(NamedTuple):
    """The nearest of a query as it is, and of its mirror image."""

    plain: Nearest
    mirrored: Nearest


def nearest_two(query: LocalFeatures, references: Sequence[LocalFeatures], device: str = "cpu") -> list[BothImages | None]:
    """Keypoints of a query and of references -> the nearest in each of them; None where either side has fewer than two.

    ``device``: cpu, or a name that torch knows, see ``choose_device``.
    """
    enough = [min(len(query), len(reference)) >= 2 for reference in references]
    wanted = [reference.rows for reference, good in zip(references, enough, strict=True) if good]
    found = search_here(query.rows, wanted) if device == "cpu" else search_on(device, query.rows, wanted)
    return [next(found) if good else None for good in enough]


def search_here(query: Rows, references: Sequence[Rows]) -> Iterator[BothImages]:
    """Rows (Q, 128), and those of each reference (R, 128) -> the nearest in each."""
    sums, differences = halves(query)
    inverse = inverse_norms(query) / 2
    every, longest = np.arange(len(query)), max(map(len, references), default=0)
    room = np.empty((3, len(query) * longest), dtype=np.float32)  # fresh memory for every product would cost as much as the product
    for rows in references:
        same, opposite, plain = (memory[: len(query) * len(rows)].reshape(len(query), len(rows)) for memory in room)
        their_sums, their_differences = halves(rows)
        np.matmul(sums, their_sums.T, out=same)
        np.matmul(differences, their_differences.T, out=opposite)
        np.add(same, opposite, out=plain)
        np.subtract(same, opposite, out=same)
        found, scale = [], inverse_norms(rows)
        for cosine in (plain, same):
            cosine *= scale
            nearest = cosine.argmax(axis=1)
            best = cosine[every, nearest]
            cosine[every, nearest] = -np.inf
            found.append(
                Nearest(nearest, best * inverse, cosine[every, cosine.argmax(axis=1)] * inverse)
            )  # max takes twice the time of argmax
        yield BothImages(*found)


def search_on(device: str, query: Rows, references: Sequence[Rows]) -> Iterator[BothImages]:
    """The same by torch on a device, many references in one product."""
    import torch

    sums, differences = (torch.from_numpy(half).to(device) for half in halves(query))
    inverse = inverse_norms(query) / 2
    longest = max(map(len, references), default=0)
    size = max(1, AT_ONCE // max(1, len(query) * longest))
    places = torch.arange(longest, dtype=torch.int32, device=device)
    for start in range(0, len(references), size):
        block = references[start : start + size]
        there, scale = np.zeros((len(block), longest, len(MIRROR)), np.uint8), np.zeros((len(block), 1, longest), np.float32)
        for number, rows in enumerate(block):
            there[number, : len(rows)], scale[number, 0, : len(rows)] = rows, inverse_norms(rows)
        absent, scales = torch.from_numpy(scale == 0).to(device), torch.from_numpy(scale).to(device)
        theirs = (torch.from_numpy(half.reshape(len(block), longest, -1)).to(device) for half in halves(there.reshape(-1, len(MIRROR))))
        same, opposite = (torch.matmul(own, half.mT) for own, half in zip((sums, differences), theirs, strict=True))
        found = []
        for cosine in (same + opposite, same - opposite):
            cosine.mul_(scales).masked_fill_(absent, -torch.inf)
            best = cosine.amax(dim=2, keepdim=True)
            row = torch.where(cosine == best, places, longest).amin(dim=2, keepdim=True).long()
            second = cosine.scatter_(2, row, -torch.inf).amax(dim=2)
            found.append([values.cpu().numpy() for values in (row[..., 0], best[..., 0], second)])
        for number in range(len(block)):
            yield BothImages(*(Nearest(row[number], best[number] * inverse, second[number] * inverse) for row, best, second in found))


def halves(rows: Rows) -> tuple[Floats, Floats]:
    """Rows (n, 128) -> sums and differences (n, 64) of the numbers that mirroring swaps: it keeps the former, negates the latter."""
    numbers = rows.astype(np.float32)
    one, other = numbers[:, HALF], numbers[:, MIRROR[HALF]]
    return one + other, one - other


def cosines(query: Rows, reference: Rows) -> Floats:
    """Two lists of rows (n, 128) -> the cosine of each pair (n,), to the last bit what :func:`nearest_two` says of it."""
    twice = 2 * np.einsum("ij,ij->i", query.astype(np.float32), reference.astype(np.float32))
    return np.asarray(twice * inverse_norms(reference) * (inverse_norms(query) / 2), dtype=np.float32)


def inverse_norms(rows: Rows) -> Floats:
    """Rows (n, 128) -> 1 / their norms (n,), at most 1: a row of zeros stays one."""
    numbers = rows.astype(np.float32)
    squares = np.einsum("ij,ij->i", numbers, numbers)
    return np.divide(1, np.sqrt(np.maximum(squares, 1)), dtype=np.float32)


def choose_device(gpu: Literal["auto", "yes", "no"]) -> str:
    """What the settings say -> cpu, or cuda. MatcherError if it must be a GPU and torch sees none."""
    if gpu == "no":
        return "cpu"
    if torch_sees_gpu(look=gpu == "yes"):
        return "cuda"
    if gpu == "yes":
        raise MatcherError("scorers.sift.gpu is yes, but torch sees no GPU: set scorers.sift.gpu to auto, or ask matcher doctor")
    return "cpu"
