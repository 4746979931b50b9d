"""`matcher predict`: descriptors of a folder of pictures, or scores of a list of pairs, by the pipeline's own code."""

from __future__ import annotations

import logging
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from matcher.describe import describe_views
from matcher.engine.shards import run_shards
from matcher.models.checkpoint import save
from matcher.settings import DescriptorSettings, ImageSettings, PairModelSettings, Scorers, SiftSettings, Strategy
from matcher.stages.job import Job
from matcher.stages.scoring import score_list
from matcher.storage.records import write_record
from matcher.training.devices import collect
from matcher.training.shared_shards import SharedShards
from matcher.types import Descriptors, Errors

PREDICTED = "predicted_by.safetensors"
NONE = SiftSettings(keypoints=0)
log = logging.getLogger("matcher")


class WriteDescriptors(Callback):
    """Describes each batch of pictures as it comes and writes descriptors.parquet and errors.parquet at the end, of all processes.

    Args:
        folder: where they are written
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.found: list[tuple[int, Descriptors, Errors]] = []  # first row of a batch, and what became of it

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.found = []

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: list[int], batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        settings = DescriptorSettings(backbone="", batch_size=len(batch))
        images = trainer.datamodule.images.take(batch)
        found, errors = describe_views(images, settings, image_settings=ImageSettings(), names=["whole"], model=pl_module.result)
        self.found.append((batch[0], found, errors))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        of_all = sorted((batch for batches in collect(self.found) for batch in batches), key=itemgetter(0))
        if not trainer.is_global_zero:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        found = Descriptors.concat([found for _, found, _ in of_all])
        errors = Errors.concat([trainer.datamodule.unread, *(errors for _, _, errors in of_all)])
        write_record(self.folder / "descriptors.parquet", found)
        write_record(self.folder / "errors.parquet", errors)
        log.info("wrote %d descriptors to %s, %d pictures cannot be used", len(found), self.folder / "descriptors.parquet", len(errors))


class WritePairScores(Callback):
    """Scores the data module's list of pairs as `matcher score` does with this pair model alone, in a folder of the same name.

    Of several processes, the first one describes the pictures, and all judge pairs: the same files as of one.

    Args:
        folder: where a checkpoint of the model, and pair_scores, are written
        fresh: throw earlier pair_scores away
    """

    def __init__(self, folder: Path, *, fresh: bool = False) -> None:
        self.folder, self.fresh = Path(folder), fresh

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size == 1:
            self.score(trainer.datamodule, pl_module, run_shards)
            return
        shared = SharedShards(trainer.num_devices)
        if not trainer.is_global_zero:
            shared.follow()
            return
        try:
            self.score(trainer.datamodule, pl_module, shared.lead)
        except Exception:
            shared.dismiss()
            raise

    def score(self, data: Any, pl_module: LightningModule, run: Callable[..., None]) -> None:
        """Writes the checkpoint and the scores; ``run`` has the pairs judged."""
        self.folder.mkdir(parents=True, exist_ok=True)
        checkpoint = self.folder / PREDICTED
        save(checkpoint, pl_module.result, {}, half=True)
        scorers = Scorers(sift=None, pair_model=PairModelSettings(model=str(checkpoint)))
        strategy = Strategy(query_keypoints=NONE, reference_keypoints=NONE, scorers=scorers)
        output = self.folder / "pair_scores"
        done = score_list(data.pairs, data.queries, data.references, output, strategy=strategy, job=Job(fresh=self.fresh), run=run)
        log.info("wrote %s", done)
