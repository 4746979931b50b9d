"""The precision-recall curve as an SVG picture, drawn by hand: no library, no fonts of its own."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from matcher.metrics.ranking import Array, Curve

WIDTH, HEIGHT = 380, 280
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 40
ACROSS, UP = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
TARGET = 0.9  # the precision at which the challenge reads the recall


def draw_curve(curve: Curve) -> Markup:
    """Precision-recall curve -> an ``<svg>``: axes from 0 to 1, the line of precision 0.9, a dot (#here) for the page to move."""
    lines = [
        f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="precision-recall curve">',
        *draw_axes(),
        f'<path class="line" d="{draw_path(curve)}"/>',
        *draw_target(),
        f'<circle id="here" class="here" r="5" data-x="{LEFT}" data-y="{HEIGHT - BOTTOM}" data-w="{ACROSS}" data-h="{UP}" hidden/></svg>',
    ]
    return Markup("\n".join(lines))  # numbers and words of this file only, nothing from outside


def draw_axes() -> list[str]:
    """Grid lines, tick numbers and the names of both axes."""
    parts, middle = [], TOP + UP // 2
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        (x,), (y,) = place(np.array([tick]), np.array([tick]))
        parts += [
            f'<path class="grid" d="M{x:.0f} {TOP}V{HEIGHT - BOTTOM}M{LEFT} {y:.0f}H{WIDTH - RIGHT}"/>',
            f'<text x="{x:.0f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{tick:.1f}</text>',
            f'<text x="{LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{tick:.1f}</text>',
        ]
    return [
        *parts,
        f'<text x="{LEFT + ACROSS // 2}" y="{HEIGHT - 5}" text-anchor="middle">recall</text>',
        f'<text x="11" y="{middle}" text-anchor="middle" transform="rotate(-90 11 {middle})">precision</text>',
    ]


def draw_target() -> list[str]:
    """The line above which the precision is at least TARGET."""
    (left, right), (y, _) = place(np.array([0.0, 1.0]), np.array([TARGET, TARGET]))
    return [
        f'<path class="target" d="M{left:.0f} {y:.1f}H{right:.0f}"/>',
        f'<text class="target-name" x="{left + 5:.0f}" y="{y + 13:.0f}">precision {TARGET}</text>',
    ]


def draw_path(curve: Curve) -> str:
    """The curve as SVG path data in tenths of a pixel, each point once; empty if nothing was predicted or nothing is true."""
    known = np.isfinite(curve.recall) & np.isfinite(curve.precision)
    points = [f"{x:.1f} {y:.1f}" for x, y in zip(*place(curve.recall[known], curve.precision[known]), strict=True)]
    return "M" + "L".join(dict.fromkeys(points)) if points else ""


def place(recall: Array, precision: Array) -> tuple[Array, Array]:
    """Recall and precision, 0 to 1 -> x and y in the drawing."""
    return LEFT + recall * ACROSS, HEIGHT - BOTTOM - precision * UP
