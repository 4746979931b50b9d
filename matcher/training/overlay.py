"""The overlay detector learns to find what is pasted, from scenes whose boxes are known."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from matcher.errors import MatcherError, UsageError
from matcher.metrics.detection import rank_boxes
from matcher.metrics.ranking import recall_at_precision
from matcher.models import checkpoint
from matcher.models.cards import find_model
from matcher.models.overlay_yolo import CLASSES, Detections, OverlayDetector
from matcher.training.model_training import ModelTraining
from matcher.training.overlay_scenes import SceneBatch
from matcher.training.settings import OptimiserSettings

TERMS = ("box", "class", "edges")  # of the loss
LEAST_CONFIDENCE = 0.05  # of the boxes that validation looks at


class OverlayTraining(ModelTraining):
    """Trains an OverlayDetector on OverlayScenes.

    Args:
        size: longer side of the pictures in pixels, a multiple of 32
        width: channels, as a share of YOLOv5l's; 0.25 = yolov5n
        depth: repetitions of its blocks likewise; 0.33 = yolov5n
        weights: a checkpoint of a detector of this width and depth to begin from, or the bare name of one in checkpoints/overlay;
            null = random ones
        seed: of the random weights
        optimiser: how the weights follow the loss
    """

    def __init__(
        self,
        *,
        size: int = 224,
        width: float = 0.25,
        depth: float = 0.33,
        weights: str | None = None,
        seed: int = 0,
        optimiser: OptimiserSettings = OptimiserSettings(learning_rate=2e-3, warm_up=100, average=0.99),
    ) -> None:
        detector = OverlayDetector(size=size, width=width, depth=depth, seed=seed)
        if weights is not None:
            begin_from(detector, weights)
        super().__init__(detector.to(memory_format=torch.channels_last), optimiser)
        self.found: list[tuple[Detections, Any, Any]] = []  # of validation: what was found, true boxes and classes of each picture

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (B, 3, h, w), 0 to 1 -> boxes (B, A, 4) and probabilities (B, A, 3), by the result."""
        return self.result.decode(self.result(pictures))

    def training_step(self, batch: SceneBatch, batch_idx: int) -> Tensor:
        raw = self.model(batch.pixels.to(memory_format=torch.channels_last))
        terms = self.model.loss(raw, batch.boxes, batch.classes)
        loss = terms.sum()
        if self.trainer.global_step % self.trainer.log_every_n_steps == 0 and not loss.isfinite():
            raise MatcherError(f"the loss is {loss.item()} at step {self.trainer.global_step:,}: lower the learning rate")
        logged = {"train_loss": loss, **{f"train_{name}": term for name, term in zip(TERMS, terms, strict=True)}}
        self.log_dict(logged, batch_size=len(batch.pixels))
        return loss

    def on_validation_epoch_start(self) -> None:
        self.found = []
        self.result.eval()

    def validation_step(self, batch: SceneBatch, batch_idx: int) -> None:
        """What the result finds in held-out scenes."""
        pixels = batch.pixels.to(memory_format=torch.channels_last)
        found = self.result.find(pixels, filled=batch.filled, threshold=LEAST_CONFIDENCE)
        scale = batch.boxes.new_tensor([*batch.filled, *batch.filled])
        truth = zip((batch.boxes / scale).cpu().numpy(), batch.classes.cpu().numpy(), strict=True)
        self.found += [(one, boxes, classes) for one, (boxes, classes) in zip(found, truth, strict=True)]

    def on_validation_epoch_end(self) -> None:
        """Logs the recall at precision 0.9 (IoU 0.5) and the confidence where it is reached, of pasted pictures and of each other class."""
        for number, name in enumerate(CLASSES):
            boxes = [found.boxes[found.classes == number] for found, _, _ in self.found]
            confidence = [found.confidence[found.classes == number] for found, _, _ in self.found]
            truth = [true[classes == number] for _, true, classes in self.found]
            recall, threshold = recall_at_precision(rank_boxes(boxes, confidence, truth), 0.9)
            ending = f"_{name.split()[0]}" if number else ""
            self.log_dict({f"val_recall_at_p90{ending}": float(recall), f"val_threshold{ending}": float(threshold)})


def begin_from(detector: OverlayDetector, name: str) -> None:
    """Copies a checkpoint's weights; the size of the pictures may differ. UsageError if the networks do."""
    found = checkpoint.load(find_model(name, ("overlay",)), kind=OverlayDetector.__name__)
    assert isinstance(found, OverlayDetector)
    for what in ("width", "depth"):
        if getattr(found, what) != getattr(detector, what):
            raise UsageError(f"model.weights: {name} has {what} {getattr(found, what)}, and model.{what} is {getattr(detector, what)}")
    detector.load_state_dict(found.state_dict())
