"""Pictures of several originals: each has a frame and a mask of its own, which every later edit moves as if it were alone."""

from __future__ import annotations

import numpy as np
import pytest

from matcher import geometry
from matcher.data.edits import FAMILIES, MIXTURES, SEVERAL, Context, Edited, apply_edit, gather, gather_at_random, is_recognisable

COLOURS = ((220, 20, 30), (20, 200, 40), (30, 40, 230), (230, 220, 20))


def plain(count: int) -> list[np.ndarray]:
    """Originals of one colour each, (120 or 150, 200, 3)."""
    return [np.full((120 + 30 * (n % 2), 200, 3), COLOURS[n], dtype=np.uint8) for n in range(count)]


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("severity", [1, 2, 3])
def test_each_original_is_where_its_frame_and_mask_say(count: int, severity: int, context: Context) -> None:
    kinds = set()
    for seed in range(8):
        picture = gather(plain(count), np.random.default_rng(seed), severity, context)
        again = gather(plain(count), np.random.default_rng(seed), severity, context)
        assert np.array_equal(picture.pixels, again.pixels) and picture.steps == again.steps
        (step,) = picture.steps
        kinds.add(step.parameters["kind"])
        assert (step.name, step.severity, len(list(picture.each()))) == (SEVERAL, severity, count)
        assert sum(alone.visible.astype(int) for alone in picture.each()).max() == 1  # each pixel belongs to one
        if step.parameters.get("opacity", 1.0) == 1.0:
            for alone, colour in zip(picture.each(), COLOURS, strict=False):
                seen = np.abs(picture.pixels.astype(int) - colour).max(axis=2) < 3
                assert np.array_equal(alone.visible, seen)
                assert alone.visible.mean() <= geometry.covered_share(alone.frame) + 0.01
    assert kinds == ({"laid on", "cells"} if count == 2 else {"cells"})


@pytest.mark.parametrize("name", FAMILIES)
def test_an_edit_moves_and_hides_each_original_as_if_it_were_alone(name: str, context: Context) -> None:
    for seed in range(2):
        picture = gather(plain(3 - seed), np.random.default_rng(seed), 2, context)
        edited = apply_edit(picture, name, 2, np.random.default_rng(seed), context)
        assert len(edited.others) == 2 - seed
        for alone, before in zip(edited.each(), picture.each(), strict=True):
            single = apply_edit(before, name, 2, np.random.default_rng(seed), context)
            assert np.array_equal(alone.pixels, single.pixels) and alone.steps == single.steps
            assert np.array_equal(alone.frame, single.frame) and np.array_equal(alone.visible, single.visible)


@pytest.mark.parametrize("name", ["hflip", "vflip", "turn", "crop", "scale", "aspect", "rotate", "perspective", "pad"])
def test_after_a_move_the_masks_still_are_where_the_colours_are(name: str, context: Context) -> None:
    picture = gather(plain(4), np.random.default_rng(1), 1, context)
    edited = apply_edit(picture, name, 1, np.random.default_rng(0), context)
    for alone, colour in zip(edited.each(), COLOURS, strict=True):
        seen = np.abs(edited.pixels.astype(int) - colour).max(axis=2) < 40
        assert (seen & alone.visible).sum() > 0.93 * (seen | alone.visible).sum()


def test_all_originals_of_a_random_picture_are_recognisable(context: Context, waves: np.ndarray) -> None:
    originals = [waves, np.ascontiguousarray(waves[::-1, :, ::-1]), 255 - waves]
    for seed in range(12):
        picture = gather_at_random(originals, np.random.default_rng(seed), context, MIXTURES["usual"], 300)
        names = [step.name for step in picture.steps]
        assert names[0] == SEVERAL and len(picture.others) == 2 and max(picture.size_hw) <= 300
        assert len(names) == 1 or all(is_recognisable(alone) for alone in picture.each())


def test_one_original_that_is_gone_makes_a_picture_unrecognisable(waves: np.ndarray) -> None:
    half = np.zeros(waves.shape[:2], dtype=bool)
    half[:, :100] = True
    whole = Edited.start(waves)
    both = Edited(waves, whole.frame, half).joined(Edited(waves, whole.frame, ~half))
    assert is_recognisable(both)
    assert not is_recognisable(both.painted(waves, ~half))
    with pytest.raises(ValueError, match="visible"):
        both.moved(waves, lambda mask: mask[:5], whole.frame)


def test_one_picture_is_not_several(context: Context) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        gather(plain(1), np.random.default_rng(0), 1, context)
