"""Two towers and a few joint blocks: a view's tokens are made once, and a pair costs only the joint blocks.

After the idea of CopyNCE (ICCV 2025) that the pictures of a pair should meet as tokens, not as pixels.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from matcher.errors import UsageError
from matcher.models.backbones import Backbone, rebuild_backbone
from matcher.models.pair_model import Cached, Judgement, PairModel, read_verdict
from matcher.models.tower import Tower, load_tower


class TokenFusion(PairModel):
    """Two views -> evidence that the query shows a part of the reference, and where each patch of either lies in the other.

    Args:
        tower: shared by both sides
        width: numbers in a token of the joint blocks; null = as many as the tower's channels
        joint: joint blocks; null = those of the ViT that the tower left over, with their weights
        heads: of each joint block's attention; the ViT's own blocks keep theirs
    """

    stored = np.uint16  # bfloat16, bit by bit: numpy has no such type

    def __init__(self, tower: Tower, *, width: int | None, joint: int | None, heads: int) -> None:
        super().__init__()
        from timm.models.vision_transformer import Block

        self.width = width or tower.channels
        if joint is None and (not tower.rest or self.width != tower.channels):
            raise UsageError("joint: null takes the ViT's own last blocks: the tower must leave some, and width must be null")
        if joint is not None and (joint < 1 or heads < 1 or self.width < 1 or self.width % heads):
            raise UsageError(f"no joint blocks can be made: {joint} of width {self.width} with {heads} heads; heads must divide the width")
        blocks = tower.rest if joint is None else [mimic(Block(self.width, heads, qkv_bias=True)) for _ in range(joint)]
        tower.rest = []  # taken, or not needed
        self.tower, self.joint, self.heads = tower, joint, heads
        self.project = nn.Sequential(nn.LayerNorm(tower.channels), nn.Linear(tower.channels, self.width))
        self.places = nn.Parameter(0.02 * torch.randn(1, tower.grid**2, self.width))
        self.sides = nn.Parameter(0.02 * torch.randn(2, 1, 1, self.width))  # copying has a direction
        self.pair = nn.Parameter(0.02 * torch.randn(1, 1, self.width))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(self.width)
        self.meet = nn.Linear(self.width, self.width, bias=False)
        self.nowhere = nn.Linear(self.width, 1)
        self.verdict = nn.Linear(self.width + 4, 1)
        self.eval()

    @classmethod
    def build(
        cls,
        backbone: str,
        *,
        depth: int,
        size: int | None = None,
        width: int | None = None,
        joint: int | None = None,
        heads: int = 3,
        weights: bool = False,
        seed: int = 0,
    ) -> Self:
        """Name of a backbone (or of a descriptor's checkpoint) -> a model to be trained, its random weights made from ``seed``."""
        tower = load_tower(backbone, depth=depth, size=size, weights=weights, seed=seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(tower, width=width, joint=joint, heads=heads).requires_grad_(True).train()

    @classmethod
    def from_arguments(cls, *, depth: int, width: int, joint: int | None, heads: int, **backbone: Any) -> Self:
        """``arguments`` of a model -> the same one with random weights."""
        return cls(Tower(rebuild_backbone(**backbone), depth=depth), width=width, joint=joint, heads=heads)

    @property
    def arguments(self) -> dict[str, Any]:
        trunk = self.tower.backbone
        own = {"depth": self.tower.depth, "width": self.width, "joint": self.joint, "heads": self.heads}
        return own | {"name": trunk.name, "config": trunk.config, **trunk.preprocessing}

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What it expects of views, and what it does to them itself (mean and std)."""
        return {**self.tower.backbone.preprocessing, "pixels": "RGB in 0..1", "shape": "squashed to a square"}

    @property
    def backbone(self) -> Backbone:  # type: ignore[override]
        """What the tower is made of."""
        return self.tower.backbone

    @property
    def grid(self) -> int:
        """Patches a side."""
        return self.tower.grid

    def encode(self, pictures: Tensor) -> Tensor:
        """Views (B, 3, size, size), 0 to 1 -> tokens (B, T, width)."""
        return self.project(self.tower(pictures)) + self.places

    def pack(self, encoded: Tensor) -> Cached:
        return encoded.bfloat16().cpu().contiguous().view(torch.int16).numpy().view(np.uint16)

    def unpack(self, cached: Cached) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(cached).view(np.int16)).view(torch.bfloat16).to(self.pair.dtype)

    def judge(self, query: Tensor, reference: Tensor) -> Judgement:
        """Tokens (P, T, width) of both sides -> logits, and where patches lie."""
        count = query.shape[1]
        sides = self.sides.to(query.dtype)
        tokens = torch.cat([self.pair.expand(len(query), -1, -1).to(query.dtype), query + sides[0], reference + sides[1]], dim=1)
        tokens = self.norm(self.blocks(tokens))
        pair, first, second = tokens[:, 0], tokens[:, 1 : 1 + count], tokens[:, 1 + count :]
        alike = (self.meet(first) @ self.meet(second).mT).float() / self.width**0.5
        to_reference = torch.cat([alike, read_verdict(self.nowhere, first)[..., None]], dim=2)
        to_query = torch.cat([alike.mT, read_verdict(self.nowhere, second)[..., None]], dim=2)
        logit = read_verdict(self.verdict, torch.cat([pair.float(), summary(to_reference, to_query)], dim=1))
        return Judgement(logit, to_reference, to_query)


def summary(to_reference: Tensor, to_query: Tensor) -> Tensor:
    """Where patches lie, logits (P, T, T + 1) each -> (P, 4): how much of each is found, how much there and back, how surely."""
    there, back = to_reference.softmax(-1), to_query.softmax(-1)
    both_ways = there[..., :-1] * back[..., :-1].mT
    cycle = both_ways.sum(2)
    return torch.stack([1 - there[..., -1].mean(1), 1 - back[..., -1].mean(1), cycle.mean(1), both_ways.amax((1, 2))], dim=1)


@torch.no_grad()
def mimic(block: Any) -> Any:
    """A fresh block whose attention begins by likeness: keys are queries (after mimetic initialisation, Trockman and Kolter 2023)."""
    width = block.attn.qkv.weight.shape[1]
    block.attn.qkv.weight[width : 2 * width] = block.attn.qkv.weight[:width]
    return block
