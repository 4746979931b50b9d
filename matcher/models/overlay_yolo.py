"""Finds what is pasted into a picture: YOLOv5's network and its anchor-free head, from the YAML that ultralytics carries.

ultralytics is AGPL-3.0: it is an extra (`pip install matcher[overlay]`), imported in this file only and when a detector is
made. Its network and its loss are used, not its trainer, settings, files or telemetry. Decoding is done here, because its
own keeps anchors in the module, where threads would meet.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad
from torchvision.ops import batched_nms

from matcher.errors import MatcherError, UsageError

CLASSES = ("pasted picture", "emoji or sticker", "text block")  # numbered as in data.augmentations
STRIDE = 32  # sides of what the network sees are multiples of it
GREY = 114 / 255  # beside the picture
OVERLAP = 0.5  # of two boxes of one class, the less certain one is dropped above this IoU
MOST = 30  # boxes of a picture
TOGETHER = 32  # pictures in one forward pass
QUIET = {"YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false", "YOLO_AUTOINSTALL": "false"}


class Detections(NamedTuple):
    """What was found in one picture, the most certain first."""

    boxes: NDArray[np.float32]  # (K, 4) x0, y0, x1, y1 on the picture's unit square
    classes: NDArray[np.int64]  # (K,) index of CLASSES
    confidence: NDArray[np.float32]  # (K,) 0 to 1


class OverlayDetector(nn.Module):
    """Pictures -> boxes of pasted pictures, stickers and text blocks.

    Args:
        size: longer side, in pixels, that pictures are brought to; a multiple of 32
        width: channels, as a share of YOLOv5l's; 0.25 = yolov5n
        depth: repetitions of its blocks likewise; 0.33 = yolov5n
        seed: of the random weights

    MatcherError if ultralytics is not installed.
    """

    def __init__(self, *, size: int = 224, width: float = 0.25, depth: float = 0.33, seed: int = 0) -> None:
        super().__init__()
        if size < STRIDE or size % STRIDE:
            raise UsageError(f"the overlay detector's size must be a multiple of {STRIDE}, not {size}")
        self.size, self.width, self.depth = size, width, depth
        with quiet_ultralytics():
            from ultralytics.nn.tasks import DetectionModel, yaml_model_load

            config = yaml_model_load("yolov5n.yaml") | {"scales": {"n": [depth, width, 1024]}}
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.network = DetectionModel(config, nc=len(CLASSES), verbose=False)
        self.network.args = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5)  # weights of the three terms of the loss
        self.strides = [int(stride) for stride in self.network.stride]
        self.eval()

    @property
    def arguments(self) -> dict[str, Any]:
        """What makes a network of this shape again."""
        return {"size": self.size, "width": self.width, "depth": self.depth}

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What the weights were trained on."""
        return {"size": self.size, "range": [0, 1], "colours": "RGB", "letterbox": {"at": "top left", "multiple": STRIDE, "grey": GREY}}

    def train(self, mode: bool = True) -> Self:
        """As for every module; the head alone always gives what the loss wants, its layers follow the mode."""
        super().train(mode)
        self.network.model[-1].training = True
        return self

    def forward(self, batch: Tensor) -> dict[str, Any]:
        """Pictures (B, 3, h, w) float RGB in 0..1, sides multiples of 32 -> the head's raw boxes (B, 64, A), scores (B, 3, A) and feats."""
        return self.network(batch)

    def loss(self, raw: dict[str, Any], boxes: Tensor, classes: Tensor) -> Tensor:
        """What ``forward`` gave, boxes (B, M, 4) on the unit square of its input, classes (B, M), -1 = none -> the three terms.

        Box, class and distribution loss of YOLOv8 with task-aligned assignment, weighted, each a mean over the pictures: (3,).
        """
        from ultralytics.utils.loss import v8DetectionLoss

        picture, place = (classes >= 0).nonzero(as_tuple=True)
        low, high = boxes[picture, place].float().split(2, dim=1)
        truth = {"batch_idx": picture, "cls": classes[picture, place], "bboxes": torch.cat([(low + high) / 2, high - low], dim=1)}
        with torch.autocast(boxes.device.type, enabled=False):
            precise = {"boxes": raw["boxes"].float(), "scores": raw["scores"].float(), "feats": raw["feats"]}
            terms, _ = v8DetectionLoss(self.network)(precise, truth)
        return terms / len(boxes)

    def decode(self, raw: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """What ``forward`` gave -> boxes (B, A, 4) on the unit square of its input, probabilities (B, A, 3), not yet thinned out."""
        places, steps = anchors([tuple(level.shape[-2:]) for level in raw["feats"]], self.strides, raw["boxes"].device)
        distances = self.network.model[-1].dfl(raw["boxes"].float()).mT * steps  # (B, A, 4) pixels to left, top, right, bottom
        corners = torch.cat([places - distances[..., :2], places + distances[..., 2:]], dim=-1)
        h, w = (side * self.strides[0] for side in raw["feats"][0].shape[-2:])
        return corners / corners.new_tensor([w, h, w, h]), raw["scores"].float().sigmoid().mT

    @torch.no_grad()
    def find(self, batch: Tensor, *, filled: tuple[float, float], threshold: float) -> list[Detections]:
        """Letterboxed pictures (B, 3, h, w) and the share (x, y) of them that is picture -> what is found in each.

        The network looks at a picture and at its mirror image; of boxes that both give, the more certain one counts.
        """
        width = round(filled[0] * batch.shape[-1])
        mirrored = torch.cat([batch[..., :width].flip(-1), batch[..., width:]], dim=-1)
        boxes, probabilities = self.decode(self(torch.cat([batch, mirrored])))
        straight, turned = (boxes / boxes.new_tensor([*filled, *filled])).chunk(2)
        back = torch.stack([1 - turned[..., 2], turned[..., 1], 1 - turned[..., 0], turned[..., 3]], dim=-1)
        both = torch.cat([straight, back], dim=1).clamp(0, 1), torch.cat(probabilities.chunk(2), dim=1)
        return [thin_out(b, p, threshold) for b, p in zip(*both, strict=True)]

    def detect(self, pixels: NDArray[np.uint8], *, threshold: float = 0.25) -> Detections:
        """Picture (H, W, 3) uint8 RGB -> boxes, classes and confidence of everything with at least this confidence."""
        return self.detect_many([pixels], threshold=threshold)[0]

    def detect_many(self, pictures: Sequence[NDArray[np.uint8]], *, threshold: float = 0.25) -> list[Detections]:
        """Pictures (H, W, 3) uint8 RGB of any sizes -> what is found in each; those of one shape go through together."""
        device = next(self.parameters()).device
        found: dict[int, Detections] = {}
        shapes: dict[tuple[int, int], list[int]] = {}
        for row, pixels in enumerate(pictures):
            shapes.setdefault(fitted(pixels.shape[1] / pixels.shape[0], self.size), []).append(row)
        for hw, rows in shapes.items():
            for some in (rows[start : start + TOGETHER] for start in range(0, len(rows), TOGETHER)):
                shrunk = torch.from_numpy(np.stack([shrink(pictures[row], hw) for row in some])).to(device)
                batch, filled = fill_up(shrunk.permute(0, 3, 1, 2).float() / 255)
                found |= zip(some, self.find(batch, filled=filled, threshold=threshold), strict=True)
        return [found[row] for row in range(len(pictures))]


def thin_out(boxes: Tensor, probabilities: Tensor, threshold: float) -> Detections:
    """Boxes (A, 4), probabilities (A, 3) of one picture -> the best box of each heap of boxes of one class."""
    confidence, classes = probabilities.max(dim=1)
    good = (confidence >= threshold) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    boxes, confidence, classes = boxes[good], confidence[good], classes[good]
    kept = batched_nms(boxes, confidence, classes, OVERLAP)[:MOST]
    return Detections(boxes[kept].cpu().numpy(), classes[kept].cpu().numpy(), confidence[kept].cpu().numpy())


def anchors(shapes: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Heights and widths of the feature maps -> the middle of each of their cells (A, 2) in pixels, and its stride (A, 1)."""
    places, steps = [], []
    for (h, w), stride in zip(shapes, strides, strict=True):
        y, x = torch.meshgrid(torch.arange(h, device=device), torch.arange(w, device=device), indexing="ij")
        places.append((torch.stack([x, y], dim=-1).view(-1, 2) + 0.5) * stride)
        steps.append(torch.full((h * w, 1), float(stride), device=device))
    return torch.cat(places), torch.cat(steps)


def fitted(aspect: float, size: int) -> tuple[int, int]:
    """Width / height of a picture -> its height and width in pixels when the longer side is ``size``."""
    return max(1, round(size / max(1.0, aspect))), max(1, round(size * min(1.0, aspect)))


def shrink(pixels: NDArray[np.uint8], hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Picture (H, W, 3) -> (h, w, 3), averaged over areas where it gets smaller."""
    smaller = hw[0] <= pixels.shape[0] and hw[1] <= pixels.shape[1]
    return np.asarray(cv2.resize(pixels, hw[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR))


def letterbox(pixels: Tensor, boxes: Tensor, *, aspect: float, size: int) -> tuple[Tensor, Tensor, tuple[float, float]]:
    """Squares (B, 3, S, S) that show pictures of one aspect (width / height), and boxes (B, M, 4) on them -> both as the network sees them.

    The third is the share (x, y) of the result that is picture.
    """
    shrunk = interpolate(pixels, size=fitted(aspect, size), mode="bilinear", antialias=True).clamp(0, 1)
    batch, filled = fill_up(shrunk)
    return batch, boxes * boxes.new_tensor([*filled, *filled]), filled


def fill_up(batch: Tensor) -> tuple[Tensor, tuple[float, float]]:
    """Pictures (B, 3, h, w) -> grey added right and below up to multiples of 32, and the share (x, y) that is picture."""
    h, w = batch.shape[-2:]
    right, below = -w % STRIDE, -h % STRIDE
    return pad(batch, (0, right, 0, below), value=GREY), (w / (w + right), h / (h + below))


@contextmanager
def quiet_ultralytics() -> Iterator[None]:
    """A block that may import ultralytics without what that does to a process: settings in the home folder, a look at the network, patches.

    MatcherError if it is not installed.
    """
    before = dict(os.environ)
    save, threads, printed = torch.save, cv2.getNumThreads(), np.get_printoptions()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        os.environ.update(QUIET, YOLO_CONFIG_DIR=folder)
        try:
            yield
        except ModuleNotFoundError as error:
            missing = (error.name or "ultralytics").split(".")[0]
            raise MatcherError(f"the overlay detector needs {missing}: pip install matcher[overlay] (ultralytics is AGPL-3.0)") from error
        finally:
            for name in set(os.environ) - set(before):
                del os.environ[name]
            os.environ.update(before)
            torch.save = save
            cv2.setNumThreads(threads)
            np.set_printoptions(**printed)
