"""Every family at every severity: shapes, types, records, determinism, and frames and masks that tell the truth."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from matcher import geometry
from matcher.data.edits import FAMILIES, Context, Edited, apply_edit

LEVELS = (1, 2, 3)
EXACT = ("hflip", "vflip", "turn", "pad", "border", "crop")
MOVING = (*EXACT, "rotate", "perspective", "scale", "aspect", "mirror", "onto", "collage", "screenshot", "phone", "meme", "recapture")
HIDING = ("text", "emoji", "under", "scribble", "stripes", "occlude", "watermark")
STILL = tuple(name for name in FAMILIES if name not in MOVING and name not in HIDING)


def is_faint(picture: Edited) -> bool:
    """Whether something was laid on or under it half transparent, so that pixels differ where the original is visible."""
    return float(picture.steps[-1].parameters.get("opacity", 1.0)) < 1.0


@pytest.mark.parametrize("severity", LEVELS)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_edit_gives_a_sound_picture_and_the_same_one_again(name: str, severity: int, context: Context) -> None:
    rng = np.random.default_rng(5)
    for height, width in ((64, 80), (33, 190), (32, 32)):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        before = pixels.copy()
        first = apply_edit(Edited.start(pixels), name, severity, np.random.default_rng(severity), context)
        again = apply_edit(Edited.start(pixels), name, severity, np.random.default_rng(severity), context)
        assert first.pixels.dtype == np.uint8 and first.pixels.shape[2] == 3
        assert first.visible.shape == first.pixels.shape[:2] and first.visible.dtype == np.bool_
        assert np.isfinite(first.frame).all() and abs(np.linalg.det(first.frame)) > 1e-4
        assert (first.steps[-1].name, first.steps[-1].severity) == (name, severity)
        json.dumps(dict(first.steps[-1].parameters))
        assert np.array_equal(before, pixels), "the input was written to"
        assert np.array_equal(first.pixels, again.pixels) and np.array_equal(first.visible, again.visible)
        assert np.array_equal(first.frame, again.frame) and first.steps == again.steps


@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_is_drawn_but_from_the_generator(name: str, context: Context) -> None:
    start = Edited.start(np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8))
    for seed in range(8):
        first, again = (apply_edit(start, name, 1 + seed % 3, np.random.default_rng(seed), context) for _ in range(2))
        assert np.array_equal(first.pixels, again.pixels) and first.steps == again.steps


@pytest.mark.parametrize("name", STILL)
def test_edits_of_colour_and_detail_move_and_hide_nothing(name: str, context: Context, waves: np.ndarray) -> None:
    rough = waves ^ np.random.default_rng(0).integers(0, 32, waves.shape, dtype=np.uint8)
    for severity in LEVELS:
        picture = apply_edit(Edited.start(rough), name, severity, np.random.default_rng(severity), context)
        assert np.array_equal(picture.frame, np.eye(3)) and picture.visible.all() and picture.pixels.shape == rough.shape
        assert not np.array_equal(picture.pixels, rough)


@pytest.mark.parametrize("name", MOVING)
def test_a_mark_is_found_where_the_frame_says(name: str, context: Context) -> None:
    """A blob drawn into the picture, its centroid in the edited picture, against the frame: under a pixel apart."""
    found = 0
    for seed, (x, y) in enumerate(((90.0, 70.0), (131.5, 40.2), (60.3, 110.8), (150.0, 120.0), (100.0, 75.0), (45.0, 45.0)) * 3):
        blank = Edited.start(np.full((150, 200, 3), 60, dtype=np.uint8))
        marked = Edited.start(with_blob(blank.pixels, x, y))
        without, with_mark = (apply_edit(p, name, 1 + seed % 3, np.random.default_rng(seed), context) for p in (blank, marked))
        assert np.array_equal(without.frame, with_mark.frame)
        goal = geometry.apply(with_mark.frame, [[x / 200, y / 150]])[0] * with_mark.pixels.shape[1::-1]
        spot = centroid(with_mark, without)
        if spot is not None and np.all(goal > 12) and np.all(goal < np.array(with_mark.pixels.shape[1::-1]) - 12):
            found += 1
            assert np.hypot(*(spot - goal)) < 1.0
    assert found >= 4


def with_blob(pixels: np.ndarray, x: float, y: float) -> np.ndarray:
    """A soft white blob centred at x, y in continuous pixel coordinates."""
    rows, columns = np.mgrid[0 : pixels.shape[0], 0 : pixels.shape[1]] + 0.5
    heat = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 4.0**2))[..., None]
    return np.rint(pixels + (255 - pixels) * heat).astype(np.uint8)


def centroid(picture: Edited, without: Edited) -> np.ndarray | None:
    """Where the two differ, x and y in continuous pixel coordinates; None if the mark is not to be seen."""
    difference = np.abs(picture.pixels.astype(float) - without.pixels).sum(axis=2) * picture.visible
    heat = np.clip(difference - 0.3 * difference.max(), 0, None)
    if difference.max() < 100:
        return None
    rows, columns = np.mgrid[0 : heat.shape[0], 0 : heat.shape[1]] + 0.5
    return np.array([(heat * columns).sum(), (heat * rows).sum()]) / heat.sum()


@pytest.mark.parametrize("name", [name for name in (*MOVING, *HIDING) if name not in ("recapture", "watermark")])
def test_where_the_mask_says_visible_the_original_is_seen(name: str, context: Context, waves: np.ndarray) -> None:
    """Slow and obvious: for every visible pixel, its place in the original by the inverse frame, and the colour there."""
    compared = 0
    for seed in range(9):
        picture = apply_edit(Edited.start(waves), name, 1 + seed % 3, np.random.default_rng(seed), context)
        if is_faint(picture):
            continue
        inner = cv2.erode(picture.visible.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=1) > 0
        rows, columns = np.nonzero(inner)
        places = np.stack([(columns + 0.5) / inner.shape[1], (rows + 0.5) / inner.shape[0]], axis=-1)
        x, y = (geometry.apply(geometry.invert(picture.frame), places) * (200, 150) - 0.5).T.astype(np.float32)
        truth = cv2.remap(waves, x[None], y[None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
        error = np.abs(truth.astype(int) - picture.pixels[inner])
        compared += len(rows)
        assert len(rows) == 0 or np.percentile(error, 99.5) <= 8
    assert compared > 2000


@pytest.mark.parametrize("name", [name for name in MOVING if name not in ("onto", "screenshot", "phone")])
def test_where_nothing_is_pasted_all_that_the_frame_spans_is_visible(name: str, context: Context, waves: np.ndarray) -> None:
    for seed in range(9):
        picture = apply_edit(Edited.start(waves), name, 1 + seed % 3, np.random.default_rng(seed), context)
        if picture.steps[-1].parameters.get("stretches") is False:
            continue  # cut to fill a cell of a collage: the frame spans what the neighbours took
        assert picture.seen_share() == pytest.approx(geometry.covered_share(picture.frame), abs=0.02)


def test_hidden_shares_are_about_what_was_asked_for(context: Context, waves: np.ndarray) -> None:
    for name in ("stripes", "under"):
        for seed in range(12):
            picture = apply_edit(Edited.start(waves), name, 1 + seed % 3, np.random.default_rng(seed), context)
            if not is_faint(picture):
                share = float(picture.steps[-1].parameters["share"])
                assert 1 - picture.seen_share() == pytest.approx(share, abs=0.2 * share + (0.16 if name == "stripes" else 0.02))


def test_the_frames_of_flips_and_turns_are_exact(context: Context, waves: np.ndarray) -> None:
    start = Edited.start(waves)
    flipped = apply_edit(start, "hflip", 1, np.random.default_rng(0), context)
    assert np.array_equal(flipped.frame, [[-1, 0, 1], [0, 1, 0], [0, 0, 1]])
    assert np.array_equal(apply_edit(start, "vflip", 1, np.random.default_rng(0), context).frame, [[1, 0, 0], [0, -1, 1], [0, 0, 1]])
    assert np.array_equal(flipped.pixels, waves[:, ::-1])
    turns = {1: [[0, -1, 1], [1, 0, 0], [0, 0, 1]], 2: [[-1, 0, 1], [0, -1, 1], [0, 0, 1]], 3: [[0, 1, 0], [-1, 0, 1], [0, 0, 1]]}
    for seed in range(12):
        turned = apply_edit(start, "turn", 1, np.random.default_rng(seed), context)
        quarters = int(turned.steps[-1].parameters["quarters"])
        assert np.array_equal(turned.pixels, np.rot90(waves, -quarters))
        np.testing.assert_allclose(turned.frame, turns[quarters], atol=1e-12)
