"""Two views of each photo, made on the device: the reference as it is, and an edited copy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, IterableDataset

from matcher.data.augmentations import Recipe
from matcher.data.photo_bank import PhotoBank, count_photos
from matcher.errors import MatcherError, UsageError
from matcher.images.table import ImageSet, read_images
from matcher.storage.home import located
from matcher.training.ahead import load_ahead
from matcher.training.devices import first_alone, process
from matcher.training.sampling import HELD_OUT, Draw, Draws
from matcher.training.schedule import Growth
from matcher.types import Errors

PICTURES_A_BATCH = 64  # of predict


@dataclass(frozen=True, eq=False)
class PairBatch:
    """What a training step sees, on all devices together; row i of both views shows the same photo."""

    reference: Tensor  # (B, 3, S, S) float32, 0 to 1
    edited: Tensor  # (B, 3, S, S) float32, 0 to 1
    source: Tensor  # (B,) int64, row of the photo in the bank
    seed: int
    negatives: Tensor | None = None  # (E, 3, S, S) likewise: photos beside those of the rows, only resized
    negative_source: Tensor | None = None  # (E,) int64, their rows in the bank
    views: ClassVar[int] = 2  # of each photo


class PhotoPairs(LightningDataModule):
    """Photos, decoded once and kept on the device; the loader gives rows, views are made after the transfer.

    Args:
        photos: folder of photos, or of .tar files with photos (see data.photo_bank)
        recipe: edits of the edited view: a name in experiments/augmentations or a YAML file
        reference_recipe: likewise of the reference; null = only resized
        hardness: how hard the edits are during the training
        batch_size: photos a step, of all devices together; each gives two views
        others: photos a step that are pasted into edits, and are not in the batch
        negatives: photos a step that are in neither, only resized: more negatives for the objective ContrastiveMemory
        known: shares of the photos that are drawn from, in equal parts of the steps: [0.25, 1] = a quarter of them, then all. The
            others are pasted only, until their turn comes
        side: side of the views in pixels; null = what the model takes
        bank_side: side in pixels at which photos are kept
        cache: folder of the decoded photos; null = decode each time
        held_out: share of the photos that validation uses, and training never sees
        held_out_batches: batches of them that the validation loss is measured on
        seed: of the split and of every draw
        past: steps of this seed that the weights which it begins from have seen: other draws than theirs
        ahead: make the views of the next steps in a process of its own, where the training runs on the CPU
        pictures: what `matcher predict` describes: a folder, a glob, a list file or a table
    """

    several_devices: ClassVar[bool] = True  # may processes share a step?
    whole_of_step: ClassVar[str] = "data.batch_size"  # what they share out
    least_held_out = 4  # photos: two that differ, and as many to be pasted
    bank: PhotoBank  # what is trained on, from setup on
    held_out: PhotoBank

    def __init__(
        self,
        photos: str,
        *,
        recipe: str = "benchmark",
        reference_recipe: str | None = None,
        hardness: Growth = Growth(),
        batch_size: int = 256,
        others: int = 128,
        negatives: int = 0,
        known: Sequence[float] = (1.0,),
        side: int | None = None,
        bank_side: int = 160,
        cache: str | None = None,
        held_out: float = 0.05,
        held_out_batches: int = 4,
        seed: int = 0,
        past: int = 0,
        ahead: bool = False,
        pictures: str | None = None,
    ) -> None:
        super().__init__()
        if past < 0:
            raise UsageError(f"data.past must be at least 0, not {past}")
        if batch_size < 2:
            raise UsageError(f"data.batch_size must be at least 2: the other photos are the negatives; it is {batch_size}")
        self.negatives, self.known_shares, self.ahead = negatives, tuple(known), ahead
        self.photos, self.recipe_name, self.reference_recipe_name = located(photos), recipe, reference_recipe
        self.hardness, self.batch_size, self.others, self.asked_side = hardness, batch_size, others, side
        self.bank_side, self.cache, self.seed, self.pictures = bank_side, located(cache), seed, located(pictures)
        self.held_out_share, self.held_out_batches, self.past = held_out, held_out_batches, past

    def setup(self, stage: str) -> None:
        """Decodes the photos (once) and puts them on the device; for `predict`, lists the pictures."""
        if self.trainer is not None and stage != "predict":
            self.check_devices(self.trainer.world_size)
        check_known(self.known_shares)
        if stage == "predict":
            self.images, self.unread = list_pictures(self.pictures)
        elif not hasattr(self, "bank"):
            self.check_held_out(count_photos(self.photos))
            with first_alone() if self.cache else nullcontext():
                bank = PhotoBank.load(Path(self.photos), side=self.bank_side, cache=Path(self.cache) if self.cache else None)
            train, held_out = bank.split(self.held_out_share, self.seed)
            if self.known_shares != (1.0,):
                train = train.take(torch.randperm(len(train), generator=torch.Generator().manual_seed(self.seed)))
            device = self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
            if self.ahead and (device.type != "cpu" or self.trainer.world_size > 1):
                raise UsageError("data.ahead is for a training in one process on the CPU: a GPU makes its views itself")
            self.recipe = Recipe.load(self.recipe_name)
            self.reference_recipe = Recipe.load(self.reference_recipe_name) if self.reference_recipe_name else None
            self.bank, self.held_out = train.to(device), held_out.to(device)

    def check_held_out(self, count: int) -> None:
        """How many photos there are -> MatcherError, before they are decoded, if those held out are too few to validate on."""
        if not count:
            raise MatcherError(f"{self.photos}: no photos there; give a folder of photos, or of .tar files with photos")
        held_out = round(self.held_out_share * count)
        if self.trainer is not None and self.trainer.limit_val_batches and held_out < self.least_held_out:
            raise MatcherError(
                f"{held_out} of the {count:,} photos of {self.photos} are held out, and validation needs {self.least_held_out}: "
                f"raise data.held_out, which is {self.held_out_share}, or give more photos"
            )

    def check_devices(self, count: int) -> None:
        """UsageError if so many devices cannot share a step."""
        if count > 1 and not self.several_devices:
            raise UsageError(f"{type(self).__name__} feeds one device: set trainer.devices and trainer.num_nodes to 1")
        if self.batch_size % count:
            what = self.whole_of_step
            raise UsageError(f"{what} {self.batch_size} cannot be shared by {count} devices: make it a multiple of {count}")

    @property
    def side(self) -> int:
        """Side of the views in pixels."""
        return self.asked_side or self.trainer.lightning_module.size

    def train_dataloader(self) -> DataLoader[Draw]:
        numbers = {"batch": self.batch_size, "others": self.others, "negatives": self.negatives, "seed": self.seed, "past": self.past}
        known = None if self.known_shares == (1.0,) else self.known_at
        draws = Draws(self.bank.weight, **numbers, first=lambda: self.trainer.global_step, known=known)
        return load_ahead(draws, self.make_step) if self.ahead else DataLoader(draws, batch_size=None)

    def known_at(self, step: int) -> int:
        """Step from 0 -> how many photos, from the first of the bank on, it may draw."""
        part = min(step * len(self.known_shares) // self.trainer.max_steps, len(self.known_shares) - 1)
        return max(1, round(self.known_shares[part] * len(self.bank)))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of the photos: how many, and their names."""
        names = "\n".join([*self.bank.ids, "", *self.held_out.ids])
        return {"photos": len(self.bank) + len(self.held_out), "names": hashlib.sha256(names.encode()).hexdigest()[:16]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """MatcherError if a training would go on with other photos: some of those held out might be some that it saw."""
        if self.trainer.state.fn == TrainerFn.FITTING and state_dict != (now := self.state_dict()):
            raise MatcherError(
                f"{self.photos} holds {now['photos']:,} photos that this training did not begin with ({state_dict['photos']:,} then): "
                "put the same back, or say --fresh"
            )

    def val_dataloader(self) -> DataLoader[Draw]:
        """The same batches of held-out photos each time, as hard as they get."""
        usable = int((self.held_out.weight > 0).sum())
        batch = min(self.batch_size, usable // 2)
        if batch < 2:
            raise MatcherError(f"{usable} held-out photos of {self.photos} are too few to validate on: raise data.held_out")
        others = min(self.others, usable - batch)
        draws = Draws(self.held_out.weight, batch=batch, others=others, seed=self.seed, stream=HELD_OUT, count=self.held_out_batches)
        return DataLoader(draws, batch_size=None)

    test_dataloader = val_dataloader

    def predict_dataloader(self) -> DataLoader[list[int]]:
        """Rows of the pictures, some at a time; several processes take turns."""
        return DataLoader(Rows(len(self.images)), batch_size=None)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Rows to the device; what was made ahead is on the CPU already."""
        return super().transfer_batch_to_device(batch, device, dataloader_idx) if isinstance(batch, Draw) else batch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """A draw -> both views of its photos, on the device. What is no draw stays as it is."""
        if not isinstance(batch, Draw):
            return batch
        if self.trainer.training:
            return self.make_step(batch, self.trainer.global_step)
        return self.make_pairs(self.held_out, batch, hardness=self.hardness.end)

    def make_step(self, draw: Draw, step: int) -> Any:
        """The draw of a training step -> its batch, as hard as it is by then."""
        return self.make_pairs(self.bank, draw, hardness=self.hardness.at(step / self.trainer.max_steps))

    def make_pairs(self, bank: PhotoBank, draw: Draw, *, hardness: float) -> PairBatch:
        """Rows of a bank -> their two views; the same seed gives the same views."""
        pixels, aspect = bank.pixels[draw.rows], bank.aspect[draw.rows]
        others = {"others": bank.pixels[draw.others], "other_aspect": bank.aspect[draw.others]}
        made = {"generator": torch.Generator().manual_seed(draw.seed), "side": self.side, "hardness": hardness, **others}
        edited = self.recipe(pixels, aspect, **made).pixels
        reference = self.reference_recipe(pixels, aspect, **made).pixels if self.reference_recipe else resize(pixels, self.side)
        if not len(draw.negatives):
            return PairBatch(reference, edited, draw.rows, draw.seed)
        return PairBatch(reference, edited, draw.rows, draw.seed, resize(bank.pixels[draw.negatives], self.side), draw.negatives)


class Rows(IterableDataset[list[int]]):
    """Numbers of pictures, some at a time: of several processes, each has its own, and none has any twice."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[list[int]]:
        rank, world = process()
        rows = range(self.count)
        for start in rows[rank * PICTURES_A_BATCH :: world * PICTURES_A_BATCH]:
            yield list(rows[start : start + PICTURES_A_BATCH])


def check_known(shares: Sequence[float]) -> None:
    """UsageError if these are no shares that grow."""
    if not shares or list(shares) != sorted(shares) or not 0 < shares[0] <= shares[-1] <= 1:
        raise UsageError(f"data.known must be shares above 0 that grow, to 1 at most; it is {list(shares)}")


def resize(pixels: Tensor, side: int) -> Tensor:
    """Squares (B, 3, P, P) uint8 -> (B, 3, side, side) float32, 0 to 1."""
    scaled = pixels.float() / 255
    if pixels.shape[-1] == side:
        return scaled
    return interpolate(scaled, size=(side, side), mode="bilinear", antialias=True).clamp(0, 1)


def list_pictures(place: str | None) -> tuple[ImageSet, Errors]:
    """PATH of pictures -> the list of them, and those that cannot be used. UsageError without a PATH."""
    if place is None:
        raise UsageError("say which pictures to describe: --data.pictures PATH")
    return read_images(place, "pictures")
