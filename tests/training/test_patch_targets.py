"""Where patches lie, against a slow version that asks one point after the other."""

import numpy as np
import pytest
import torch

from matcher import geometry
from matcher.training.patch_targets import POINTS, patch_targets

GRID, SIDE = 3, 24


def slow_targets(frame, visible):
    """One frame and mask -> both tables, point by point."""
    tables = np.zeros((2, GRID**2, GRID**2 + 1))
    back = geometry.invert(frame)
    steps = (np.arange(GRID * POINTS) + 0.5) / (GRID * POINTS)
    for y in steps:
        for x in steps:
            own = int(y * GRID) * GRID + int(x * GRID)
            for table, move in enumerate((back, frame)):
                ((u, v),) = geometry.apply(move, [[x, y]])
                on_query = (x, y) if table == 0 else (u, v)
                inside = 0 <= u < 1 and 0 <= v < 1
                seen = inside and visible[int(on_query[1] * SIDE), int(on_query[0] * SIDE)]
                goal = int(v * GRID) * GRID + int(u * GRID) if seen else GRID**2
                tables[table, own, goal] += 1 / POINTS**2
    return tables


FRAMES = {
    "as it is": np.eye(3),
    "mirrored": geometry.flip(),
    "turned": geometry.turn(1),
    "pasted": geometry.from_box(0.31, 0.07, 0.83, 0.61),
    "cropped": geometry.from_box(-0.6, -0.33, 1.21, 1.47),
    "in perspective": np.array([[0.81, 0.13, 0.02], [0.07, 0.93, -0.04], [0.21, 0.17, 1.0]]),
}


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("covered", [False, True])
def test_targets_are_those_of_single_points(name, covered):
    visible = np.ones((SIDE, SIDE), dtype=bool)
    if covered:
        visible[4:15, 9:] = False
    found = patch_targets(torch.tensor(FRAMES[name][None]).float(), torch.tensor(visible[None, None]), grid=GRID)
    for table, expected in zip(found, slow_targets(FRAMES[name], visible), strict=True):
        assert torch.allclose(table.sum(-1), torch.ones(1, GRID**2))
        np.testing.assert_allclose(table[0], expected, atol=1e-6)


def test_nothing_behind_the_horizon_is_found():
    frame = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-1.9, 0.0, 1.0]]])
    there, back = patch_targets(frame, torch.ones(1, 1, SIDE, SIDE, dtype=torch.bool), grid=GRID)
    assert there.isfinite().all() and back.isfinite().all()
    assert (back[0].view(GRID, GRID, -1)[:, 2, -1] == 1).all()  # x > 0.53 of the reference lies behind it
