"""Groups of photos that look alike, every one edited in the same way: the edit tells nothing, only the content does."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from matcher.data.photo_bank import PhotoBank
from matcher.describe import card_digest, weights_path
from matcher.errors import UsageError
from matcher.models.descriptor import Descriptor
from matcher.settings import DescriptorSettings
from matcher.training.devices import first_alone
from matcher.training.mining import Mining, mine, remember
from matcher.training.photo_pairs import PhotoPairs, resize
from matcher.training.sampling import Draw, step_seed
from matcher.training.schedule import Growth

NEIGHBOURS = 3  # stream of random numbers


@dataclass(frozen=True, eq=False)
class GroupBatch:
    """What a training step of a pair model sees, on all devices together. R photos, P pairs of an edited view and a reference."""

    reference: Tensor  # (R, 3, S, S) float32, 0 to 1
    edited: Tensor  # (R, 3, S, S) float32, 0 to 1
    frame: Tensor  # (R, 3, 3) float32, reference -> edited view, unit squares
    visible: Tensor  # (R, 1, S, S) bool, pixels of the edited view that show the reference
    pairs: Tensor  # (P, 2) int64, rows of edited and of reference
    label: Tensor  # (P,) float32, 1 where both show the same photo
    source: Tensor  # (R,) int64, row of the photo in the bank
    seed: int
    views: ClassVar[int] = 2  # of each photo


class PairGroups(PhotoPairs):
    """Groups of nearest neighbours that share their edit; after "separate" (Jeon 2021), with frames and masks of the edits.

    All pairs of a group are judged: the photo's own edited view is the positive, its neighbours' are hard negatives, which share
    background, template, sticker and text. The references of the next group are easy ones.

    Args:
        photos: folder of photos, or of .tar files with photos (see data.photo_bank)
        recipe: the edits: a name in experiments/augmentations or a YAML file
        hardness: how hard the edits are during the training
        groups: groups a step, of all devices together
        members: photos of a group
        mining: how neighbours are found
        others: photos a step that are pasted into edits, and are not in the batch
        side: side of the views in pixels; null = what the model takes
        bank_side: side in pixels at which photos are kept
        cache: folder of the decoded photos and of the neighbours; null = make them each time
        held_out: share of the photos that validation uses, and training never sees
        held_out_batches: batches of them that validation measures on
        seed: of the split and of every draw
        pairs: what `matcher predict` scores: CSV or Parquet with query_id and reference_id
        queries: its pictures: a folder, a glob, a list file or a table
        references: likewise
    """

    whole_of_step = "data.groups"

    def __init__(
        self,
        photos: str,
        *,
        recipe: str = "benchmark",
        hardness: Growth = Growth(),
        groups: int = 12,
        members: int = 4,
        mining: Mining = Mining(),
        others: int = 64,
        side: int | None = None,
        bank_side: int = 160,
        cache: str | None = None,
        held_out: float = 0.05,
        held_out_batches: int = 16,
        seed: int = 0,
        pairs: str | None = None,
        queries: str | None = None,
        references: str | None = None,
    ) -> None:
        if groups < 2 or members < 2:
            raise UsageError(f"a step needs two groups of two members at least, not {groups} of {members}")
        super().__init__(
            photos,
            recipe=recipe,
            hardness=hardness,
            batch_size=groups,
            others=others,
            side=side,
            bank_side=bank_side,
            cache=cache,
            held_out=held_out,
            held_out_batches=held_out_batches,
            seed=seed,
        )
        self.members, self.mining = members, mining
        self.least_held_out = max(self.least_held_out, members)
        self.pairs, self.queries, self.references = pairs, queries, references
        self.tables: dict[tuple[str, int], Tensor] = {}

    def setup(self, stage: str) -> None:
        """As PhotoPairs; `predict` scores files, at its end, and needs no photos."""
        if stage != "predict":
            return super().setup(stage)
        for name in ("pairs", "queries", "references"):
            if getattr(self, name) is None:
                raise UsageError(f"say what to score: --data.pairs FILE --data.queries PATH --data.references PATH ({name} is missing)")

    def predict_dataloader(self) -> DataLoader[list[int]]:
        """One empty batch: WritePairScores does the work."""
        return DataLoader([[0]], batch_size=None)

    def make_pairs(self, bank: PhotoBank, draw: Draw, *, hardness: float) -> GroupBatch:  # type: ignore[override]
        """Rows of a bank -> their groups, edited, and all pairs; the same seed gives the same ones."""
        generator = torch.Generator().manual_seed(draw.seed)
        rows = self.gather(bank, draw.rows, generator)
        pixels, device = bank.pixels[rows], bank.pixels.device
        made = self.recipe(
            pixels,
            bank.aspect[rows],
            generator=generator,
            side=self.side,
            hardness=hardness,
            others=bank.pixels[draw.others],
            other_aspect=bank.aspect[draw.others],
            shared=self.members,
        )
        pairs = pairs_of(len(draw.rows), self.members).to(device)
        source = rows.to(device)
        same = source[pairs[:, 0]] == source[pairs[:, 1]]
        pairs = pairs[(pairs[:, 0] == pairs[:, 1]) | ~same]  # a photo that two groups share is no stranger to itself
        label = (pairs[:, 0] == pairs[:, 1]).float()
        return GroupBatch(resize(pixels, self.side), made.pixels, made.frame, made.visible, pairs, label, source, draw.seed)

    def gather(self, bank: PhotoBank, anchors: Tensor, generator: torch.Generator) -> Tensor:
        """Anchors (G,) -> rows of their groups, members side by side, the anchor first: (G * members,)."""
        near = self.neighbours(bank)[anchors.cpu()]
        chosen = torch.rand(near.shape, generator=generator).argsort(dim=1)[:, : self.members - 1]
        if chosen.shape[1] < self.members - 1:
            raise UsageError(f"data.members {self.members} is more than the photos that can be a group: {near.shape[1] + 1}")
        return torch.cat([anchors.cpu()[:, None], near.gather(1, chosen)], dim=1).flatten()

    def neighbours(self, bank: PhotoBank) -> Tensor:
        """The nearest photos of each photo of a bank (N, K), as they are found at this step."""
        refresh = self.mining.refresh if bank is self.bank else 0
        turn = self.trainer.global_step // refresh if refresh and self.trainer is not None else 0
        name = ("training" if bank is self.bank else "held out", turn)
        if name not in self.tables:
            made_of = {
                "photos": bank.digest,
                "mining": self.mining,
                "by": card_digest(weights_path(self.mining.descriptor, "descriptor")),
                "turn": turn,
            }
            made_of |= {"recipe": str(self.recipe), "hardness": str(self.hardness), "seed": self.seed} if turn else {}
            cache = Path(self.cache) if self.cache else None
            self.tables = {key: table for key, table in self.tables.items() if key[0] != name[0]}
            with first_alone() if cache else nullcontext():
                self.tables[name] = remember(lambda: self.mine(bank, turn), cache, **made_of)
        return self.tables[name]

    def mine(self, bank: PhotoBank, turn: int) -> Tensor:
        """Neighbours among the photos of a bank: as they are at first, and later (``turn`` > 0) as new edits leave them."""
        model = Descriptor.from_settings(DescriptorSettings(backbone=self.mining.descriptor)).to(bank.pixels.device)
        generator = torch.Generator().manual_seed(step_seed(self.seed, NEIGHBOURS, turn))
        hardness = self.hardness.at(min(1.0, turn * self.mining.refresh / max(1, self.trainer.max_steps))) if turn else 0.0

        def pictures(rows: Tensor) -> Tensor:
            pixels, aspect = bank.pixels[rows], bank.aspect[rows]
            if not turn:
                return pixels.float() / 255
            made = {"generator": generator, "side": model.size, "hardness": hardness}
            return self.recipe(pixels, aspect, others=bank.pixels[:64], other_aspect=bank.aspect[:64], **made).pixels

        return mine(pictures, len(bank), model, nearest=self.mining.nearest, same=self.mining.same).cpu()


def pairs_of(groups: int, members: int) -> Tensor:
    """All pairs (edited, reference) within each group, and each edited view with one reference of the next group: (P, 2)."""
    count = groups * members
    rows = torch.arange(count).view(groups, members)
    within = torch.stack([rows[:, :, None].expand(-1, -1, members), rows[:, None, :].expand(-1, members, -1)], dim=-1).reshape(-1, 2)
    across = torch.stack([torch.arange(count), (torch.arange(count) + members) % count], dim=1)
    return torch.cat([within, across])
