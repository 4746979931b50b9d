"""A small picture -> its segments, by the graph method of Felzenszwalb and Huttenlocher (IJCV 2004).

Neighbouring pixels are joined by edges that cost their distance in colour. Two segments become one if their cheapest common
edge costs no more than the dearest edge within either, plus SCALE / its size. The paper takes all edges one by one; here
each segment joins across its own cheapest edge, all at once, round after round (Borůvka), so NumPy does the work.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from matcher.views.render import Pixels

Numbers = NDArray[np.int64]
SMOOTH = 0.8  # sigma of the blur before, in pixels
SCALE = 8.0  # the larger, the larger the segments; a step of colour (0 to 442) times a number of pixels
FINE = 128  # parts of a step of colour: costs are whole numbers of 16 bits, which NumPy sorts fastest


class Edges(NamedTuple):
    """Pairs of segments that touch, the cheapest first."""

    first: Numbers  # (E,)
    second: Numbers  # (E,)
    cost: NDArray[np.float64]  # (E,)


def segment(pixels: Pixels, *, least: int) -> Numbers:
    """Picture (h, w, 3) uint8 -> the segment of every pixel (h, w), numbered 0 to K - 1; all have at least ``least`` pixels."""
    edges = edges_of(pixels)
    labels = np.arange(pixels.shape[0] * pixels.shape[1])
    size, inside = np.ones(len(labels), dtype=np.int64), np.zeros(len(labels))
    for only_small in (False, True):
        while len(size) > 1:
            partner, price = closest(edges, len(size))
            limit = inside + SCALE / size
            joins = size < least if only_small else price <= np.minimum(limit, limit[partner])
            if not joins.any():
                break
            numbers = join(np.where(joins, partner, np.arange(len(size))))
            dearest = np.zeros(numbers.max() + 1)
            np.maximum.at(dearest, numbers, np.where(joins, np.maximum(inside, price), inside))
            labels, inside = numbers[labels], dearest
            size, edges = np.bincount(labels), renumber(edges, numbers)
    return labels.reshape(pixels.shape[:2])


def edges_of(pixels: Pixels) -> Edges:
    """Picture (h, w, 3) -> edges between pixels side by side, which are counted row by row."""
    smooth = cv2.GaussianBlur(pixels, (0, 0), SMOOTH).astype(np.int32)
    number = np.arange(smooth.shape[0] * smooth.shape[1]).reshape(smooth.shape[:2])
    across, down = ((smooth[:, 1:] - smooth[:, :-1]) ** 2).sum(-1), ((smooth[1:] - smooth[:-1]) ** 2).sum(-1)
    cost = (np.sqrt(np.concatenate([across.ravel(), down.ravel()])) * FINE).astype(np.uint16)
    first = np.concatenate([number[:, :-1].ravel(), number[:-1].ravel()])
    second = np.concatenate([number[:, 1:].ravel(), number[1:].ravel()])
    order = np.argsort(cost, kind="stable")
    return Edges(first[order], second[order], cost[order] / FINE)


def closest(edges: Edges, count: int) -> tuple[Numbers, NDArray[np.float64]]:
    """Edges between ``count`` segments -> each one's nearest segment, and what the edge to it costs, (count,)."""
    rows = np.arange(len(edges.cost))[::-1]
    by_first, by_second = np.full((2, count), len(rows))
    by_first[edges.first[::-1]] = rows  # of numbers written to one place the last one stays: the cheapest edge
    by_second[edges.second[::-1]] = rows
    row = np.minimum(by_first, by_second)
    return edges.first[row] + edges.second[row] - np.arange(count), edges.cost[row]


def join(parent: Numbers) -> Numbers:
    """For every segment the one that it joins, itself if none -> its new number, 0 to K - 1."""
    own = np.arange(len(parent))
    parent = np.where((parent[parent] == own) & (own < parent), own, parent)  # of two that join each other the first one leads
    while (parent != (above := parent[parent])).any():
        parent = above
    return (np.cumsum(parent == own) - 1)[parent]


def renumber(edges: Edges, numbers: Numbers) -> Edges:
    """Edges, and the new number of every segment -> the edges that are left between them."""
    first, second = numbers[edges.first], numbers[edges.second]
    between = np.flatnonzero(first != second)
    return Edges(first[between], second[between], edges.cost[between])
