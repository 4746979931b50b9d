"""Both pictures on one canvas, and one ViT over it: the pair model of "separate" (Jeon 2021, second in the matching track of DISC21)."""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from matcher.errors import UsageError
from matcher.models.backbones import Backbone, rebuild_backbone
from matcher.models.pair_model import Cached, Judgement, PairModel, read_verdict
from matcher.models.tower import load_trunk

Canvas = Literal["square", "wide"]


class ConcatViT(PairModel):
    """Reference left, query right on one canvas; one logit from the class token.

    Args:
        backbone: a ViT of timm that takes pictures of size x size
        canvas: "square" = each picture squashed to half the width, as published; "wide" = each keeps size x size
        symmetric: mean of the logits of [reference | query] and [query | reference]
    """

    stored = np.uint8

    def __init__(self, backbone: Backbone, *, canvas: Canvas = "square", symmetric: bool = False) -> None:
        super().__init__()
        if canvas not in get_args(Canvas):
            raise UsageError(f"there is no canvas {canvas!r}; there are: {', '.join(get_args(Canvas))}")
        network: Any = backbone.network
        if not hasattr(network, "patch_embed") or not hasattr(network, "set_input_size"):
            raise UsageError(f"{backbone.name} is no ViT of timm that takes other canvases")
        if canvas == "wide":
            network.set_input_size(img_size=(backbone.size, 2 * backbone.size))
        self.backbone, self.canvas, self.symmetric = backbone, canvas, symmetric
        self.verdict = nn.Linear(backbone.dim, 1, bias=False)
        self.eval()

    @classmethod
    def build(
        cls,
        backbone: str,
        *,
        size: int | None = None,
        canvas: Canvas = "square",
        symmetric: bool = False,
        weights: bool = False,
        seed: int = 0,
    ) -> Self:
        """Name of a ViT -> a model to be trained, its random weights made from ``seed``."""
        trunk = load_trunk(backbone, size=size, weights=weights, seed=seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(trunk, canvas=canvas, symmetric=symmetric).requires_grad_(True).train()

    @classmethod
    def from_arguments(cls, *, canvas: Canvas, symmetric: bool, **backbone: Any) -> Self:
        """``arguments`` of a model -> the same one with random weights."""
        return cls(rebuild_backbone(**backbone), canvas=canvas, symmetric=symmetric)

    @property
    def arguments(self) -> dict[str, Any]:
        own = {"canvas": self.canvas, "symmetric": self.symmetric}
        return own | {"name": self.backbone.name, "config": self.backbone.config, **self.backbone.preprocessing}

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What it expects of views, and what it does to them itself (mean and std)."""
        return {**self.backbone.preprocessing, "pixels": "RGB in 0..1", "shape": "squashed to a square"}

    def encode(self, pictures: Tensor) -> Tensor:
        """Views (B, 3, size, size), 0 to 1 -> as they go on the canvas."""
        return avg_pool2d(pictures, (1, 2)) if self.canvas == "square" else pictures

    def pack(self, encoded: Tensor) -> Cached:
        return (encoded * 255).round().to(torch.uint8).cpu().numpy()

    def unpack(self, cached: Cached) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(cached)).float() / 255

    def judge(self, query: Tensor, reference: Tensor) -> Judgement:
        """Encoded views (P, 3, size, size / 2 or size) of both sides -> logits."""
        logit = self.look(reference, query)
        return Judgement((logit + self.look(query, reference)) / 2 if self.symmetric else logit)

    def look(self, left: Tensor, right: Tensor) -> Tensor:
        return read_verdict(self.verdict, self.backbone(torch.cat([left, right], dim=3)))
