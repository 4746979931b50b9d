"""What is attacked: a model, the references that it compares with, and from which score on it says "copy"."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from matcher.models.cards import find_checkpoint, find_model
from matcher.models.checkpoint import load
from matcher.scoring.pair_model import ROOMS

Target = Literal["descriptor", "pair model"]
FALSE_ALARMS = 0.001  # share of strangers' pairs that a model calls copies before anybody attacks it


@dataclass(frozen=True, eq=False)
class Attacked:
    """A model that has seen its references: row n of pictures is compared with row n of them."""

    name: Target
    model: Any
    references: Tensor  # (N, ...) as the model keeps them
    threshold: float = 0.0

    def __call__(self, pictures: list[Tensor]) -> Tensor:
        """N pictures, each (3, H, W), 0 to 1 -> how much of a copy the model thinks each is (N,)."""
        return self.compare(self.encode(pictures), self.references)

    def encode(self, pictures: list[Tensor]) -> Tensor:
        batch = torch.cat([squash(picture, self.model.size) for picture in pictures])
        return self.model(batch) if self.name == "descriptor" else self.model.encode(batch)

    def compare(self, query: Tensor, reference: Tensor) -> Tensor:
        return (query * reference).sum(-1) if self.name == "descriptor" else self.model.judge(query, reference).logit

    @torch.no_grad()
    def all_pairs(self, pictures: list[Tensor]) -> Tensor:
        """Q pictures -> their scores with all N references (Q, N)."""
        encoded = self.encode(pictures)
        return torch.stack([self.compare(one.expand_as(self.references), self.references) for one in encoded])


def squash(picture: Tensor, side: int) -> Tensor:
    """(3, H, W) -> (1, 3, side, side), as the pipeline shows a whole picture to a model: an area filter."""
    return interpolate(picture[None], size=(side, side), mode="bilinear", antialias=True, align_corners=False)


@torch.no_grad()
def aim(name: Target, pictures: list[Tensor], references: list[Tensor]) -> Attacked:
    """N copies, then N strangers, and the N references of the copies -> the target. A stranger is compared with a reference too.

    The threshold is passed by one in a thousand of the pairs of a picture and a reference that it is no copy of.
    """
    path = find_checkpoint("copydetect") if name == "descriptor" else find_model("token_fusion/copydetect", ROOMS)
    assert path is not None
    blind = Attacked(name, load(path), torch.empty(0))
    encoded = blind.encode(references)
    scores = replace(blind, references=encoded).all_pairs(pictures)
    strangers = torch.ones_like(scores, dtype=torch.bool).fill_diagonal_(False)  # row n < N is the copy of reference n
    return replace(blind, references=torch.cat([encoded, encoded]), threshold=float(scores[strangers].quantile(1 - FALSE_ALARMS)))
