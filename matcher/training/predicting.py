"""`matcher predict`: descriptors of a folder of pictures, or scores of a list of pairs, by the pipeline's own code."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from matcher.describe import describe_views
from matcher.models.checkpoint import save
from matcher.settings import DescriptorSettings, ImageSettings, PairModelSettings, Scorers, SiftSettings, Strategy
from matcher.stages.job import Job
from matcher.stages.scoring import score_list
from matcher.storage.records import write_record
from matcher.types import Descriptors, Errors

PREDICTED = "predicted_by.safetensors"
NONE = SiftSettings(keypoints=0)
log = logging.getLogger("matcher")


class WriteDescriptors(Callback):
    """Describes each batch of pictures as it comes and writes descriptors.parquet and errors.parquet at the end.

    Args:
        folder: where they are written
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.found: list[Descriptors] = []
        self.errors: list[Errors] = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.found, self.errors = [], [trainer.datamodule.unread]

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: list[int], batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        settings = DescriptorSettings(backbone="", batch_size=len(batch))
        images = trainer.datamodule.images.take(batch)
        found, errors = describe_views(images, settings, image_settings=ImageSettings(), names=["whole"], model=pl_module.result)
        self.found.append(found)
        self.errors.append(errors)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        found, errors = Descriptors.concat(self.found), Errors.concat(self.errors)
        write_record(self.folder / "descriptors.parquet", found)
        write_record(self.folder / "errors.parquet", errors)
        log.info("wrote %d descriptors to %s, %d pictures cannot be used", len(found), self.folder / "descriptors.parquet", len(errors))


class WritePairScores(Callback):
    """Scores the data module's list of pairs as `matcher score` does with this pair model alone, in a folder of the same name.

    Args:
        folder: where a checkpoint of the model, and pair_scores, are written
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data, checkpoint = trainer.datamodule, self.folder / PREDICTED
        save(checkpoint, pl_module.result, {}, half=True)
        scorers = Scorers(sift=None, pair_model=PairModelSettings(model=str(checkpoint)))
        strategy = Strategy(query_keypoints=NONE, reference_keypoints=NONE, scorers=scorers)
        done = score_list(data.pairs, data.queries, data.references, self.folder / "pair_scores", strategy=strategy, job=Job())
        log.info("wrote %s", done)
