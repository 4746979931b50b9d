"""The first blocks of an image network: pictures -> a grid of tokens, which a pair model compares."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from matcher.errors import MatcherError, UsageError
from matcher.models.backbones import Backbone, first_line, load_backbone
from matcher.models.cards import find_checkpoint
from matcher.settings import DescriptorSettings


class Tower(nn.Module):
    """Pictures (B, 3, size, size), float RGB in 0..1 -> tokens (B, grid * grid, channels), row by row.

    Args:
        backbone: any network of timm that shows its intermediate features; it is cut where the tower ends
        depth: blocks of a ViT, or stages of a convolutional network, that the tower has

    Attributes:
        rest: the later blocks of a ViT; empty for other networks
    """

    def __init__(self, backbone: Backbone, *, depth: int) -> None:
        super().__init__()
        network: Any = backbone.network
        if not hasattr(network, "forward_intermediates") or not hasattr(network, "prune_intermediate_layers"):
            raise UsageError(f"{backbone.name} does not show its intermediate features: take another network of timm for a tower")
        is_vit = hasattr(network, "patch_embed") and isinstance(getattr(network, "blocks", None), nn.Sequential)
        count = len(network.blocks) if is_vit else len(network.feature_info)
        if not 1 <= depth <= count:
            raise UsageError(f"a tower of {backbone.name} has 1 to {count} {'blocks' if is_vit else 'stages'}, not {depth}")
        self.rest = [copy.deepcopy(block) for block in network.blocks[depth:]] if is_vit else []
        try:
            network.prune_intermediate_layers([depth - 1], prune_norm=True, prune_head=True)
        except (AssertionError, ValueError, TypeError) as error:
            raise MatcherError(f"{backbone.name} cannot be cut: {first_line(error)}") from error
        self.backbone, self.depth, self.place = backbone, depth, depth - 1
        with torch.inference_mode():
            _, self.channels, self.grid, across = self.eval().maps(torch.zeros(1, 3, backbone.size, backbone.size)).shape
        if across != self.grid:
            raise MatcherError(f"{backbone.name} gives no square grid")

    @property
    def size(self) -> int:
        """Side in pixels of the square pictures that it takes."""
        return self.backbone.size

    def maps(self, pictures: Tensor) -> Tensor:
        """Pictures as above -> (B, channels, grid, grid)."""
        pictures = (pictures - self.backbone.mean) / self.backbone.std
        network: Any = self.backbone.network
        maps: Tensor = network.forward_intermediates(pictures, indices=[self.place], stop_early=True, intermediates_only=True)[0]
        return maps if getattr(network, "output_fmt", "NCHW") == "NCHW" else maps.permute(0, 3, 1, 2)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.maps(pictures).flatten(2).transpose(1, 2)


def load_trunk(name: str, *, size: int | None, weights: bool, seed: int) -> Backbone:
    """What a descriptor's ``backbone`` may be -> the network in it: of a descriptor's checkpoint its trunk."""
    if find_checkpoint(name) is None:
        return load_backbone(DescriptorSettings(backbone=name, size=size, weights=weights, seed=seed))
    from matcher.models.backbones import rebuild_backbone
    from matcher.models.descriptor import Descriptor

    trained = Descriptor.from_settings(DescriptorSettings(backbone=name)).backbone
    preprocessing = trained.preprocessing | {"size": size or trained.size}
    trunk = rebuild_backbone(trained.name, config=trained.config, **preprocessing)
    trunk.network.load_state_dict(trained.network.state_dict(), strict=False)
    return trunk
