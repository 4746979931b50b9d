"""The number that is watched is the final number: a small benchmark of held-out photos, by the pipeline's own code."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import cv2
import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from matcher.background import KEY_BYTES, Background
from matcher.data.benchmark import write_jpeg
from matcher.data.photo_bank import PhotoBank
from matcher.data.synthesize import synthesize
from matcher.describe import describe_views
from matcher.errors import ImageError, MatcherError
from matcher.geometry import identity
from matcher.images.decode import content_key, read_bytes
from matcher.images.table import ImageSet, read_images
from matcher.metrics import ranking
from matcher.metrics.judged import judge
from matcher.metrics.predicted import ScoredPairs
from matcher.metrics.truth import GroundTruth
from matcher.models.descriptor import Descriptor, evaluating
from matcher.models.pair_model import PairModel
from matcher.scoring.encoded_views import View
from matcher.scoring.pair_model import PairJudge, ViewPair
from matcher.settings import DescriptorSettings, ImageSettings, PairModelSettings
from matcher.shortlist.neighbours import neighbours
from matcher.storage.aside import read_json
from matcher.storage.home import located
from matcher.types import Descriptors

log = logging.getLogger("matcher")
BATCH = 64
LIMITS = ImageSettings()
EXPORT_QUALITY = 95
WHOLE = ["whole"]


@dataclass(frozen=True)
class SmallBenchmark:
    """Queries and references as files, what is true, and photos that are none of them."""

    queries: ImageSet
    references: ImageSet
    truth: GroundTruth
    strangers: torch.Tensor  # (N, 3, P, P) uint8, training photos

    @classmethod
    def of(cls, folder: Path, strangers: torch.Tensor) -> Self:
        """A folder that `synthesize` made -> benchmark."""
        sides = [read_images(folder / name, name)[0] for name in ("queries", "references")]
        return cls(sides[0], sides[1], GroundTruth.read(folder / "ground_truth.csv"), strangers)

    def measure(self, model: Descriptor, *, per_query: int, nearest: int) -> dict[str, float]:
        """A descriptor -> uAP, recall at precision 0.9, recall at 1 and at ``per_query``; similarities normalised against the strangers."""
        queries, references = describe_whole(self.queries, model), describe_whole(self.references, model)
        penalty = self.background(model).penalty(queries.rows, weight=1.0, nearest=min(nearest, len(self.strangers)))
        found = neighbours(queries, references, per_query=per_query, penalty=penalty)
        judged = judge(ScoredPairs.from_scores(found.query_id, found.reference_id, found.similarity), self.truth).ranking
        return {
            "micro_ap": float(ranking.micro_ap(judged)),
            "recall_at_p90": float(ranking.recall_at_precision(judged)[0]),
            "recall_at_rank1": float(ranking.recall_at_rank(judged, 1)),
            f"recall_at_rank{per_query}": float(ranking.recall_at_rank(judged, per_query)),
        }

    def measure_pairs(self, model: PairModel, *, shortlist: Descriptor, per_query: int) -> dict[str, float]:
        """A pair model on what a descriptor shortlists -> uAP, recall at precision 0.9 and at 1 by its logits on the whole pictures."""
        queries, references = describe_whole(self.queries, shortlist), describe_whole(self.references, shortlist)
        found = neighbours(queries, references, per_query=per_query)
        views = [views_of(images) for images in (self.queries, self.references)]
        pairs = [[ViewPair(views[0][q], views[1][r])] for q, r in zip(found.query_id.tolist(), found.reference_id.tolist(), strict=True)]
        settings = PairModelSettings(model="", batch_size=BATCH)
        with evaluating(model):
            told = PairJudge(model, made_by="training", settings=settings, image_settings=LIMITS).judge(pairs)
        logits = [one.evidence["pair_logit"] for one in told if not isinstance(one, ImageError)]
        judged = judge(ScoredPairs.from_scores(found.query_id, found.reference_id, logits), self.truth).ranking
        return {
            "micro_ap": float(ranking.micro_ap(judged)),
            "recall_at_p90": float(ranking.recall_at_precision(judged)[0]),
            "recall_at_rank1": float(ranking.recall_at_rank(judged, 1)),
        }

    def background(self, model: Descriptor) -> Background:
        """The strangers as a background set of this descriptor."""
        pixels = self.strangers.permute(0, 2, 3, 1).cpu().numpy()
        sized = [cv2.resize(picture, (model.size, model.size), interpolation=cv2.INTER_AREA) for picture in pixels]
        rows = np.concatenate([model.describe(np.stack(sized[i : i + BATCH])) for i in range(0, len(sized), BATCH)])
        return Background(rows, keys=np.empty((0, KEY_BYTES), dtype=np.uint8), card={})


def views_of(images: ImageSet) -> dict[str, View]:
    """Pictures -> the whole of each as a view, by id."""
    return {
        id_: View(path, content_key(read_bytes(path, settings=LIMITS)), identity())
        for id_, path in zip(images.id.tolist(), images.path.tolist(), strict=True)
    }


def describe_whole(images: ImageSet, model: Descriptor) -> Descriptors:
    """Pictures and a descriptor -> their descriptors, whole pictures only."""
    settings, workers = DescriptorSettings(backbone="", batch_size=BATCH), len(os.sched_getaffinity(0))
    return describe_views(images, settings, image_settings=LIMITS, names=WHOLE, model=model, workers=workers)[0]


class RetrievalCheck(Callback):
    """After each validation, and in `matcher validate` and `test`: logs val_micro_ap and recalls (test_ with other queries).

    Args:
        queries: edited pictures, half of them copies of nothing
        references: held-out photos that are searched, at most two in three of them
        strangers: training photos that similarities are normalised against
        difficulty: of the edits
        per_query: references looked at for each query
        nearest: strangers whose mean similarity is taken off
        shortlist: the descriptor that finds what a pair model judges: a checkpoint file, or the bare name of one in checkpoints/descriptor
        seed: of the benchmark; `test` uses the one after it
        cache: folder where the benchmark is kept; null = inside trainer.default_root_dir
    """

    def __init__(
        self,
        *,
        queries: int = 300,
        references: int = 400,
        strangers: int = 1000,
        difficulty: Literal["easy", "usual", "hard"] = "usual",
        per_query: int = 10,
        nearest: int = 3,
        shortlist: str = "copydetect",
        seed: int = 0,
        cache: str | None = None,
    ) -> None:
        self.queries, self.references, self.strangers, self.difficulty = queries, references, strangers, difficulty
        self.per_query, self.nearest, self.shortlist, self.seed = per_query, nearest, shortlist, seed
        self.cache = located(cache)
        self.made: dict[int, SmallBenchmark] = {}

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.check(trainer, pl_module, prefix="val_", seed=self.seed)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.check(trainer, pl_module, prefix="test_", seed=self.seed + 1)

    def check(self, trainer: Trainer, pl_module: LightningModule, *, prefix: str, seed: int) -> None:
        """Measures the module's result and logs it; of several processes, the first one does, and the others wait."""
        if trainer.is_global_zero:
            self.measure(trainer, pl_module, prefix=prefix, seed=seed)
        trainer.strategy.barrier()

    def measure(self, trainer: Trainer, pl_module: LightningModule, *, prefix: str, seed: int) -> None:
        if seed not in self.made:
            self.made[seed] = self.make(trainer, seed)
        model: Any = pl_module.result
        if isinstance(model, PairModel):
            descriptor = Descriptor.from_settings(DescriptorSettings(backbone=self.shortlist)).to(model.device)
            found = self.made[seed].measure_pairs(model, shortlist=descriptor, per_query=self.per_query)
        else:
            found = self.made[seed].measure(model, per_query=self.per_query, nearest=self.nearest)
        pl_module.log_dict({prefix + name: value for name, value in found.items()}, rank_zero_only=True)
        at = f"step {trainer.global_step}: " if trainer.state.fn == "fit" else ""
        log.info("%s%s", at, ", ".join(f"{prefix}{name} {value:.3f}" for name, value in found.items()))

    def make(self, trainer: Trainer, seed: int) -> SmallBenchmark:
        """The benchmark of the data module's held-out photos; made once, then read from the cache."""
        data = trainer.datamodule
        room = Path(self.cache) if self.cache else Path(trainer.default_root_dir) / "check"
        chosen = torch.randperm(len(data.bank), generator=torch.Generator().manual_seed(seed))[: self.strangers]
        return SmallBenchmark.of(self.synthesized(data.held_out, room, seed), data.bank.pixels[chosen.to(data.bank.pixels.device)])

    def synthesized(self, bank: PhotoBank, room: Path, seed: int) -> Path:
        """Held-out photos -> the folder of a benchmark made of them."""
        references = min(self.references, len(bank) * 2 // 3)
        made_of = {"photos": bank.digest, "queries": self.queries, "references": references}
        text = json.dumps({**made_of, "difficulty": self.difficulty, "seed": seed}, sort_keys=True)
        folder = room / hashlib.sha256(text.encode()).hexdigest()[:16]
        if not is_complete(folder):
            photos = write_photos(bank, room / f"photos-{folder.name}")
            summary = synthesize(
                str(photos), str(folder), queries=self.queries, references=references, difficulty=self.difficulty, max_side=480, seed=seed
            )
            log.info("made a small benchmark of held-out photos in %s: %d queries", folder, summary.positives + summary.distractors)
        return folder


def is_complete(folder: Path) -> bool:
    """Did `synthesize` finish in this folder?"""
    try:
        return bool(read_json(folder / "card.json")["complete"])
    except (MatcherError, KeyError):
        return False


def write_photos(bank: PhotoBank, folder: Path) -> Path:
    """The photos of a bank as JPEG files, unsquashed -> their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    side = bank.pixels.shape[-1]
    for row, aspect in enumerate(bank.aspect.tolist()):
        size = (round(side * max(1.0, aspect)), round(side * max(1.0, 1 / aspect)))  # the shorter side keeps its pixels
        pixels = bank.pixels[row].permute(1, 2, 0).cpu().numpy()
        write_jpeg(folder / f"{row:06d}.jpg", cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC), EXPORT_QUALITY)
    return folder
