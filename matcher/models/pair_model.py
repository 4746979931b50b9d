"""What every model that judges pairs has in common: views are encoded once, and any two encoded views are judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from matcher.models.backbones import Backbone
from matcher.models.descriptor import evaluating
from matcher.models.pretrained import Publishable

Cached = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Judgement:
    """What a model says of pairs of views. T patches a view, row by row; letters P pairs.

    Attributes:
        logit: (P,) evidence that the query shows a part of the reference
        to_reference: (P, T, T + 1) logits: where in the reference each patch of the query lies; the last one: nowhere. None: not told
        to_query: (P, T, T + 1) likewise for each patch of the reference
    """

    logit: Tensor
    to_reference: Tensor | None = None
    to_query: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Verdict:
    """A judgement in numpy: logits (P,), and probabilities (P, T, T + 1) float32 or None."""

    logit: NDArray[np.float32]
    to_reference: NDArray[np.float32] | None
    to_query: NDArray[np.float32] | None


class PairModel(Publishable, nn.Module, ABC):
    """Judges pairs of views. Subclasses say what is kept of a view, and how two of them are judged.

    Attributes:
        backbone: the network that looks at them
        stored: numpy type of what is kept of a view
        precision: torch type in which ``judge_views`` multiplies; sums, norms and the logit are float32
    """

    backbone: Backbone
    stored: ClassVar[type]
    precision: torch.dtype = torch.float32

    @property
    def size(self) -> int:
        """Side in pixels of the square views that it takes."""
        return self.backbone.size

    @abstractmethod
    def encode(self, pictures: Tensor) -> Tensor:
        """Views (B, 3, size, size), float RGB in 0..1 -> what is kept of them (B, ...)."""

    @abstractmethod
    def judge(self, query: Tensor, reference: Tensor) -> Judgement:
        """Encoded views (P, ...) of both sides, row by row -> what is said of each pair."""

    @abstractmethod
    def pack(self, encoded: Tensor) -> Cached:
        """Encoded views -> as they lie in a cache."""

    @abstractmethod
    def unpack(self, cached: Cached) -> Tensor:
        """What ``pack`` made -> encoded views."""

    def forward(self, query: Tensor, reference: Tensor) -> Tensor:
        """Views (P, 3, size, size) of both sides -> logits (P,)."""
        return self.judge(self.encode(query), self.encode(reference)).logit

    @torch.inference_mode()
    def encode_views(self, pixels: NDArray[np.uint8]) -> Cached:
        """Views (B, size, size, 3) uint8 RGB -> what is kept of them, in a cache's type; computed in eval mode where the model lies."""
        batch = torch.from_numpy(np.ascontiguousarray(at_least_one(pixels))).to(self.device)
        with evaluating(self):
            return self.pack(self.encode(batch.permute(0, 3, 1, 2).float().div_(255)))[: len(pixels)]

    @torch.inference_mode()
    def judge_views(self, query: Cached, reference: Cached) -> Verdict:
        """What ``encode_views`` gave of both sides (P, ...) -> the verdict on each pair."""
        sides = [self.unpack(at_least_one(side)).to(self.device) for side in (query, reference)]
        less = self.precision != torch.float32
        with evaluating(self), torch.autocast(self.device.type, self.precision if less else None, enabled=less):
            said = self.judge(*sides)
        told = (None if one is None else one.float().softmax(-1).cpu().numpy()[: len(query)] for one in (said.to_reference, said.to_query))
        return Verdict(said.logit.float().cpu().numpy()[: len(query)], *told)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """What makes it again, without its weights."""


def read_verdict(layer: nn.Linear, rows: Tensor) -> Tensor:
    """A layer with one output and what it reads (..., N) -> (...) in float32, whatever the precision before: rounded ones would tie.

    Not as a product of matrices: with one column some libraries (MKL on AMD) sum the last rows of a batch in another order.
    """
    with torch.autocast(rows.device.type, enabled=False):
        return (rows.float() * layer.weight.float()[0]).sum(-1) + (0.0 if layer.bias is None else layer.bias.float())


def at_least_one(rows: NDArray[Any]) -> NDArray[Any]:
    """Rows (N, ...) -> the same; a row of zeros if there are none, which networks of timm cannot take."""
    return rows if len(rows) else np.zeros((1, *rows.shape[1:]), rows.dtype)
