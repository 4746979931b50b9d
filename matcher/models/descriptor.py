"""A global descriptor: pictures of one size -> unit vectors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from matcher.errors import UsageError
from matcher.models import checkpoint
from matcher.models.backbones import Backbone, load_backbone, rebuild_backbone
from matcher.models.cards import find_checkpoint
from matcher.models.heads import make_head
from matcher.models.pooling import Pooling
from matcher.models.pretrained import Publishable
from matcher.settings import DescriptorSettings


class Descriptor(Publishable, nn.Module):
    """Pictures (B, 3, size, size), float RGB in 0..1 -> (B, dim) on the unit sphere.

    Args:
        backbone: where the features come from
        pooling: "backbone" (as the network itself pools), "cls" (class token), "mean", "gem" (generalised) or "gem3" (its power stays 3)
        dim: numbers in a descriptor, by a linear map and batch norm after pooling; null = the pooled features as they are
        neck: numbers of a wide layer between pooling and descriptor (see ``make_head``); null = none. UsageError without a ``dim``
    """

    def __init__(self, backbone: Backbone, *, pooling: str = "backbone", dim: int | None = None, neck: int | None = None) -> None:
        super().__init__()
        if neck is not None and dim is None:
            raise UsageError(f"a neck of {neck} numbers leads to a descriptor: say its dim too")
        self.backbone = backbone
        width = backbone.dim if pooling == "backbone" else backbone.read_tokens()
        self.width = width
        self.pooling = None if pooling == "backbone" else Pooling(pooling, prefix=backbone.prefix, has_class=backbone.has_class)
        self.head = None if dim is None else make_head(width, dim, neck)
        self.neck, self.dim = neck, width if dim is None else dim
        self.to(memory_format=torch.channels_last)  # convolutions run a third faster so, on CPUs and GPUs
        self.eval()

    @classmethod
    def from_settings(cls, settings: DescriptorSettings) -> Self:
        """Settings -> descriptor in eval mode, on the CPU; errors as in ``load_backbone`` and ``checkpoint.load``.

        UsageError if the backbone is a checkpoint and another setting contradicts it.
        """
        (name,) = settings.members
        path = find_checkpoint(name)
        if path is None:
            return cls(load_backbone(settings))
        model = checkpoint.load(path, kind=cls.__name__)
        assert isinstance(model, cls)
        refuse_contradictions(settings, model.size)
        return model

    @classmethod
    def build(
        cls,
        backbone: str,
        *,
        size: int | None = None,
        dim: int | None = 256,
        neck: int | None = None,
        pooling: str = "mean",
        weights: bool = False,
        seed: int = 0,
    ) -> Self:
        """Name of a backbone -> a descriptor to be trained: in training mode, with gradients, its random weights made from ``seed``.

        ``size`` in pixels, null = what the backbone asks for; ``weights``: start from the backbone's trained ones.
        """
        features = load_backbone(DescriptorSettings(backbone=backbone, weights=weights, seed=seed, size=size))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(features, pooling=pooling, dim=dim, neck=neck).requires_grad_(True).train()

    @classmethod
    def from_arguments(cls, *, pooling: str, dim: int | None, neck: int | None = None, **backbone: Any) -> Self:
        """``arguments`` of a descriptor -> the same one with random weights."""
        return cls(rebuild_backbone(**backbone), pooling=pooling, dim=dim, neck=neck)

    def at_size(self, size: int) -> Self:
        """The same descriptor for larger or smaller pictures; a convolutional one gains from some more pixels than in training
        (Touvron et al. 2019, "Fixing the train-test resolution discrepancy"). UsageError if its weights belong to a size.
        """
        other = type(self).from_arguments(**{**self.arguments, "size": size})
        try:
            other.load_state_dict(self.state_dict())
        except RuntimeError as error:
            raise UsageError(f"this descriptor is for pictures of {self.size} pixels, not {size}: its positions are weights") from error
        other.card = self.card
        return other.eval()

    @property
    def size(self) -> int:
        """Side in pixels of the square pictures that it takes."""
        return self.backbone.size

    @property
    def arguments(self) -> dict[str, Any]:
        """What makes it again, without its weights: see ``from_arguments``."""
        pooling = "backbone" if self.pooling is None else self.pooling.kind
        dim = None if self.head is None else self.dim
        head = {"dim": dim} if self.neck is None else {"dim": dim, "neck": self.neck}
        return {"pooling": pooling, **head, "name": self.backbone.name, "config": self.backbone.config, **self.backbone.preprocessing}

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What it expects of pictures, and what it does to them itself (mean and std)."""
        return {**self.backbone.preprocessing, "pixels": "RGB in 0..1", "shape": "squashed to a square"}

    @torch.inference_mode()
    def describe(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pictures (B, size, size, 3) uint8 RGB -> unit vectors (B, dim) float32, computed in eval mode where the model lies."""
        if not len(pixels):
            return np.empty((0, self.dim), dtype=np.float32)
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (self.size, self.size, 3):
            told = f"{pixels.dtype} {pixels.shape}"
            raise ValueError(f"pictures must be uint8 of shape (rows, {self.size}, {self.size}, 3), got {told}")
        batch = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.backbone.mean.device)
        with evaluating(self):
            return self(batch.permute(0, 3, 1, 2).float().div_(255)).float().cpu().numpy()

    def pool(self, batch: Tensor) -> Tensor:
        """Pictures as above -> pooled rows (B, width)."""
        return self.backbone(batch) if self.pooling is None else self.pooling(self.backbone.tokens(batch))

    def forward(self, batch: Tensor) -> Tensor:
        pooled = self.pool(batch)
        z = (pooled if self.head is None else self.head(pooled)).float()
        return F.normalize(z, dim=-1)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode within the block; each module has its own mode back after it."""
    training = [module for module in model.modules() if module.training]
    if training:
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def refuse_contradictions(settings: DescriptorSettings, size: int) -> None:
    """UsageError if settings ask of a checkpoint what it is not."""
    if not settings.weights:
        raise UsageError(f"backbone {settings.backbone} is a checkpoint: weights: false contradicts it")
    if settings.seed:
        raise UsageError(f"backbone {settings.backbone} is a checkpoint: seed {settings.seed} is for random weights, leave it out")
    if settings.size not in (None, size):
        raise UsageError(f"backbone {settings.backbone} is a checkpoint for pictures of {size} pixels: size {settings.size} contradicts it")
