"""Homographies in batches against matcher.geometry, one at a time."""

import numpy as np
import torch

from matcher import geometry
from matcher.data.augmentations import homography as h


def some_frames(count=6):
    generator = torch.Generator().manual_seed(0)
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]) + 0.25 * (torch.rand(count, 4, 2, generator=generator) - 0.5)
    return corners, h.to_corners(corners)


def test_to_corners_sends_the_square_there():
    corners, frames = some_frames()
    for goal, frame in zip(corners, frames, strict=True):
        np.testing.assert_allclose(geometry.corners(frame.double().numpy()), goal.numpy(), atol=1e-5)


def test_inverse_and_apply_agree_with_geometry():
    _, frames = some_frames()
    points = torch.rand(9, 2, generator=torch.Generator().manual_seed(1))
    for frame, back, moved in zip(frames, h.inverse(frames), h.apply(frames, points), strict=True):
        np.testing.assert_allclose(geometry.normalise(back.double().numpy()), geometry.invert(frame.double().numpy()), atol=1e-4)
        np.testing.assert_allclose(moved.numpy(), geometry.apply(frame.double().numpy(), points.double().numpy()), atol=1e-5)


def test_raster_is_apply_at_the_middles_of_pixels():
    _, frames = some_frames()
    y, x = torch.meshgrid(*2 * [(torch.arange(5) + 0.5) / 5], indexing="ij")
    slow = h.apply(frames, torch.stack([x, y], dim=-1).reshape(-1, 2)).unflatten(1, (5, 5))
    torch.testing.assert_close(torch.stack(h.raster(frames, 5), dim=-1), slow)
    lines = torch.tensor([[1, 2]] * 6)
    torch.testing.assert_close(torch.stack(h.raster(frames, 5, lines), dim=-1), slow[:, 1:3])


def test_behind_the_horizon_is_nowhere():
    frame = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-2.0, 0.0, 1.0]]])
    x, y = h.raster(frame, 8)
    assert x[0, 0, :4].isfinite().all() and x[0, 0, 4:].isnan().all()
    assert not h.inside(x, y, torch.tensor([[-9.0, -9.0, 9.0, 9.0]]))[0, :, 4:].any()


def test_turned_in_place_keeps_the_middle_and_real_lengths():
    frame, aspect = h.from_box(torch.tensor([[0.2, 0.4, 0.6, 0.8]])), torch.tensor([2.0])
    turned = h.turned_in_place(frame, torch.tensor([np.pi / 2], dtype=torch.float32), aspect)
    corners = h.apply(turned, torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.5]]))[0]
    torch.testing.assert_close(corners[2], torch.tensor([0.4, 0.6]))
    assert abs(float(corners[1, 0] - corners[0, 0])) < 1e-6
    assert abs(float((corners[1, 1] - corners[0, 1]) - 0.8)) < 1e-6  # 0.4 of a width is 0.8 of a height
