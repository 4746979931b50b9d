import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from matcher.errors import MatcherError, UsageError
from matcher.metrics.detection import box_iou
from matcher.models.checkpoint import load, save
from matcher.models.overlay_yolo import CLASSES, GREY, OverlayDetector, letterbox

pytestmark = pytest.mark.skipif(find_spec("ultralytics") is None, reason="the extra overlay is not installed")
ROOT = Path(__file__).parents[2]


def toy_scenes(count, seed, side=64):
    """Noise with one bright block each: pictures (B, 3, S, S), boxes (B, 2, 4) of which the second is none, classes (B, 2)."""
    rng = np.random.default_rng(seed)
    pictures, boxes = rng.uniform(0, 0.3, (count, 3, side, side)), np.zeros((count, 2, 4))
    for row in range(count):
        w, h = rng.uniform(0.3, 0.6, 2)
        x, y = rng.uniform(0, 1 - w), rng.uniform(0, 1 - h)
        x0, y0, x1, y1 = (round(v * side) for v in (x, y, x + w, y + h))
        pictures[row, :, y0:y1, x0:x1] = rng.uniform(0.6, 1.0, (3, 1, 1))
        boxes[row, 0] = np.array([x0, y0, x1, y1]) / side
    return torch.tensor(pictures).float(), torch.tensor(boxes).float(), torch.tensor([[0, -1]] * count)


@pytest.fixture(scope="module")
def untrained():
    return OverlayDetector(size=64, width=0.125)


@pytest.fixture(scope="module")
def trained():
    """A detector that has learnt four toy scenes by heart, and its losses."""
    detector = OverlayDetector(size=64, width=0.125).train()
    optimiser, losses = torch.optim.AdamW(detector.parameters(), 4e-3), []
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.3  # its statistics must be right after a few steps
    pictures, boxes, classes = toy_scenes(4, seed=0)
    for _ in range(40):
        loss = detector.loss(detector(pictures), boxes, classes).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return detector.eval(), losses


def test_the_loss_falls_on_toy_scenes(trained):
    losses = trained[1]
    assert np.mean(losses[27:30]) < 0.4 * np.mean(losses[:3])


def test_what_was_learnt_is_found_where_it_lies(trained):
    pictures, boxes, _ = toy_scenes(4, seed=0)
    found = trained[0].detect_many([(picture.permute(1, 2, 0).numpy() * 255).astype(np.uint8) for picture in pictures], threshold=0.1)
    for one, true in zip(found, boxes[:, 0], strict=True):
        assert CLASSES[one.classes[0]] == "pasted picture"
        assert box_iou(one.boxes[:1], [true.tolist()])[0, 0] > 0.5
        assert (np.diff(one.confidence) <= 0).all()


@pytest.mark.parametrize("hw", [(120, 240), (240, 120), (37, 41), (64, 64), (1, 500)])
def test_a_box_of_the_filled_part_is_the_whole_picture(untrained, monkeypatch, hw):
    shapes = []

    def whole(raw):
        h, w = (8 * side for side in raw["feats"][0].shape[-2:])
        shapes.append((h, w))
        scale = min(64 / hw[0], 64 / hw[1])
        box = [0, 0, max(1, round(hw[1] * scale)) / w, max(1, round(hw[0] * scale)) / h]
        return torch.tensor([[box], [box]]), torch.tensor(2 * [[[0.9, 0.0, 0.0]]])  # of the picture and of its mirror image

    monkeypatch.setattr(untrained, "decode", whole)
    found = untrained.detect(np.zeros((*hw, 3), dtype=np.uint8))
    np.testing.assert_allclose(found.boxes, [[0, 0, 1, 1]], atol=1e-6)
    assert max(shapes[0]) == 64
    assert not any(side % 32 for side in shapes[0])


def test_decoding_gives_what_ultralytics_gives(untrained):
    head, batch = untrained.network.model[-1], torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        boxes, probabilities = untrained.decode(untrained(batch))
        head.training = False
        middle, size = untrained.network(batch)[0].mT[..., :4].split(2, dim=-1)
        expected = untrained.network(batch)[0].mT[..., 4:]
        head.training = True
    pixels = torch.cat([middle - size / 2, middle + size / 2], dim=-1)
    torch.testing.assert_close(boxes * torch.tensor([96.0, 64, 96, 64]), pixels, atol=1e-4, rtol=0)
    torch.testing.assert_close(probabilities, expected)


def test_many_pictures_of_many_shapes_give_what_each_gives_alone(trained):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (h, w, 3), dtype=np.uint8) for h, w in ((40, 80), (90, 90), (80, 160), (33, 20))]
    with ThreadPoolExecutor(4) as pool:
        alone = list(pool.map(lambda pixels: trained[0].detect(pixels, threshold=0.001), pictures * 3))
    for one, other in zip(trained[0].detect_many(pictures * 3, threshold=0.001), alone, strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-4)
        np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-4)
    assert trained[0].detect_many([]) == []


def test_letterbox_moves_boxes_with_the_pixels():
    pictures, boxes = torch.zeros(1, 3, 64, 64), torch.tensor([[[0.25, 0.5, 0.75, 1.0]]])
    pictures[:, :, 32:, 16:48] = 1.0
    batch, moved, filled = letterbox(pictures, boxes, aspect=1.6, size=64)  # 40 of 64 rows
    assert batch.shape == (1, 3, 64, 64)
    assert filled == (1.0, 40 / 64)
    x0, y0, x1, y1 = (moved[0, 0] * 64).round().int().tolist()
    assert (x0, y0, x1, y1) == (16, 20, 48, 40)
    assert (batch[0, :, y0 + 1 : y1 - 1, x0 + 1 : x1 - 1] > 0.9).all()
    assert (batch[0, :, 40:] == GREY).all()


def test_scenes_without_boxes_teach_that_there_is_nothing(untrained):
    pictures, boxes, _ = toy_scenes(2, seed=0)
    terms = untrained.loss(untrained(pictures), boxes, torch.full((2, 2), -1))
    assert terms[0] == terms[2] == 0 < terms[1]


def test_same_seed_same_weights(untrained):
    again, other = OverlayDetector(size=64, width=0.125), OverlayDetector(size=64, width=0.125, seed=1)
    pairs = list(zip(untrained.state_dict().values(), again.state_dict().values(), other.state_dict().values(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


def test_a_checkpoint_gives_the_same_boxes(trained, tmp_path):
    save(tmp_path / "overlay.safetensors", trained[0], {})
    again = load(tmp_path / "overlay.safetensors", kind="OverlayDetector")
    pixels = np.random.default_rng(1).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    for one, other in zip(trained[0].detect(pixels, threshold=0.001), again.detect(pixels, threshold=0.001), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_size_that_is_no_multiple_of_32_is_refused():
    with pytest.raises(UsageError, match="multiple of 32, not 100"):
        OverlayDetector(size=100)


def test_without_ultralytics_the_error_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "ultralytics"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MatcherError, match=r"needs ultralytics: pip install matcher\[overlay\]"):
        OverlayDetector(size=64)


def test_ultralytics_leaves_no_trace(tmp_path):
    """No file written, no connection or look-up made, nothing patched, environment as before."""
    code = """
import json, os, sys, tempfile
import cv2, numpy, torch
from matcher.models.overlay_yolo import OverlayDetector
seen, before = [], (dict(os.environ), torch.save, cv2.getNumThreads(), numpy.get_printoptions())
def listen(event, arguments):
    if event.startswith(("socket.", "subprocess.")):
        seen.append(event)
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        seen.append(str(arguments[0]))
sys.addaudithook(listen)
OverlayDetector(size=32, width=0.125)
same = before == (dict(os.environ), torch.save, cv2.getNumThreads(), numpy.get_printoptions())
print(json.dumps([same, [name for name in seen if not name.startswith(tempfile.gettempdir()) and "__pycache__" not in name]]))
"""
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, []]
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("hw", [(64, 64), (64, 40), (30, 64)])
def test_a_picture_and_its_mirror_image_hold_the_same_boxes(trained, hw):
    pixels = np.random.default_rng(3).integers(0, 80, (*hw, 3), dtype=np.uint8)
    pixels[hw[0] // 5 : hw[0] // 2, hw[1] // 8 : hw[1] // 2] = 220
    straight, mirrored = trained[0].detect(pixels, threshold=0.001), trained[0].detect(pixels[:, ::-1], threshold=0.001)
    turned = mirrored.boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [1, 0, 1, 0]
    assert len(straight.boxes) == len(turned) > 0
    np.testing.assert_allclose(straight.confidence, mirrored.confidence, atol=1e-5)
    np.testing.assert_allclose(straight.boxes[:3], turned[:3], atol=1e-4)
